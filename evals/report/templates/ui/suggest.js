"use strict";
// Suggests ids of the chosen version that begin like what is typed. Without it the form works all the same.
for (const input of document.querySelectorAll("input[list]")) {
  const form = input.form;
  let waiting = 0;
  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(async () => {
      const typed = input.value;
      const query = new URLSearchParams({ ref: form.elements.ref.value, prefix: typed });
      const answer = await fetch(`${form.dataset.suggestions}?${query}`).catch(() => null);
      if (!answer || !answer.ok || input.value !== typed) return;
      const options = (await answer.json()).ids.map((id) => Object.assign(document.createElement("option"), { value: id }));
      input.list.replaceChildren(...options);
    }, 150);
  });
}
