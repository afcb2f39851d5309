"use strict";
// The plots: drawn when they come into view, in the page's present colours, and again when these change.
(() => {
  const root = document.documentElement;
  const figures = page.read("figures"), PAPER = 680;  // pixels: A4 or Letter within usual margins
  let widest = Infinity;

  // "var(--name)" in a figure becomes the page's present colour.
  const resolve = (value, style) => {
    if (typeof value === "string") {
      const found = /^var\((--[a-z0-9-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) {
      const numbers = typeof value[0] === "number" && typeof value.at(-1) === "number";  // nothing to look for
      return numbers ? value : value.map((each) => resolve(each, style));
    }
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each, style)]));
    return value;
  };
  page.draw = (place, figure) => {
    const { data, layout } = resolve(figure, getComputedStyle(root));
    layout.width = Math.min(place.clientWidth, widest) || undefined;
    if (place.clientWidth) Plotly.react(place, data, layout, { displayModeBar: false, scrollZoom: false, doubleClick: false });
  };
  const places = [...document.querySelectorAll("[data-figure]")], drawn = new Set();
  const draw = (place) => { drawn.add(place); page.draw(place, figures[place.dataset.figure]); };
  const again = () => { for (const place of drawn) draw(place); };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "300px" });
  for (const place of places) seen.observe(place);

  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(again, 120);
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", again);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    again();
  });
  // Paper has everything opened, is white and narrower than most screens; afterwards all is as it was.
  let restore = () => {};
  addEventListener("beforeprint", () => {
    const shut = [...document.querySelectorAll("details:not([open])")];
    const hidden = [...document.querySelectorAll("[data-panel][hidden]")], theme = root.dataset.theme;
    for (const each of shut) each.open = true;
    for (const each of hidden) each.hidden = false;
    root.dataset.theme = "light";
    widest = PAPER;
    for (const place of places) draw(place);
    restore = () => {
      for (const each of shut) each.open = false;
      for (const each of hidden) each.hidden = true;
      if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
      widest = Infinity;
      again();
      restore = () => {};
    };
  });
  addEventListener("afterprint", () => restore());

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show]");
    if (!button) return;
    for (const each of button.parentElement.children) each.setAttribute("aria-pressed", String(each === button));
    for (const panel of document.querySelectorAll("[data-panel]")) {
      panel.hidden = panel.dataset.panel !== button.dataset.show;
      const place = panel.querySelector("[data-figure]");
      if (!panel.hidden && place) draw(place);
    }
  });
  root.dataset.ready = "";
})();
