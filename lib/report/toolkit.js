// toolkit.js -- what all charts share: nodes, numbers, colours, the tooltip, and the frame of a figure with its table and downloads.
// Text from the data is only ever set as text, never as markup.
"use strict";

// What the reader chose; it outlives a new rendering. Per group of runs under its index.
const state = { off: new Set(), open: new Set(), groups: {} };

// ---- nodes --------------------------------------------------------------------------------------------------------------------

function add(parent, tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  if (className) node.className = className;
  parent.appendChild(node);
  return node;
}

function choice(parent, label, options, value, pick) {
  const box = add(parent, "label", undefined, "choice");
  add(box, "span", label);
  const select = add(box, "select");
  options.forEach(([key, text]) => {
    const option = add(select, "option", text);
    option.value = key;
  });
  select.value = value;
  select.setAttribute("aria-label", label);
  select.addEventListener("change", () => pick(select.value));
  return select;
}

// A few exclusive buttons.
function switcher(parent, label, options, value, pick) {
  const box = add(parent, "div", undefined, "switcher");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
  const buttons = options.map(([key, text]) => {
    const button = add(box, "button", text);
    button.type = "button";
    button.addEventListener("click", () => { mark(key); pick(key); });
    return [key, button];
  });
  const mark = key => buttons.forEach(([k, b]) => b.setAttribute("aria-pressed", String(k === key)));
  mark(value);
  return box;
}

// ---- numbers ------------------------------------------------------------------------------------------------------------------

const finite = x => typeof x === "number" && isFinite(x);

function mean(list) {
  const known = list.filter(finite);
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : NaN;
}

function decimals(x, digits) {
  return x > 0 ? Math.max(0, digits - 1 - Math.floor(Math.log10(x))) : 3;
}

const minus = text => text.replace(/^-/, "−").replace("e-", "e−");

