"use strict";
// "/" goes to the search field of any page. On the page of search, what is typed is looked up in the index:
// a script beside this one, since a page that was opened from a disk may not fetch a file.
(() => {
  const MOST = 100;
  const field = document.getElementById("find");
  const list = document.getElementById("found");

  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.isContentEditable;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
  if (!list) return;

  const told = document.getElementById("told");
  const base = list.dataset.index.slice(0, -"assets/search-index.js".length);
  let entries = [];

  // The better a place, the lower: the name itself, its beginning, within it, then the words besides.
  const place = ([, name, words], wanted) => {
    const text = name.toLowerCase();
    let worst = 0;
    for (const word of wanted) {
      const at = text.indexOf(word);
      if (at < 0 && !words.toLowerCase().includes(word)) return -1;
      worst = Math.max(worst, text === word ? 0 : at === 0 ? 1 : at > 0 ? 2 : 3);
    }
    return worst;
  };

  const shown = ([kind, name, words, path]) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = base + path;
    link.textContent = name;
    const what = document.createElement("span");
    what.className = "quiet";
    what.textContent = words ? `${kind} · ${words}` : kind;
    item.append(link, " ", what);
    return item;
  };

  const look = () => {
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = wanted.length
      ? entries.map((entry) => [place(entry, wanted), entry]).filter(([at]) => at >= 0).sort((a, b) => a[0] - b[0])
      : [];
    list.replaceChildren(...found.slice(0, MOST).map(([, entry]) => shown(entry)));
    const more = found.length > MOST ? `, the first ${MOST} of them here` : "";
    told.textContent = wanted.length ? `${found.length || "Nothing"} found${more}.` : "";
  };

  const script = document.createElement("script");
  script.src = list.dataset.index;
  script.onload = () => {
    entries = window.embregIndex;
    look();
  };
  script.onerror = () => {
    told.textContent = "The index of this site cannot be read.";
  };
  document.head.append(script);

  field.value = new URLSearchParams(location.search).get("q") ?? "";
  field.addEventListener("input", () => {
    look();
    const query = field.value ? `?q=${encodeURIComponent(field.value)}` : location.pathname;
    history.replaceState(null, "", query);
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.focus();
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: "nextElementSibling", ArrowUp: "previousElementSibling" }[event.key];
    if (!step) return;
    event.preventDefault();
    (event.target.closest("li")?.[step]?.querySelector("a") ?? field).focus();
  });
  field.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      list.querySelector("a")?.focus();
    }
  });
  field.focus();
})();
