"use strict";
// The leaderboard: sort, filter, show more, open a row, pick two. All texts come from the page's data; only the
// rows that are shown are in the document.
const page = {
  read: (name) => JSON.parse(document.getElementById("data-" + name).textContent),
  // A column is a list, or its different values and an index into them per row.
  cell: (column, row) =>
    Array.isArray(column) ? column[row] : column.values[column.codes ? column.codes[row] : 0],
  make: (tag, text, attributes = {}) => {
    const made = document.createElement(tag);
    if (text !== undefined && text !== null) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  },
};

(() => {
  const board = document.getElementById("board");
  const rows = page.read("rows");
  page.rows = rows;
  const { values, texts, bars } = rows;
  const at = page.cell;

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
  if (!board) return;

  const pattern = board.tBodies[0].cloneNode(true);
  const anyTie = Array.from({ length: rows.rows }, (_, i) => i).some((i) => i > 0 && at(values.tied, i));
  const more = document.getElementById("more");
  const FIRST = board.tBodies.length, STEP = 100;
  let order = Array.from({ length: rows.rows }, (_, i) => i);
  let shown = FIRST;
  const picked = [];

  // `<data>` with the exact value and its place in leaderboard.json, as the server writes it.
  const number = (row, name, text) => {
    const value = name === "rank" ? row + 1 : at(values[name], row);
    if (value === null) return document.createTextNode("–");
    return page.make("data", text, { value, "data-at": `/rows/${row}/${name}` });
  };

  const fill = (row) => {
    const body = pattern.cloneNode(true);
    const state = at(values.state, row).toLowerCase(), tied = anyTie && at(values.tied, row);
    body.className = [state, tied ? "tied" : "", row ? "" : "first"].join(" ").trim();
    body.dataset.row = row;
    const slot = (name) => body.querySelector(`[data-s="${name}"]`);
    slot("rank").replaceChildren(number(row, "rank", row + 1));
    slot("score").replaceChildren(number(row, "score", at(texts.score, row)));
    slot("bounds").textContent = at(texts.bounds, row);
    if (slot("again")) slot("again").replaceChildren(...(at(texts.again, row) ? ["again ", number(row, "confirmed_score", at(texts.again, row))] : []));
    slot("name").textContent = at(texts.name, row);
    slot("params").textContent = at(texts.params, row);
    slot("tie").hidden = !tied;
    slot("tie").textContent = row ? "tied" : "best, tied";
    slot("label").hidden = !at(texts.label, row);
    slot("label").textContent = at(texts.label, row);
    for (const name of ["trial", "epochs"]) slot(name).replaceChildren(number(row, name, at(values[name], row)));
    for (const name of ["train_seconds", "model_parameters", "latency_ms"])
      slot(name).replaceChildren(number(row, name, at(texts[name], row)));
    const bar = body.querySelector(".ci");
    bar.className = "ci " + state + (at(bars.off, row) ? " off" : "");
    for (const name of ["low", "high", "at"]) bar.style.setProperty("--" + name, at(bars[name], row));
    const trial = at(values.trial, row), pick = body.querySelector(".pick"), open = body.querySelector(".open");
    pick.setAttribute("aria-label", `Compare trial ${trial}`);
    pick.checked = picked.includes(row);
    open.setAttribute("aria-label", `Details of trial ${trial}`);
    open.setAttribute("aria-expanded", "false");
    return body;
  };

  const status = () => {
    const n = Math.min(shown, order.length), all = rows.rows.toLocaleString("en");
    const matching = order.length < rows.rows ? `${order.length.toLocaleString("en")} that match, of ` : "";
    document.getElementById("shown").textContent = `${n} of ${matching}${all} trials`;
    more.hidden = order.length <= shown;
  };
  const render = () => {
    for (const body of [...board.tBodies]) body.remove();
    board.append(...order.slice(0, shown).map(fill));
    status();
  };

  // Sorting and filtering.
  const form = document.getElementById("filters");
  const find = document.getElementById("find"), only = document.getElementById("only");
  const limits = [...form.querySelectorAll("[data-most]")];
  const haystack = (row) =>
    `${at(values.backbone, row)} ${at(texts.params, row)} ${at(texts.label, row)} trial ${at(values.trial, row)}`;
  let sort = "rank", descending = false;
  const update = () => {
    const wanted = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const most = limits.filter((each) => each.value !== "")
      .map((each) => [values[each.dataset.most], each.valueAsNumber * (each.dataset.unit || 1)]);
    order = [];
    for (let row = 0; row < rows.rows; row++) {
      if (only.value === "tied" ? !(row === 0 || at(values.tied, row)) : only.value && at(values.state, row) !== only.value)
        continue;
      if (most.some(([column, limit]) => at(column, row) === null || at(column, row) > limit)) continue;
      if (wanted.length) {
        const text = haystack(row).toLowerCase();
        if (!wanted.every((word) => text.includes(word))) continue;
      }
      order.push(row);
    }
    const sign = descending ? -1 : 1;
    if (sort === "rank") { if (descending) order.reverse(); }
    else order.sort((a, b) => {
      const x = at(values[sort], a), y = at(values[sort], b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (typeof x === "string" ? x.localeCompare(y) : x - y) || a - b;
    });
    shown = FIRST;
    render();
  };
  let waiting;
  form.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(update, 120); });
  form.addEventListener("submit", (event) => { event.preventDefault(); update(); });
  form.addEventListener("reset", () => setTimeout(update));
  document.querySelector("[data-only]")?.addEventListener("click", (event) => {
    only.value = event.currentTarget.dataset.only;
    update();
  });
  board.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.parentElement, before = head.getAttribute("aria-sort");
    descending = before ? before === "ascending" : button.dataset.first === "descending";
    sort = button.dataset.sort;
    for (const each of board.tHead.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    update();
  });
  more.addEventListener("click", () => {
    board.append(...order.slice(shown, shown + STEP).map(fill));
    shown += STEP;
    status();
  });

  // The details of a row.
  const pairs = (row) => [
    ["training", at(texts.train_seconds, row)], ["size", at(texts.model_parameters, row)],
    ["latency", at(texts.latency_ms, row)], ["peak memory", at(texts.peak_memory_mb, row)],
    ["best minus this", at(texts.behind, row)],
    ...rows.details.map((each) => [each.name, at(each.column, row)]),
  ].filter(([, text]) => text !== "" && text !== "–");
  const details = (row) => {
    const line = page.make("tr", null, { class: "details", id: `details-${row}` });
    const cell = page.make("td", null, { colspan: 9 }), list = page.make("dl", null, { class: "pairs" });
    for (const [name, text] of pairs(row)) {
      const pair = page.make("div");
      pair.append(page.make("dt", name), page.make("dd", text));
      list.append(pair);
    }
    const trial = at(values.trial, row), command = rows.command + trial;
    const reproduce = page.make("p", "Retrain, test and hand over this one: "), box = page.make("span", null, { class: "command" });
    box.append(page.make("code", command), page.make("button", "Copy",
      { type: "button", class: "quiet copy", "aria-label": `Copy the command ${command}` }));
    reproduce.append(box);
    cell.append(list, reproduce);
    line.append(cell);
    return line;
  };
  board.addEventListener("click", (event) => {
    const button = event.target.closest(".open");
    if (!button) return;
    const body = button.closest("tbody"), row = Number(body.dataset.row);
    if (body.rows.length > 1) body.rows[1].remove();
    else body.append(details(row));
    const open = body.rows.length > 1;
    button.setAttribute("aria-expanded", String(open));
    if (open) button.setAttribute("aria-controls", `details-${row}`);
    else button.removeAttribute("aria-controls");
  });

  // Two rows to compare; a third takes the place of the first.
  const tray = document.getElementById("tray");
  const tell = () => {
    tray.hidden = !picked.length;
    const names = picked.map((row) => `trial ${at(values.trial, row)}`);
    document.getElementById("picked").textContent =
      names.length === 2 ? `${names[0]} and ${names[1]}` : `${names[0] || ""}: tick another one to compare`;
    document.getElementById("compare").disabled = picked.length !== 2;
    for (const body of board.tBodies) body.querySelector(".pick").checked = picked.includes(Number(body.dataset.row));
  };
  board.addEventListener("change", (event) => {
    if (!event.target.classList.contains("pick")) return;
    const row = Number(event.target.closest("tbody").dataset.row);
    if (event.target.checked) { picked.push(row); if (picked.length > 2) picked.shift(); }
    else picked.splice(picked.indexOf(row), 1);
    tell();
  });
  document.getElementById("unpick").addEventListener("click", () => { picked.length = 0; tell(); });
  document.getElementById("compare").addEventListener("click", () =>
    page.compare(...[...picked].sort((a, b) => a - b)));
})();
