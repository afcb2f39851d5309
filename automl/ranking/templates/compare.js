"use strict";
// Two trials side by side: what differs, the paired difference of their scores with its interval, their curves, and
// the images on which they disagree.
(() => {
  const dialog = document.getElementById("compared");
  if (!dialog) return;
  const RESAMPLES = 2000, LEAST_DRAWN = 10, IMAGES = 60;
  const at = page.cell, { rows, make } = page, { values, texts } = rows;
  let kept = null;

  const decode = (text, kind) => {
    const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
    return new kind(bytes.buffer);
  };
  const predictions = () => {
    if (kept) return kept;
    kept = page.read("compared");
    if (!kept.trials) return kept;
    const kind = kept.bytes === 1 ? Uint8Array : Uint16Array, n = kept.images;
    kept.targets = decode(kept.targets, kind);
    const labels = decode(kept.labels, kind);
    kept.of = new Map(kept.trials.map((trial, i) => [trial, labels.subarray(i * n, (i + 1) * n)]));
    if (kept.groups) kept.groups = decode(kept.groups, Uint32Array);
    if (kept.contributions) {  // of each image to the score, where that is no count per class: log loss and AUROC
      const parts = decode(kept.contributions, Float32Array);
      kept.parts = new Map(kept.trials.map((trial, i) => [trial, parts.subarray(i * n, (i + 1) * n)]));
    }
    return kept;
  };

  // mulberry32: the same two trials always give the same interval
  const generator = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };

  // Metrics of counts per class, as automl.ranking.statistics has them.
  const most = (list) => list.reduce((a, b) => Math.max(a, b), 0);  // Math.max(...list) fails from 100,000 on
  const ratio = (above, below) => (below > 0 ? above / below : 0);
  const metrics = {
    accuracy: (hits, support) => ratio(hits.reduce((a, b) => a + b, 0), support.reduce((a, b) => a + b, 0)),
    balanced_accuracy: (hits, support) => mean(support, (i) => support[i] > 0, (i) => ratio(hits[i], support[i])),
    macro_recall: (hits, support, said) => mean(hits, (i) => support[i] > 0 || said[i] > 0, (i) => ratio(hits[i], support[i])),
    macro_precision: (hits, support, said) => mean(hits, (i) => support[i] > 0 || said[i] > 0, (i) => ratio(hits[i], said[i])),
    macro_f1: (hits, support, said) => mean(hits, (i) => support[i] > 0 || said[i] > 0, (i) => ratio(2 * hits[i], support[i] + said[i])),
  };
  const mean = (list, counts, value) => {
    let sum = 0, n = 0;
    for (let i = 0; i < list.length; i++) if (counts(i)) { sum += value(i); n++; }
    return ratio(sum, n);
  };

  // A paired bootstrap over images, or whole groups: the interval of score(first) − score(second).
  page.difference = (first, second) => {
    const all = predictions(), name = rows.metric;
    if (!all.trials || !all.of.has(first) || !all.of.has(second)) return null;
    const n = all.images, units = all.groups ? most(all.groups) + 1 : n;
    const members = Array.from({ length: units }, () => []);
    for (let i = 0; i < n; i++) members[all.groups ? all.groups[i] : i].push(i);
    let evaluate;
    if (all.parts) {
      const a = all.parts.get(first), b = all.parts.get(second);
      evaluate = (weight) => {
        let sum = 0, count = 0;
        for (let i = 0; i < n; i++) { sum += weight[i] * (a[i] - b[i]); count += weight[i]; }
        return sum / count;
      };
    } else {
      const classes = Math.max(...[all.targets, all.of.get(first), all.of.get(second)].map(most)) + 1;
      const one = (labels, weight) => {
        const hits = new Array(classes).fill(0), support = new Array(classes).fill(0), said = new Array(classes).fill(0);
        for (let i = 0; i < n; i++) if (weight[i]) {
          support[all.targets[i]] += weight[i];
          said[labels[i]] += weight[i];
          if (labels[i] === all.targets[i]) hits[labels[i]] += weight[i];
        }
        return metrics[name](hits, support, said);
      };
      const a = all.of.get(first), b = all.of.get(second);
      evaluate = (weight) => one(a, weight) - one(b, weight);
    }
    const limit = name === "log_loss" ? Infinity : 1;
    if (units < LEAST_DRAWN && all.parts) {  // few groups, or one, which says nothing of others
      const a = all.parts.get(first), b = all.parts.get(second), value = evaluate(new Uint16Array(n).fill(1));
      const apart = members.map((rows) => rows.reduce((sum, i) => sum + a[i] - b[i] - value, 0));
      const error = Math.sqrt(apart.reduce((sum, each) => sum + each ** 2, 0)) / n;
      const reach = all.stretch === null ? 12.7 * Math.abs(value) : 1.96 * error * all.stretch;
      return { value, low: Math.max(-limit, value - reach), high: Math.min(limit, value + reach) };
    }
    const random = generator(1 + first * 65537 + second), weight = new Uint16Array(n), samples = [];
    for (let draw = 0; draw < RESAMPLES; draw++) {
      weight.fill(0);
      for (let unit = 0; unit < units; unit++) for (const i of members[Math.floor(random() * units)]) weight[i]++;
      samples.push(evaluate(weight));
    }
    samples.sort((a, b) => a - b);
    const quantile = (q) => {
      const place = q * (RESAMPLES - 1), low = Math.floor(place);
      return samples[low] + (place - low) * ((samples[low + 1] ?? samples[low]) - samples[low]);
    };
    // Percentiles, each no nearer than the other one mirrored: see automl/ranking/statistics/comparison.py.
    const value = evaluate(new Uint16Array(n).fill(1)), low = value - quantile(0.025), high = quantile(0.975) - value;
    const mean = samples.reduce((sum, each) => sum + each, 0) / RESAMPLES;
    const error = Math.sqrt(samples.reduce((sum, each) => sum + (each - mean) ** 2, 0) / RESAMPLES);
    const reach = Math.max(low, high, 1.96 * error) * all.stretch + (high > -low ? 1e-6 : 0);
    return { value, low: Math.max(-limit, value - reach), high: Math.min(limit, value + reach) };
  };

  const points = (value) =>
    (rows.metric === "log_loss" ? value.toFixed(4) : (100 * value).toFixed(1)).replace(/^-(?=0\.0+$)/, "").replace("-", "−");
  const sentence = (a, b) => {
    const found = page.difference(at(values.trial, a), at(values.trial, b));
    if (!found) return "No paired difference: the page has no predictions of both on the same images.";
    const unit = rows.metric === "log_loss" ? "" : " points";
    const better = at(values.trial, (found.value > 0) === rows.maximize ? a : b), tied = at(values.tied, a) && at(values.tied, b);
    const verdict = found.low <= 0 && found.high >= 0
      ? "On these images the two cannot be told apart."
      : `Trial ${better} is better by more than chance explains, were this the only comparison` +
        (tied ? "; the leaderboard corrects for all of them, and there both are tied." : ".");
    const again = [a, b].some((row) => at(values.confirmed_score, row) !== null)
      ? " These are the images of the search, which picked what was trained again; for the choice the means of the new trainings count."
      : "";
    return `Trial ${at(values.trial, a)} minus trial ${at(values.trial, b)}: ${points(found.value)}${unit}, 95 % interval ` +
      `${points(found.low)} to ${points(found.high)} (paired bootstrap on ${predictions().images.toLocaleString("en")} ` +
      `images; one comparison, not corrected for how many could be made). ${verdict}${again}`;
  };

  const table = (a, b) => {
    const line = ([name, column]) => [name, at(column, a), at(column, b)];
    const first = [["score", texts.score], ["95 % interval", texts.bounds], ["backbone", texts.name], ["outcome", texts.label]];
    const costs = [["training", texts.train_seconds], ["size", texts.model_parameters], ["latency", texts.latency_ms],
      ["peak memory", texts.peak_memory_mb]];
    const details = rows.details.map((each) => [each.name, at(each.column, a), at(each.column, b), each.kind]);
    const differ = (kind) => details.filter(([, x, y, its]) => its === kind && x !== y);
    const same = details.filter(([, x, y, kind]) => kind === "param" && x === y).length;
    const made = make("table", null, { class: "plain versus" }), head = make("tr");
    head.append(make("td"), ...[a, b].map((row) => make("th", `trial ${at(values.trial, row)}, rank ${row + 1}`, { scope: "col" })));
    made.append(make("caption", `What differs; ${same} other parameters are the same`), make("thead"), make("tbody"));
    made.tHead.append(head);
    for (const [name, x, y] of [...first.map(line), ...differ("param"), ...costs.map(line), ...differ("fact")]) {
      if (!x && !y) continue;
      const row = make("tr");
      row.append(make("th", name, { scope: "row" }), make("td", x || "–"), make("td", y || "–"));
      if (x !== y) row.className = "differs";
      made.tBodies[0].append(row);
    }
    return made;
  };

  const curves = (a, b) => {
    const all = page.read("curves"), unit = rows.metric === "log_loss" ? 1 : 100;
    const data = [a, b].map((row, i) => {
      const line = all[at(values.trial, row)] || [];
      return {
        type: "scatter", mode: "lines+markers", name: `trial ${at(values.trial, row)}`,
        x: line.map(([epoch]) => epoch), y: line.map(([, value]) => (value === null ? null : unit * value)),
        line: { color: `var(--c${i + 1})`, dash: i ? "dash" : "solid" }, marker: { symbol: i ? "square" : "circle", size: 7 },
      };
    });
    const axis = { gridcolor: "var(--line)", linecolor: "var(--line)", zeroline: false, automargin: true };
    const layout = {
      height: 280, margin: { l: 8, r: 12, t: 12, b: 8 }, font: { family: "var(--sans)", size: 13, color: "var(--text)" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, showlegend: true,
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      xaxis: { ...axis, title: { text: "epoch" } },
      yaxis: { ...axis, title: { text: rows.metric_name + (unit === 100 ? " (%)" : "") } },
    };
    return { data, layout };
  };

  const disagreements = (a, b) => {
    const all = predictions(), first = at(values.trial, a), second = at(values.trial, b);
    if (!all.trials || !all.of.has(first) || !all.of.has(second)) return null;
    const x = all.of.get(first), y = all.of.get(second), pictures = page.read("pictures");
    const name = (i) => all.classes[i] ?? `class ${i}`;
    const found = [];
    for (let i = 0; i < all.images; i++) if (x[i] !== y[i]) found.push(i);
    found.sort((i, j) => Boolean(pictures[all.rows[j]]) - Boolean(pictures[all.rows[i]]));  // stable
    const part = make("div"), only = (labels, other) =>
      found.filter((i) => labels[i] === all.targets[i] && other[i] !== all.targets[i]).length;
    part.append(make("h3", `They disagree on ${found.length} of ${all.images.toLocaleString("en")} images`));
    part.append(make("p", `Only trial ${first} is right on ${only(x, y)}, only trial ${second} on ${only(y, x)}, neither ` +
      `on ${found.length - only(x, y) - only(y, x)}.` +
      (found.length > IMAGES ? ` ${IMAGES} of them are shown.` : ""), { class: "muted" }));
    const list = make("ul", null, { class: "gallery small" });
    for (const i of found.slice(0, IMAGES)) {
      const item = make("li"), path = all.files[i] || "", file = path.split("/").pop() || `image ${i}`;
      const picture = pictures[all.rows[i]];
      item.append(picture ? make("img", null, { src: picture, alt: `${file}, labelled ${name(all.targets[i])}` })
        : make("span", "no picture", { class: "noimage" }));
      item.append(make("span", `labelled ${name(all.targets[i])}`),
        make("span", `${first}: ${name(x[i])}`, { class: x[i] === all.targets[i] ? "right" : "wrong" }),
        make("span", `${second}: ${name(y[i])}`, { class: y[i] === all.targets[i] ? "right" : "wrong" }),
        make("small", file));
      list.append(item);
    }
    part.append(list);
    return part;
  };

  page.compare = (a, b) => {
    const body = document.getElementById("compared-body"), plot = make("div", null, {
      class: "plot", role: "img", "aria-label": "Validation score of both trials by epoch",
    });
    const scroll = make("div", null, { class: "scroll" });
    scroll.append(table(a, b));
    body.replaceChildren(make("p", sentence(a, b), { class: "verdict-line" }), scroll, make("h3", "Learning curves"), plot);
    const images = disagreements(a, b);
    if (images) body.append(images);
    dialog.showModal();
    document.getElementById("compared-title").focus();
    page.draw(plot, curves(a, b));
  };
  document.getElementById("close").addEventListener("click", () => dialog.close());
})();