// Four digits, as one writes them.
function show(x) {
  if (!finite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return minus(x.toExponential(2));
  return minus(size >= 1000 ? String(Math.round(x)) : String(Number(x.toPrecision(4))));
}

// Mean and deviation to the deviation's second digit, as table.md has them.
function spreadText(s) {
  if (!s || !finite(s.mean)) return ["–", ""];
  const spread = finite(s.std) && s.std > 0;
  if (s.mean === 0 && !spread) return ["0", ""];
  const d = spread ? decimals(s.std, 2) : decimals(Math.abs(s.mean), 4);
  if (d > 6) return [minus(s.mean.toExponential(1)), spread ? s.std.toExponential(0) : ""];
  return [minus(s.mean.toFixed(d)), spread ? s.std.toFixed(d) : ""];
}

function countText(n) {
  if (!finite(n)) return "–";
  if (n < 1e4) return String(Math.round(n));
  if (n < 1e6) return (n / 1e3).toFixed(n < 1e5 ? 1 : 0) + "k";
  return n < 1e9 ? (n / 1e6).toFixed(n < 1e7 ? 2 : 1) + "M" : (n / 1e9).toFixed(2) + "B";
}

function secondsText(s) {
  if (!finite(s)) return "–";
  return s < 100 ? s.toFixed(0) + " s" : s < 5400 ? (s / 60).toFixed(1) + " min" : (s / 3600).toFixed(1) + " h";
}

// On an axis: as it is, or 0, 200k, 1.5M.
const plain = x => minus(String(Number(x.toPrecision(6))));
const short = x => x === 0 ? "0" : minus(Math.abs(x) < 1000 ? show(x) : d3.format("~s")(x));

const plural = (n, word) => n + " " + word + (n === 1 ? "" : "s");

// ---- colours: Okabe and Ito's, which people with any colour vision tell apart. One per variant, everywhere. --------------------

const palettes = {
  light: ["#0072B2", "#D98200", "#009E73", "#C45A93", "#D55E00", "#3FA0DA", "#8A7B00", "#5B4EA3"],
  dark: ["#4AA8E8", "#F0B040", "#2CC79B", "#E394BF", "#F0814A", "#8BCFF5", "#CFC04A", "#A79BE8"],
};
const neutral = { light: "#6B7380", dark: "#A3ACB8" }; // softmax: what the others are compared with
const dashes = ["", "6 3", "2 3", "8 3 2 3"];

const darkScheme = window.matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const dark = () => darkScheme.matches && !printing;

let variantOrder = [];
function setVariants(names) {
  variantOrder = names.filter(n => n !== "softmax");
}

function color(variant) {
  const scheme = dark() ? "dark" : "light", i = variantOrder.indexOf(variant);
  if (variant === "softmax" || i < 0) return neutral[scheme];
  return palettes[scheme][i % palettes[scheme].length];
}

// Past eight variants the colours come again, dashed.
function dash(variant) {
  return dashes[Math.floor(Math.max(0, variantOrder.indexOf(variant)) / palettes.light.length) % dashes.length];
}

function ink() {
  return dark() ? { ground: "#15181c", panel: "#15181c", text: "#e8e6e1", soft: "#9aa3ad", line: "#343b43", faint: "#252a30" }
    : { ground: "#fffefb", panel: "#fffefb", text: "#22262b", soft: "#646c75", line: "#d8d6cf", faint: "#ecebe5" };
}

// From nothing to all: blue for weights and sizes, amber for the mass that goes nowhere.
function ramp(kind) {
  const c = ink();
  if (kind === "null") return d3.piecewise(d3.interpolateRgb, dark() ? [c.ground, "#6b4a12", "#e0a030", "#ffe9b0"] : [c.ground, "#f6dfae", "#d98200", "#5e3500"]);
  return d3.piecewise(d3.interpolateRgb, dark() ? [c.ground, "#173a5c", "#3f93d0", "#d9f0ff"] : [c.ground, "#cfe0ee", "#4a90c4", "#0b2f57"]);
}

const shown = variant => !state.off.has(variant);

// ---- tooltip --------------------------------------------------------------------------------------------------------------------

const tip = {
  node: null,
  // lines: [text, value, colour]
  show(event, lines) {
    if (!this.node) {
      this.node = add(document.body, "div", undefined, "tip");
      this.node.setAttribute("role", "status");
    }
    this.node.textContent = "";
    for (const [text, value, paint] of lines) {
      const line = add(this.node, "div");
      if (paint) add(line, "span", "", "swatch").style.background = paint;
      add(line, "span", text);
      if (value !== undefined) add(line, "b", value);
    }
    this.node.hidden = false;
    const box = this.node.getBoundingClientRect(), room = document.documentElement.clientWidth;
    let x = event.clientX + 14, y = event.clientY + 14;
    if (x + box.width > room - 8) x = Math.max(8, event.clientX - box.width - 14);
    if (y + box.height > window.innerHeight - 8) y = Math.max(8, event.clientY - box.height - 14);
    this.node.style.left = x + "px";
    this.node.style.top = y + "px";
  },
  hide() {
    if (this.node) this.node.hidden = true;
  },
};

// ---- downloads -----------------------------------------------------------------------------------------------------------------

function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function csvOf(table) {
  const field = x => typeof x === "number" ? (finite(x) ? String(x) : "") : x === null || x === undefined ? "" : '"' + String(x).replace(/"/g, '""') + '"';
  return [table.columns].concat(table.rows).map(row => row.map(field).join(",")).join("\n") + "\n";
}

// Lines of so many pixels.
function wrapped(text, pixels) {
  return text.split(" ").reduce((lines, word) => {
    const last = lines[lines.length - 1];
    if (last !== undefined && 6.6 * (last.length + 1 + word.length) <= pixels) lines[lines.length - 1] = last + " " + word;
    else lines.push(word);
    return lines;
  }, []);
}

// The picture alone, with what stands around it on the page: its title, its note with the unit, and the names of its colours.
function svgOf(svg, title, note, variants) {
  const copy = svg.cloneNode(true), [, , w, h] = svg.getAttribute("viewBox").split(" ").map(Number), c = ink();
  let x = 4, row = 1;
  const names = variants.map(name => {
    const width = 24 + 6.6 * name.length;
    if (x > 4 && x + width > w) [x, row] = [4, row + 1];
    x += width;
    return [name, x - width, row];
  });
  const notes = note ? wrapped(note, w - 8) : [], above = 18 + 14 * notes.length, top = above + 10 + (variants.length ? 18 * row : 0), head = d3.select(copy).attr("viewBox", `0 ${-top} ${w} ${h + top}`).attr("height", h + top).append("g");
  label(head, 4, -top + 18, title, "start", c.text).attr("font-size", 13).attr("font-weight", 600);
  notes.forEach((text, i) => label(head, 4, 18 + 14 * (i + 1) - top, text));
  names.forEach(([name, left, line]) => {
    const base = 18 * line + above - top;
    head.append("line").attr("x1", left).attr("x2", left + 14).attr("y1", base - 4).attr("y2", base - 4).attr("stroke", color(name)).attr("stroke-width", 4).attr("stroke-dasharray", dash(name));
    label(head, left + 18, base, name, "start", c.text);
  });
  copy.setAttribute("xmlns", d3.namespaces.svg);
  copy.style.background = c.ground;
  copy.setAttribute("font-family", "system-ui, DejaVu Sans, sans-serif");
  return new XMLSerializer().serializeToString(copy);
}

const ROWS_SHOWN = 400; // of a chart's table on the page; the download has all

function drawData(parent, table) {
  parent.textContent = "";
  const box = add(add(parent, "div", undefined, "scroll data"), "table");
  const head = add(add(box, "thead"), "tr"), body = add(box, "tbody");
  table.columns.forEach(name => add(head, "th", name));
  table.rows.slice(0, ROWS_SHOWN).forEach(row => {
    const tr = add(body, "tr");
    row.forEach(x => add(tr, "td", typeof x === "number" || x === null ? show(x) : x));
  });
  if (table.rows.length > ROWS_SHOWN) add(parent, "p", `${ROWS_SHOWN} of ${table.rows.length} rows; the CSV has all.`, "soft");
}

// ---- figures ---------------------------------------------------------------------------------------------------------------------

let figures = []; // of the present rendering

// spec: key (its name in tests and files), title, note, height (a number or a function of the width), draw(svg, width, height), table():
// {columns, rows}, variants() where it has lines or dots of several. Returns the figure's node; its update() draws it again.
function figure(parent, spec) {
  const node = add(parent, "figure", undefined, spec.className), caption = add(node, "figcaption");
  node.dataset.chart = spec.key;
  const title = add(caption, "span", undefined, "title");
  const note = add(caption, "small");
  const plot = add(node, "div", undefined, "plot"), foot = add(node, "div", undefined, "foot"), data = add(node, "div", undefined, "data-box");
  const words = x => typeof x === "function" ? x() : x;
  const button = (text, label, act) => {
    const b = add(foot, "button", text);
    b.type = "button";
    b.setAttribute("aria-label", label + ": " + words(spec.title));
    b.addEventListener("click", act);
    return b;
  };
  const open = button("data", "show the numbers", () => {
    if (!state.open.delete(spec.key)) state.open.add(spec.key);
    fill();
  });
  button("CSV", "download the numbers", () => save(spec.key + ".csv", "text/csv", csvOf(spec.table())));
  button("SVG", "download the picture", () => save(spec.key + ".svg", "image/svg+xml",
    svgOf(plot.querySelector("svg"), words(spec.title), words(spec.note), spec.variants ? Array.from(new Set(spec.variants())).filter(shown) : [])));

  function fill() {
    const is = state.open.has(spec.key);
    open.setAttribute("aria-expanded", String(is));
    data.textContent = "";
    if (is) drawData(data, spec.table());
  }

  node.update = function () {
    title.textContent = words(spec.title);
    note.textContent = words(spec.note) || "";
    plot.textContent = "";
    const w = Math.max(220, Math.floor(plot.clientWidth || 460)), h = typeof spec.height === "function" ? spec.height(w) : spec.height || 230;
    const svg = d3.select(plot).append("svg").attr("viewBox", `0 0 ${w} ${h}`).attr("width", w).attr("height", h).attr("role", "img")
      .attr("aria-label", words(spec.title));
    spec.draw(svg, w, h);
    fill();
  };
  figures.push(node);
  return node;
}

function updateAll() {
  tip.hide();
  figures.forEach(f => f.update());
}

// ---- axes: colours are attributes, so that a saved picture keeps them ------------------------------------------------------------

function styleAxis(g, size) {
  const c = ink();
  g.selectAll("text").attr("fill", c.soft).attr("font-size", size || 11);
  g.selectAll(".tick line").attr("stroke", c.line);
  g.selectAll(".domain").attr("stroke", c.line);
  g.attr("font-family", null);
}

// As much of a name as stands in so many pixels.
const fitting = (name, pixels) => name.length * 6.6 <= pixels ? name : name.slice(0, Math.max(1, Math.floor(pixels / 6.6) - 1)) + "…";

function label(svg, x, y, text, anchor, paint) {
  return svg.append("text").attr("x", x).attr("y", y).attr("text-anchor", anchor || "start").attr("font-size", 11).attr("fill", paint || ink().soft).text(text);
}

// box: {left, right, top, bottom} in pixels.
function axisX(svg, scale, box, options) {
  const o = options || {}, axis = d3.axisBottom(scale).tickSizeOuter(0).tickSizeInner(4);
  if (o.values) axis.tickValues(o.values);
  else axis.ticks(o.ticks || Math.max(2, Math.floor((box.right - box.left) / 80)));
  axis.tickFormat(o.text || plain);
  const g = svg.append("g").attr("transform", `translate(0,${box.bottom})`).call(axis), room = Number(svg.attr("width"));
  styleAxis(g);
  g.selectAll(".tick").each(function () { // a number at the edge stays whole
    const text = this.querySelector("text"), at = Number(/translate\(([^,)]+)/.exec(this.getAttribute("transform"))[1]), half = text.getComputedTextLength() / 2;
    text.setAttribute("x", at + half > room ? room - at - half : at < half ? half - at : 0);
  });
  let free = -Infinity; // of two that touch the first is read
  g.selectAll(".tick text").each(function () {
    const b = this.getBoundingClientRect();
    if (b.left < free + 3) this.remove();
    else free = b.right;
  });
  if (o.label) label(svg, box.right, box.bottom + 30, o.label, "end");
}

function axisY(svg, scale, box, options) {
  const o = options || {}, axis = d3.axisLeft(scale).tickSizeOuter(0).tickSizeInner(-(box.right - box.left));
  if (o.values) axis.tickValues(o.values);
  else axis.ticks(o.ticks || 5);
  axis.tickFormat(o.text || plain);
  const g = svg.append("g").attr("transform", `translate(${box.left},0)`).call(axis);
  styleAxis(g);
  const texts = g.selectAll(".tick text");
  if (texts.nodes().some(t => t.getComputedTextLength() > box.left - 4)) // 0.00002 in a narrow margin
    texts.attr("font-size", 9).text(x => x === 0 ? "0" : minus(Number(x.toPrecision(3)).toExponential().replace("+", "")));
  g.select(".domain").remove();
  g.selectAll(".tick line").attr("stroke", ink().faint);
}

// The next of 1, 2, 5, 10, 20 ... below (step -1) or above: whole powers of ten would leave half of the picture empty.
function roundLog(x, step) {
  const ten = Math.pow(10, Math.floor(Math.log10(x) + 1e-9)), steps = [1, 2, 5, 10].map(m => m * ten);
  return step < 0 ? d3.max(steps.filter(s => s <= x * 1.000001)) : d3.min(steps.filter(s => s >= x * 0.999999));
}

// Linear, or logarithmic where the values span more than `span` times.
function scaleOf(values, range, span) {
  const known = values.filter(finite), low = d3.min(known), high = d3.max(known);
  if (!known.length) return d3.scaleLinear().domain([0, 1]).range(range);
  if (span && low > 0 && high / low > span) return d3.scaleLog().domain([roundLog(low, -1), roundLog(high, 1)]).range(range);
  if (low === 0 && high === 0) return d3.scaleLinear().domain([span ? 0 : -1, 1]).range(range); // of a rate nothing is below zero
  const pad = low === high ? Math.abs(low) * 0.1 : 0;
  return d3.scaleLinear().domain([low - pad, high + pad]).range(range).nice();
}

// A log axis has ticks for 1, 2 and 5 only.
function logTicks(scale, most) {
  if (!scale.base) return undefined;
  const [low, high] = scale.domain(), all = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    [1, 2, 5].forEach(m => all.push(m * Math.pow(10, e)));
  const inside = all.filter(x => x >= low * 0.999 && x <= high * 1.001), tens = inside.filter(x => /^1(e|0*$)/.test(String(x)) || /^0?\.0*1$/.test(String(x)));
  return inside.length > (most || 7) && tens.length > 2 ? tens.filter((x, i) => i % Math.ceil(tens.length / 8) === 0) : inside;
}

// Pixels as an image inside the picture: rows of [r, g, b] by paint(column, row).
function raster(svg, columns, rows, box, paint) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let y = 0, i = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++, i += 4) {
      const rgb = paint(x, y);
      image.data[i] = rgb[0]; image.data[i + 1] = rgb[1]; image.data[i + 2] = rgb[2]; image.data[i + 3] = rgb[3] === undefined ? 255 : rgb[3];
    }
  }
  context.putImageData(image, 0, 0);
  return svg.append("image").attr("x", box.left).attr("y", box.top).attr("width", box.right - box.left).attr("height", box.bottom - box.top)
    .attr("preserveAspectRatio", "none").attr("image-rendering", "pixelated").style("image-rendering", "pixelated").attr("href", canvas.toDataURL());
}

// A ramp as 256 colours of three bytes.
function rampTable(interpolate) {
  return d3.range(256).map(i => {
    const c = d3.rgb(interpolate(i / 255));
    return [c.r, c.g, c.b];
  });
}

// ---- runs ------------------------------------------------------------------------------------------------------------------------

// "softmax1 s2": short names of a group's runs; with several models those too.
function runName(group, run) {
  const model = group.models.length > 1 ? " " + run.model : "";
  return run.variant + model + (group.kind === "audit" ? "" : " s" + run.seed);
}

const groupVariants = group => Array.from(new Set(group.runs.map(r => r.variant).filter(v => v !== undefined)));

function bytesOf(text) {
  const raw = atob(text || ""), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}
