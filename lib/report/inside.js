// inside.js -- two models opened side by side at one scale: activations (spikes, heat, ridges) and how 8 bits would see them.
"use strict";

const siteNames = {
  embed: "embedding", norm1: "attention norm", attn_out: "attention output", residual1: "stream after attention", norm2: "FFN norm",
  ffn_act: "FFN hidden", ffn_out: "FFN output", block: "block output", norm_final: "final norm",
};
const sites = Object.keys(siteNames);

const siteTensor = (site, layer) => site === "embed" || site === "norm_final" ? site : `blocks.${layer}.${site}`;
const tensorText = (site, layer) => site === "embed" || site === "norm_final" ? siteNames[site] : `${siteNames[site]} of layer ${layer}`;

// Signed values [T, C] of a sampled tensor: sample_bytes.c says how a byte stands for them.
function activation(run, name) {
  const stored = run && run.sample && run.sample.tensors[name];
  if (!stored) return null;
  if (!stored.values) {
    const bytes = bytesOf(stored.data), x = new Float32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) {
      const k = bytes[i] & 127;
      x[i] = k ? (bytes[i] & 128 ? -1 : 1) * stored.max * Math.pow(2, (k - 127) / 10) : 0;
    }
    stored.values = { x, C: stored.cols, T: Math.floor(x.length / stored.cols), max: stored.max };
  }
  return stored.values;
}

// A token as one reads it.
function tokenText(text) {
  if (text === undefined || text === "") return "∅";
  return text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/^ +$/, "␣");
}

// ---- the figure of the papers: |x| over the hidden dimensions, one curve per token -----------------------------------------------------

// side: "a" or "b"; pair: {run(side), tensor(), form(), token(), setToken(t)}.
function activationChart(parent, group, index, side, pair) {
  const of = () => activation(pair.run(side), pair.tensor());
  const top = () => Math.max(...["a", "b"].map(s => (activation(pair.run(s), pair.tensor()) || { max: 0 }).max), 1e-9);
  return figure(parent, {
    key: `activations-${index}-${side}`, className: "panel",
    title: () => pair.run(side) ? `${runName(group, pair.run(side))}: |x| of the ${pair.tensorText()}` : "no sample",
    note: () => ({
      spikes: "a needle per token and hidden dimension",
      heat: "token by hidden dimension; shade grows with √|x|",
      ridges: "a ridge per token, the first in front",
    })[pair.form()] + (pair.sampled.length > 1 ? "; both sides have one scale" : ""),
    height: w => Math.round(Math.max(240, Math.min(360, w * 0.62))),
    table: () => {
      const v = of(), run = pair.run(side);
      return { columns: ["token", "text", "dimension", "x"], rows: v ? d3.range(v.T * v.C).map(i => [Math.floor(i / v.C), run.sample.tokens[Math.floor(i / v.C)], i % v.C, Number(v.x[i].toPrecision(3))]) : [] };
    },
    draw(svg, w, h) {
      const v = of(), run = pair.run(side), b = box(w, h, 44), c = ink();
      if (!v) return label(svg, w / 2, h / 2, "no sample of this tensor", "middle");
      const paint = color(run.variant), form = pair.form(), max = top();
      const draws = { spikes: drawSpikes, heat: drawHeat, ridges: drawRidges };
      const marks = draws[form](svg, b, v, max, paint, c);
      if (form !== "heat") markLargest(svg, b, v, run, marks, c);
      const light = svg.append("g").attr("pointer-events", "none");
      const highlight = t => {
        light.selectAll("*").remove();
        if (t !== null && t < v.T) marks.highlight(light, t);
      };
      svg.node().highlight = highlight;
      highlight(pair.token());
      hoverArea(svg, b, (event, px, py) => {
        const hit = marks.find(px, py);
        if (!hit) return tip.hide();
        pair.setToken(hit.t);
        tip.show(event, [[`token ${hit.t}`, `“${tokenText(run.sample.tokens[hit.t])}”`, paint], ["dimension", String(hit.d)], ["x ≈", show(v.x[hit.t * v.C + hit.d])]]);
      }, () => pair.setToken(null));
    },
  });
}

