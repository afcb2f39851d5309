"use strict";
// The plots: drawn when they come into view, in the page's present colours, and again when these change.
(() => {
  const root = document.documentElement;
  const figures = page.read("figures");

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
    layout.width = place.clientWidth || undefined;
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
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    for (const each of document.querySelectorAll("[data-panel]")) each.hidden = false;
    for (const place of places) draw(place);
  });
  addEventListener("afterprint", again);

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
