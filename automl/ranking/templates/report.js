"use strict";
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);

  // "var(--name)" in a figure becomes the page's present colour.
  const resolve = (value, style) => {
    if (typeof value === "string") {
      const found = /^var\((--[a-z0-9-]+)\)$/.exec(value);
      return found ? style.getPropertyValue(found[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => resolve(each, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, resolve(each, style)]));
    return value;
  };
  const draw = () => {
    if (!window.Plotly) return;
    const style = getComputedStyle(root);
    for (const place of document.querySelectorAll("[data-figure]")) {
      const { data, layout } = resolve(figures[place.dataset.figure], style);
      layout.width = place.clientWidth || undefined;
      Plotly.react(place, data, layout, { displayModeBar: false, scrollZoom: false, doubleClick: false });
    }
  };
  draw();

  let width = innerWidth, waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme || (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    draw();
  });
  addEventListener("beforeprint", () => {
    for (const each of document.querySelectorAll("details")) each.open = true;
    draw();
  });
  addEventListener("afterprint", draw);

  const board = document.getElementById("board");
  if (board) {
    const text = new Set(["backbone"]);
    board.tHead.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      const head = button.parentElement, key = button.dataset.sort;
      const before = head.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : button.dataset.first === "descending";
      for (const each of board.tHead.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const sign = descending ? -1 : 1;
      const order = (a, b) => {
        const x = a.dataset[key], y = b.dataset[key];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (text.has(key) ? x.localeCompare(y) : x - y) || a.dataset.rank - b.dataset.rank;
      };
      board.append(...[...board.tBodies].sort(order));
    });
    board.addEventListener("click", (event) => {
      const button = event.target.closest(".open");
      if (!button) return;
      const details = document.getElementById(button.getAttribute("aria-controls"));
      details.hidden = !details.hidden;
      button.setAttribute("aria-expanded", String(!details.hidden));
    });
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest(".copy");
    if (!button) return;
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
})();