const sizeAt = (v, t, d) => Math.abs(v.x[t * v.C + d]);

// The token whose |x| at the pointer's dimension (or one beside it) is nearest in height.
function nearest(v, from, to, distance) {
  let best = null;
  for (let d = Math.max(0, from); d <= Math.min(v.C - 1, to); d++) {
    for (let t = 0; t < v.T; t++) {
      const far = distance(t, d);
      if (!best || far < best.far) best = { t, d, far };
    }
  }
  return best;
}

function markLargest(svg, b, v, run, marks, c) {
  let best = 0;
  for (let i = 1; i < v.x.length; i++) if (Math.abs(v.x[i]) > Math.abs(v.x[best])) best = i;
  const t = Math.floor(best / v.C), d = best % v.C, [px, py] = marks.place(t, d), right = px > (b.left + b.right) / 2;
  label(svg, px + (right ? -6 : 6), Math.max(b.top + 9, py + 4), `${show(Math.abs(v.x[best]))} · dim ${d} · “${tokenText(run.sample.tokens[t]).slice(0, 12)}”`, right ? "end" : "start", c.text)
    .attr("paint-order", "stroke").attr("stroke", c.ground).attr("stroke-width", 3);
}

function drawSpikes(svg, b, v, max, paint, c) {
  const x = d3.scaleLinear().domain([-0.5, v.C - 0.5]).range([b.left, b.right]), y = d3.scaleLinear().domain([0, max]).range([b.bottom, b.top]).nice();
  axisY(svg, y, b);
  axisX(svg, x, b, { label: "hidden dimension", ticks: 6 });
  const needles = t => {
    let path = "";
    for (let d = 0; d < v.C; d++) {
      const size = sizeAt(v, t, d);
      if (size > max * 0.004) path += `M${x(d).toFixed(1)},${b.bottom}V${y(size).toFixed(1)}`;
    }
    return path;
  };
  const width = Math.max(0.6, Math.min(2, (b.right - b.left) / v.C * 0.7));
  for (let t = 0; t < v.T; t++)
    svg.append("path").attr("class", "mark").attr("d", needles(t)).attr("fill", "none").attr("stroke", paint).attr("stroke-width", width).attr("stroke-opacity", 0.32);
  return {
    place: (t, d) => [x(d), y(sizeAt(v, t, d))],
    find(px, py) {
      const d = Math.round(x.invert(px)), reach = Math.ceil(3 * v.C / (b.right - b.left));
      return nearest(v, d - reach, d + reach, (t, k) => Math.abs(y(sizeAt(v, t, k)) - py) + Math.abs(x(k) - px) * 0.5);
    },
    highlight: (g, t) => g.append("path").attr("d", needles(t)).attr("fill", "none").attr("stroke", c.text).attr("stroke-width", width + 0.6),
  };
}

function drawHeat(svg, b, v, max) {
  const shades = rampTable(ramp("size"));
  raster(svg, v.C, v.T, b, (d, t) => shades[Math.min(255, Math.round(255 * Math.sqrt(sizeAt(v, t, d) / max)))]).attr("class", "mark");
  const x = d3.scaleLinear().domain([-0.5, v.C - 0.5]).range([b.left, b.right]), y = d3.scaleLinear().domain([-0.5, v.T - 0.5]).range([b.top, b.bottom]);
  axisX(svg, x, b, { label: "hidden dimension", ticks: 6 });
  const axis = d3.axisLeft(y).ticks(5).tickSizeOuter(0);
  styleAxis(svg.append("g").attr("transform", `translate(${b.left},0)`).call(axis));
  label(svg, b.left - 8, b.bottom + 16, "token", "end");
  label(svg, 6, b.top + 2, "token").attr("transform", `rotate(-90 10 ${b.top + 30}) translate(-20 ${12})`);
  return {
    place: (t, d) => [x(d), y(t)],
    find: (px, py) => ({ t: Math.max(0, Math.min(v.T - 1, Math.round(y.invert(py)))), d: Math.max(0, Math.min(v.C - 1, Math.round(x.invert(px)))) }),
    highlight: (g, t) => g.append("rect").attr("x", b.left).attr("y", y(t - 0.5)).attr("width", b.right - b.left).attr("height", y(1) - y(0)).attr("fill", "none").attr("stroke", ink().text),
  };
}

