"use strict";
// Draws every <figure data-chart> of the page from the specification that stands in it.
// Vega's interpreter evaluates its expressions, so the page may forbid eval.
(async () => {
  for (const figure of document.querySelectorAll("figure[data-chart]")) {
    const place = figure.querySelector(".chart");
    const spec = JSON.parse(figure.querySelector('script[type="application/json"]').textContent);
    try {
      await vegaEmbed(place, spec, { ast: true, actions: false, renderer: "svg" });
      // What it shows is said by the element around it.
      place.querySelector("svg").setAttribute("aria-hidden", "true");
      place.dataset.drawn = "";
    } catch (error) {
      place.textContent = "This picture cannot be drawn; its data is in the table below.";
      console.error(error);
    }
  }
  document.documentElement.dataset.drawn = "";
})();
