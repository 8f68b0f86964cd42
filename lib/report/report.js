// report.js -- draws the page from the JSON in #data. Text from the data is only ever set as text, never as markup.
"use strict";
(function () {
  const charts = typeof d3 !== "undefined";
  // Okabe and Ito's colours, which people with any colour vision tell apart; one per variant, the same in every chart.
  const palette = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C7A00", "#7F7F7F"];

  function add(parent, tag, text, className) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (className) node.className = className;
    parent.appendChild(node);
    return node;
  }

  const finite = x => typeof x === "number" && isFinite(x);
  const mean = list => {
    const known = list.filter(finite);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
  };

  function decimals(x, digits) {
    return x > 0 ? Math.max(0, digits - 1 - Math.floor(Math.log10(x))) : 3;
  }

  function spreadText(s) {
    if (!s || !finite(s.mean)) return "–";
    const spread = finite(s.std) && s.std > 0;
    const d = spread ? decimals(s.std, 2) : decimals(Math.abs(s.mean), 4);
    if (s.mean === 0 && !spread) return "0";
    if (d > 6) return s.mean.toExponential(1) + (spread ? " ± " + s.std.toExponential(0) : "");
    return s.mean.toFixed(d) + (spread ? " ± " + s.std.toFixed(d) : "");
  }

  function countText(n) {
    if (n < 1e4) return String(Math.round(n));
    return n < 1e6 ? (n / 1e3).toFixed(n < 1e5 ? 1 : 0) + "k" : (n / 1e6).toFixed(n < 1e7 ? 2 : 1) + "M";
  }

  // ---- the table ---------------------------------------------------------------------------------------------------------

  function bestOf(rows, metric) {
    const means = rows.map(r => r[metric.name] && r[metric.name].mean).filter(finite);
    if (!metric.better || means.length < 2 || Math.min(...means) === Math.max(...means)) return NaN;
    return metric.better < 0 ? Math.min(...means) : Math.max(...means);
  }

  // costliest: a last column with the tensor that costs most when it alone is quantized.
  function drawTable(parent, rows, metrics, color, costliest) {
    const table = add(add(parent, "div", undefined, "scroll"), "table");
    const head = add(add(table, "thead"), "tr");
    add(head, "th", "variant");
    add(head, "th", "params");
    metrics.forEach(m => add(head, "th", m.title));
    if (costliest) add(head, "th", "W8A8 costs most at");
    const body = add(table, "tbody");
    for (const row of rows) {
      const tr = add(body, "tr");
      const name = add(tr, "td");
      add(name, "span", "", "swatch").style.background = color(row.variant);
      name.appendChild(document.createTextNode(row.variant));
      if (row.diverged) add(name, "span", " (diverged: seed " + row.diverged.join(", ") + ")", "soft");
      add(tr, "td", finite(row.params) ? countText(row.params) : "");
      for (const m of metrics) {
        const s = row[m.name];
        const text = m.name.endsWith("tokens_per_s") && s && finite(s.mean) ? countText(s.mean) : spreadText(s);
        add(tr, "td", text, s && s.mean === bestOf(rows, m) ? "best" : "");
      }
      if (costliest) add(tr, "td", row.costliest ? row.costliest.tensor + " " + spreadText(row.costliest.loss_increase) : "–");
    }
  }

  // ---- charts --------------------------------------------------------------------------------------------------------------

  const W = 460, H = 270, edge = { left: 52, right: 14, top: 12, bottom: 38 };

  function figure(parent, title, note, width, height) {
    const node = add(parent, "figure");
    const caption = add(node, "figcaption", title);
    if (note) add(caption, "small", note);
    return d3.select(node).append("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("role", "img").attr("aria-label", title);
  }

  function axes(svg, x, y, xLabel, xTicks) {
    svg.append("g").attr("class", "axis grid").attr("transform", `translate(${edge.left},0)`)
      .call(d3.axisLeft(y).ticks(5, "~r").tickSize(-(W - edge.left - edge.right))).select(".domain").remove();
    svg.append("g").attr("class", "axis").attr("transform", `translate(0,${H - edge.bottom})`).call(xTicks(d3.axisBottom(x)));
    svg.append("text").attr("x", (W + edge.left) / 2).attr("y", H - 4).attr("text-anchor", "middle").text(xLabel);
  }

  // One thin line per seed in its variant's colour.
  function drawCurves(parent, title, note, field, rows, runs, color) {
    const lines = [];
    for (const row of rows) {
      for (const run of row.runs) {
        const log = (runs[run.folder] || {}).log || [];
        const points = log.filter(l => finite(l[field])).map(l => [l.step, l[field]]);
        if (points.length > 1) lines.push({ row, run, points });
      }
    }
    if (!lines.length) return;
    const svg = figure(parent, title, note, W, H), all = d3.merge(lines.map(l => l.points));
    const ys = all.map(p => p[1]).sort(d3.ascending);
    const x = d3.scaleLinear().domain(d3.extent(all, p => p[0])).range([edge.left, W - edge.right]);
    const y = d3.scaleLinear().domain(d3.extent(ys)).nice().range([H - edge.bottom, edge.top]);
    axes(svg, x, y, "step", a => a.ticks(6, "~s"));
    const path = d3.line().x(p => x(p[0])).y(p => y(p[1]));
    for (const l of lines) {
      const node = svg.append("path").attr("d", path(l.points)).attr("fill", "none").attr("stroke", color(l.row.variant))
        .attr("stroke-width", 1.6).attr("stroke-opacity", 0.8);
      node.append("title").text(`${l.row.variant}, seed ${l.run.seed}: ${l.points[l.points.length - 1][1].toPrecision(4)} at the end`);
    }
  }

  const measures = (row, runs) => row.runs.map(r => (runs[r.folder] || {}).measure).filter(Boolean);

  // Block outputs: a group per layer, a bar per variant, mean over seeds; whiskers from the least to the greatest seed.
  function drawLayers(parent, title, note, field, rows, runs, color) {
    const bars = [];
    rows.forEach((row, i) => {
      const byLayer = new Map();
      for (const m of measures(row, runs))
        for (const t of m.tensors)
          if (t.site === "block" && finite(t[field])) byLayer.set(t.layer, (byLayer.get(t.layer) || []).concat(t[field]));
      byLayer.forEach((values, layer) => bars.push({ row, i, layer, values, mean: mean(values) }));
    });
    if (!bars.length) return;
    const svg = figure(parent, title, note, W, H);
    const layers = Array.from(new Set(bars.map(b => b.layer))).sort(d3.ascending);
    const x = d3.scaleBand().domain(layers).range([edge.left, W - edge.right]).paddingInner(0.2).paddingOuter(0.1);
    const inner = d3.scaleBand().domain(rows.map((_, i) => i)).range([0, x.bandwidth()]).padding(0.08);
    const y = d3.scaleLinear().domain([0, d3.max(bars, b => d3.max(b.values))]).nice().range([H - edge.bottom, edge.top]);
    axes(svg, x, y, "layer", a => a.tickFormat(l => l + 1));
    for (const b of bars) {
      const left = x(b.layer) + inner(b.i), middle = left + inner.bandwidth() / 2;
      svg.append("rect").attr("x", left).attr("y", y(b.mean)).attr("width", inner.bandwidth()).attr("height", y(0) - y(b.mean))
        .attr("fill", color(b.row.variant)).append("title")
        .text(`${b.row.variant}, layer ${b.layer + 1}: ${b.mean.toPrecision(4)} (${b.values.map(v => v.toPrecision(4)).join(", ")})`);
      if (b.values.length > 1)
        svg.append("line").attr("x1", middle).attr("x2", middle).attr("y1", y(d3.min(b.values))).attr("y2", y(d3.max(b.values)))
          .attr("stroke", "var(--ink)").attr("stroke-width", 1);
    }
  }

  // Layer x head: the mean mass on position 0, or the mass given to nothing, as a shade from 0 to 1.
  function drawHeads(parent, field, label, rows, runs) {
    for (const row of rows) {
      const cells = new Map();
      for (const m of measures(row, runs))
        for (const h of m.heads || []) {
          const key = h.layer + "," + h.head;
          cells.set(key, { layer: h.layer, head: h.head, values: ((cells.get(key) || {}).values || []).concat(h[field]) });
        }
      const list = Array.from(cells.values());
      if (!list.length) continue;
      const layers = d3.max(list, c => c.layer) + 1, heads = d3.max(list, c => c.head) + 1;
      const size = Math.min(44, 380 / heads), w = 60 + heads * size + 10, h = 26 + layers * size + 20;
      const svg = figure(parent, row.variant, label, w, h).style("max-width", w + "px");
      const shade = d3.interpolateRgb("#f3f4f2", "#0a3d62");
      for (const c of list) {
        const value = mean(c.values), text = size >= 26 && finite(value);
        const g = svg.append("g").attr("transform", `translate(${56 + c.head * size},${8 + c.layer * size})`);
        g.append("rect").attr("width", size - 2).attr("height", size - 2).attr("rx", 3).attr("fill", finite(value) ? shade(value) : "none")
          .append("title").text(`layer ${c.layer + 1}, head ${c.head + 1}: ${finite(value) ? value.toPrecision(3) : "unknown"}`);
        if (text)
          g.append("text").attr("x", size / 2 - 1).attr("y", size / 2 + 3).attr("text-anchor", "middle").style("fill", value > 0.5 ? "#fff" : "#222")
            .text(value.toFixed(2).replace(/^0/, ""));
      }
      d3.range(layers).forEach(l => svg.append("text").attr("x", 50).attr("y", 8 + (l + 0.5) * size + 3).attr("text-anchor", "end").text("layer " + (l + 1)));
      d3.range(heads).forEach(k => svg.append("text").attr("x", 56 + (k + 0.5) * size).attr("y", 8 + layers * size + 12).attr("text-anchor", "middle").text(k + 1));
      svg.append("text").attr("x", 50).attr("y", 8 + layers * size + 12).attr("text-anchor", "end").text("head");
    }
  }

  // Several presets: a metric's mean against the number of parameters, a line per variant.
  function drawSizes(parent, metric, rows, variants, color) {
    const points = rows.filter(r => r[metric.name] && finite(r[metric.name].mean)).map(r => ({ r, x: r.params, y: r[metric.name].mean }));
    if (!points.length) return;
    const svg = figure(parent, metric.title + " by size", "mean over seeds", W, H);
    const x = d3.scaleLog().domain(d3.extent(points, p => p.x)).range([edge.left + 12, W - edge.right - 12]);
    const y = d3.scaleLinear().domain(d3.extent(points.map(p => p.y).concat(0))).nice().range([H - edge.bottom, edge.top]);
    axes(svg, x, y, "parameters", a => a.ticks(4, "~s"));
    for (const variant of variants) {
      const line = points.filter(p => p.r.variant === variant).sort((a, b) => a.x - b.x);
      svg.append("path").attr("d", d3.line().x(p => x(p.x)).y(p => y(p.y))(line)).attr("fill", "none").attr("stroke", color(variant))
        .attr("stroke-width", 1.8);
      for (const p of line)
        svg.append("circle").attr("cx", x(p.x)).attr("cy", y(p.y)).attr("r", 3.5).attr("fill", color(variant)).append("title")
          .text(`${variant}, ${p.r.model}: ${spreadText(p.r[metric.name])}`);
    }
  }

  // ---- the page -------------------------------------------------------------------------------------------------------------

  function drawModel(page, lab, model, color, heading) {
    const ofModel = list => (list || []).filter(r => r.model === model), rows = ofModel(lab.results.rows);
    const metrics = table => lab.results.metrics.filter(m => m.tables & table); // GM_TABLE_* of the lab
    if (heading) add(page, "h2", model);
    drawTable(page, rows, metrics(1), color);
    drawTable(page, rows, metrics(2), color);
    add(page, "h3", "Quantized");
    drawTable(page, rows.concat(ofModel(lab.results.ablations)), metrics(4), color, true);
    if (!charts) {
      add(page, "p", "This build of ghostmax had no d3, so the charts are left out; the numbers are all here and in results.json.", "soft");
      return;
    }
    const key = add(page, "div", undefined, "key");
    for (const row of rows) {
      const item = add(key, "span");
      add(item, "span", "", "swatch").style.background = color(row.variant);
      item.appendChild(document.createTextNode(row.variant));
    }
    add(page, "h3", "Training");
    const training = add(page, "div", undefined, "charts");
    drawCurves(training, "Training loss", "nats per token; a line per seed", "loss", rows, lab.runs, color);
    drawCurves(training, "Validation loss", "nats per token", "val_loss", rows, lab.runs, color);
    drawCurves(training, "Max inf norm while training", "largest activation of any block's output", "max_inf_norm", rows, lab.runs, color);
    drawCurves(training, "Average kurtosis while training", "", "avg_kurtosis", rows, lab.runs, color);
    add(page, "h3", "Outliers by layer");
    const layers = add(page, "div", undefined, "charts");
    drawLayers(layers, "Inf norm of block outputs", "mean over seeds; the whisker spans the seeds", "inf_norm", rows, lab.runs, color);
    drawLayers(layers, "Inf norm without position 0", "the same, the first token left out", "inf_norm_without_first", rows, lab.runs, color);
    drawLayers(layers, "Kurtosis of block outputs", "3 for a normal distribution", "kurtosis", rows, lab.runs, color);
    add(page, "h3", "Attention on the first token, by head");
    drawHeads(add(page, "div", undefined, "charts small"), "sink_mass", "mean weight on position 0", rows, lab.runs);
    const silent = rows.filter(r => finite(r.null_mass.mean) && r.null_mass.mean > 0);
    if (silent.length) {
      add(page, "h3", "Saying nothing: the null mass, by head");
      drawHeads(add(page, "div", undefined, "charts small"), "null_mass", "mean mass that goes to no token", silent, lab.runs);
    }
  }

  // A lab that still runs: the curves so far.
  function drawUnfinished(page, lab) {
    const names = Object.keys(lab.runs).sort();
    const rows = names.map(name => ({ variant: name, runs: [{ folder: name, seed: Number(name.replace(/.*-s/, "")) }] }));
    const variants = names.map(name => name.replace(/-s\d+$/, "")).filter((v, i, all) => all.indexOf(v) === i);
    const color = name => palette[variants.indexOf(name.replace(/-s\d+$/, "")) % palette.length];
    add(page, "p", "This lab is not finished: these are its runs so far.", "soft");
    const training = add(page, "div", undefined, "charts");
    drawCurves(training, "Training loss", "nats per token; a line per seed", "loss", rows, lab.runs, color);
    drawCurves(training, "Validation loss", "nats per token", "val_loss", rows, lab.runs, color);
    drawCurves(training, "Max inf norm while training", "largest activation of any block's output", "max_inf_norm", rows, lab.runs, color);
    drawCurves(training, "Average kurtosis while training", "", "avg_kurtosis", rows, lab.runs, color);
  }

  function drawLab(page, lab) {
    if (!lab.results) return drawUnfinished(page, lab);
    const r = lab.results, c = r.config;
    add(page, "p", `${c.source}: ${c.steps} steps of ${c.batch} × ${c.context} tokens, lr ${c.lr}, ${c.seeds} seed${c.seeds > 1 ? "s" : ""} from ${c.seed}` +
      ` · folder ${lab.folder}`, "soft");
    const verdict = add(page, "div", undefined, "verdict");
    (r.verdict || []).forEach(sentence => add(verdict, "p", sentence));
    const variants = Array.from(new Set(r.rows.map(row => row.variant))), models = Array.from(new Set(r.rows.map(row => row.model)));
    const color = variant => palette[variants.indexOf(variant) % palette.length];
    if (models.length > 1 && charts) {
      add(page, "h3", "Against the number of parameters");
      const sizes = add(page, "div", undefined, "charts");
      r.metrics.filter(m => m.by_size).forEach(m => drawSizes(sizes, m, r.rows, variants, color));
    }
    models.forEach(model => drawModel(page, lab, model, color, models.length > 1));
    add(page, "h3", "How it was made");
    const made = add(page, "p");
    add(made, "code", r.command);
    add(page, "p", `ghostmax ${r.version}, ${r.machine.isa} kernels, ${r.machine.gemm}, ${r.machine.threads} threads, compiler ${r.machine.compiler}` +
      ` · data ${c.data}`, "soft");
  }

  // May be called again with new data: the scroll position stays.
  function render(data) {
    const page = document.getElementById("page"), top = window.scrollY;
    page.textContent = "";
    add(page, "h1", "ghostmax lab");
    add(page, "p", "What attention heads do when they may say nothing: every variant trained on the same data, initial weights and budget.", "soft");
    for (const lab of data.labs) {
      if (data.labs.length > 1) add(page, "h2", lab.folder);
      drawLab(page, lab);
    }
    window.scrollTo(0, top);
  }

  // Served by `--live`, the page asks for newer numbers; opened from disk it never touches the network.
  function follow(text) {
    fetch("data.json", { cache: "no-store" }).then(answer => answer.ok ? answer.text() : text).catch(() => text).then(newer => {
      if (newer !== text) render(JSON.parse(newer));
      setTimeout(() => follow(newer), 2000);
    });
  }

  const text = document.getElementById("data").textContent;
  render(JSON.parse(text));
  if (location.protocol.startsWith("http")) follow(text);
})();