function drawRidges(svg, b, v, max, paint, c) {
  const lean = (b.right - b.left) * 0.14, rise = (b.bottom - b.top) * 0.5, dx = lean / Math.max(1, v.T - 1), dy = rise / Math.max(1, v.T - 1);
  const x = d3.scaleLinear().domain([0, Math.max(1, v.C - 1)]).range([b.left, b.right - lean]), height = (b.bottom - b.top) * 0.48 / max;
  const place = (t, d) => [x(d) + t * dx, b.bottom - t * dy - sizeAt(v, t, d) * height];
  axisX(svg, x, { left: b.left, right: b.right - lean, bottom: b.bottom }, { label: "hidden dimension", ticks: 5 });
  svg.append("line").attr("x1", b.right - lean).attr("y1", b.bottom).attr("x2", b.right).attr("y2", b.bottom - rise).attr("stroke", c.line);
  label(svg, b.right - lean / 2 + 8, b.bottom - rise / 2 + 14, "token");
  const y = d3.scaleLinear().domain([0, max]).range([b.bottom, b.bottom - max * height]);
  axisY(svg, y, { left: b.left, right: b.left + 4 }, { ticks: 3 });
  const line = t => {
    let path = `M${(x(0) + t * dx).toFixed(1)},${(b.bottom - t * dy).toFixed(1)}`;
    for (let d = 0; d < v.C; d++) {
      const [px, py] = place(t, d);
      path += `L${px.toFixed(1)},${py.toFixed(1)}`;
    }
    return path + `L${(x(v.C - 1) + t * dx).toFixed(1)},${(b.bottom - t * dy).toFixed(1)}`;
  };
  for (let t = v.T - 1; t >= 0; t--)
    svg.append("path").attr("class", "mark").attr("d", line(t)).attr("fill", c.ground).attr("fill-opacity", 0.86).attr("stroke", paint).attr("stroke-width", 0.8);
  return {
    place,
    find: (px, py) => nearest(v, 0, v.C - 1, (t, d) => {
      const [qx, qy] = place(t, d);
      return Math.abs(qx - px) * 2 + Math.abs(qy - py);
    }),
    highlight: (g, t) => g.append("path").attr("d", line(t)).attr("fill", "none").attr("stroke", c.text).attr("stroke-width", 1.6),
  };
}

// ---- the sample's text ------------------------------------------------------------------------------------------------------------------

function tokenStrip(parent, pair) {
  const strip = add(parent, "p", undefined, "tokens"); // a text node between two tokens, where a line may break
  strip.setAttribute("aria-label", "the sample's tokens");
  const run = pair.run("a") || pair.run("b");
  (run ? run.sample.tokens : []).forEach((text, t) => {
    const node = add(strip, "span", tokenText(text));
    strip.appendChild(document.createTextNode(" "));
    node.addEventListener("mouseenter", () => pair.setToken(t));
    node.addEventListener("mouseleave", () => pair.setToken(null));
  });
  return strip;
}

// ---- 256 levels for all of it -------------------------------------------------------------------------------------------------------------

// How many of an even grid's levels about zero hold this share of the values.
function levelsHolding(counts, share) {
  const total = d3.sum(counts), middle = (counts.length - 1) / 2;
  let held = counts[middle], k = 0;
  while (held < share * total && k < middle) {
    k++;
    held += counts[middle - k] + counts[middle + k];
  }
  return 2 * k + 1;
}

function levelsChart(parent, group, index, side, pair) {
  const stored = () => {
    const run = pair.run(side), m = run && run.measure, i = m && m.tensors.name ? m.tensors.name.indexOf(pair.tensor()) : -1;
    return i >= 0 && m.levels && m.levels[pair.tensor()] ? { counts: m.levels[pair.tensor()], step: m.tensors.absmax[i] / 127, absmax: m.tensors.absmax[i] } : null;
  };
  const widest = () => Math.max(...["a", "b"].map(s => {
    const run = pair.run(s), t = run && run.measure && run.measure.tensors, i = t && t.name ? t.name.indexOf(pair.tensor()) : -1;
    return i >= 0 && finite(t.absmax[i]) ? t.absmax[i] : 0;
  }), 1e-9);
  return figure(parent, {
    key: `levels-${index}-${side}`, className: "panel", height: 230,
    title: () => pair.run(side) ? `${runName(group, pair.run(side))}: the ${pair.tensorText()} on an 8-bit grid` : "no measurement",
    note: () => {
      const s = stored();
      return s ? `values per level of an even grid over the whole range; 99% share ${levelsHolding(s.counts, 0.99)} of 255 levels, 99.9% share ${levelsHolding(s.counts, 0.999)}` : "";
    },
    table: () => {
      const s = stored();
      return { columns: ["level", "value", "count"], rows: s ? s.counts.map((n, i) => [i - 127, (i - 127) * s.step, n]) : [] };
    },
    draw(svg, w, h) {
      const s = stored(), b = box(w, h, 46, 44), c = ink(), run = pair.run(side);
      if (!s) return label(svg, w / 2, h / 2, "no histogram of this tensor", "middle");
      const paint = color(run.variant), most = d3.max(s.counts), limit = widest() * 1.02;
      const x = d3.scaleLinear().domain([-limit, limit]).range([b.left, b.right]), y = d3.scaleLog().domain([0.6, Math.max(2, most)]).range([b.bottom, b.top]);
      axisY(svg, y, b, { values: logTicks(y, 5), text: short });
      axisX(svg, x, { left: b.left, right: b.right, bottom: b.bottom + 8 }, { label: "value" });
      const width = Math.max(0.7, (x(s.step) - x(0)) * 0.92), few = levelsHolding(s.counts, 0.99), half = (few - 1) / 2 + 0.5;
      svg.append("rect").attr("x", x(-half * s.step)).attr("y", b.top).attr("width", x(half * s.step) - x(-half * s.step)).attr("height", b.bottom - b.top).attr("fill", paint).attr("fill-opacity", 0.1);
      s.counts.forEach((n, i) => {
        const at = x((i - 127) * s.step);
        svg.append("line").attr("class", "grid-level").attr("x1", at).attr("x2", at).attr("y1", b.bottom + 1).attr("y2", b.bottom + 7).attr("stroke", n ? paint : c.soft).attr("stroke-opacity", n ? 0.95 : 0.55).attr("stroke-width", 0.7);
        if (n > 0)
          svg.append("rect").attr("class", "mark").attr("x", at - width / 2).attr("y", y(n)).attr("width", width).attr("height", b.bottom - y(n)).attr("fill", paint).attr("fill-opacity", 0.85);
      });
      const grid = ((run.quantized || {}).grids || {})[pair.tensor()];
      if (grid)
        [grid[0], grid[1]].filter(finite).forEach((edge, k) => {
          if (Math.abs(edge) > limit) return;
          svg.append("line").attr("class", "range").attr("x1", x(edge)).attr("x2", x(edge)).attr("y1", b.top).attr("y2", b.bottom + 8).attr("stroke", c.text).attr("stroke-dasharray", "3 2");
          label(svg, x(edge) + (k ? -4 : 4), b.top + 10, "calibrated", k ? "end" : "start");
        });
      hoverArea(svg, b, (event, px) => {
        const level = Math.round(x.invert(px) / s.step);
        if (Math.abs(level) > 127) return tip.hide();
        tip.show(event, [[`level ${level}`, undefined, paint], ["value", `${show((level - 0.5) * s.step)} to ${show((level + 0.5) * s.step)}`], ["values there", countText(s.counts[level + 127])]]);
      });
    },
  });
}
