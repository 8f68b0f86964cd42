// page.js -- the page from the data: render() may be called again with newer data and keeps what the reader chose and where the reader is.
"use strict";

function groupTitle(data, group) {
  const source = (data.sources.find((s, i) => s.source && group.runs.some(r => r.source === i)) || {}).source || String(group.config.data || "").split(/[ ,]/)[0] || "data";
  const models = Array.from(new Set(group.rows.concat(group.runs).map(r => r.model).filter(Boolean)));
  return (group.kind === "audit" ? "Audits" : models.slice(0, 3).join(", ") + (models.length > 3 ? " …" : "")) + " on " + source.replace(/.*\//, "");
}

function seedsText(group) {
  const seeds = Array.from(new Set(group.runs.map(r => r.seed).filter(finite))).sort((a, b) => a - b);
  return seeds.length === 1 ? `seed ${seeds[0]}` : `${seeds.length} seeds (${seeds.length > 6 ? seeds[0] + " to " + seeds[seeds.length - 1] : seeds.join(", ")})`;
}

function groupSubtitle(group) {
  const c = group.config;
  if (group.kind === "audit") return `${c.sequences} sequences of ${c.context} tokens, ${c.bos ? "with" : "without"} BOS, ${plural(group.runs.length, "model")}`;
  const tokens = c.steps * c.batch * c.context;
  return `${plural(c.steps, "step")} of ${c.batch} × ${c.context} tokens${finite(tokens) ? ` (${countText(tokens)})` : ""}, lr ${c.lr}, ` +
    `${seedsText(group)}, ${plural(groupVariants(group).length, "variant")}`;
}

// ---- the legend: one for the whole page ---------------------------------------------------------------------------------------------------

function drawLegend(parent, names) {
  const bar = add(parent, "nav", undefined, "legend");
  bar.setAttribute("aria-label", "variants: press to hide or show");
  names.forEach(name => {
    const chip = add(bar, "button", undefined, "chip");
    chip.type = "button";
    chip.dataset.variant = name;
    const paint = add(chip, "span", "", "swatch");
    const update = () => {
      chip.setAttribute("aria-pressed", String(shown(name)));
      paint.style.background = dash(name) ? `repeating-linear-gradient(90deg, ${color(name)} 0 5px, transparent 5px 8px)` : color(name);
    };
    add(chip, "span", name);
    chip.title = name;
    chip.addEventListener("click", event => {
      if (event.altKey || event.shiftKey) { // only this one, or all again
        const alone = names.every(n => n === name ? shown(n) : !shown(n));
        state.off = new Set(alone ? [] : names.filter(n => n !== name));
      } else if (!state.off.delete(name))
        state.off.add(name);
      hideOff();
      updateAll();
    });
    chip.update = update;
    update();
  });
  return bar;
}

// Rows of tables follow the legend too.
function hideOff() {
  document.querySelectorAll(".chip").forEach(chip => chip.update());
  document.querySelectorAll("tr[data-variant]").forEach(tr => tr.classList.toggle("off", !shown(tr.dataset.variant)));
}

// ---- a group --------------------------------------------------------------------------------------------------------------------------------

function section(parent, title, text, id) {
  const node = add(parent, "section");
  if (id) node.id = id;
  add(node, "h2", title);
  if (text) add(node, "p", text, "intro");
  return node;
}

const row = (parent, className) => add(parent, "div", undefined, "charts" + (className ? " " + className : ""));

function drawTraining(parent, group, index) {
  const node = section(parent, "While they train", "A line per seed. Outliers, sinks and the mass that goes to nothing are measured as they grow.", `train-${index}`);
  const charts = row(node), nats = "nats per token";
  trainingChart(charts, group, index, "loss", "Training loss", nats);
  trainingChart(charts, group, index, "val_loss", "Validation loss", nats);
  trainingChart(charts, group, index, "max_inf_norm", "Largest activation", "max over blocks of the mean infinity norm");
  trainingChart(charts, group, index, "avg_kurtosis", "Average kurtosis", "of the published tensors; 3: a normal distribution");
  trainingChart(charts, group, index, "sink_rate", "Sink rate", "% of heads and sequences that rest on position 0");
  trainingChart(charts, group, index, "null_mass", "Mass to nothing", "share of attention that no token gets");
  trainingChart(charts, group, index, "grad_norm", "Gradient norm", "before clipping");
  trainingChart(charts, group, index, "max_inf_norm_without_first", "Largest activation without position 0", "");
  trainingChart(charts, group, index, "backcopy_loss", "Back-copy loss", "excess over the best possible, at copies");
  trainingChart(charts, group, index, "bigram_excess", "Bigram excess", "excess over the best possible, elsewhere");
  trainingChart(charts, group, index, "dormant_sink_mass", "Dormant sink mass", "weight on position 0 where the head is idle");
  if (!charts.children.length) node.remove();
}

function drawNoise(parent, group, index) {
  const compared = group.metrics.filter(m => m.compared), paired = group.rows.some(r => r.paired && Object.values(r.paired).some(p => finite(p.low)));
  const node = section(parent, paired ? "Beyond noise?" : "Every run", paired ? "Each variant minus softmax, seed by seed: what the seeds share cancels. An interval that holds zero is no difference beyond noise."
    : "Each dot is a run. With three seeds or more, differences to softmax get intervals here.", `noise-${index}`);
  const charts = row(node);
  compared.forEach(m => stripChart(charts, group, index, m, paired));
  if (!charts.children.length) node.remove();
}

// Choices that all charts of two opened models share.
function makePair(group, index) {
  const sampled = group.runs.filter(r => r.sample && r.sample.tokens);
  const st = state.groups[index] = Object.assign({ a: null, b: null, layer: null, site: "block", form: "spikes", heads: "sink_mass", measure: "inf_norm", model: null, token: null }, state.groups[index]);
  const keyOf = r => r.model + "\n" + r.variant + "\n" + r.seed, byKey = key => sampled.find(r => keyOf(r) === key);
  const pick = wanted => { const r = sampled.find(wanted); return r && keyOf(r); };
  if (!byKey(st.a)) st.a = pick(r => r.variant === "softmax") || (sampled[0] && keyOf(sampled[0])) || null;
  if (!byKey(st.b)) st.b = pick(r => keyOf(r) !== st.a && r.variant === "softmax1") || pick(r => keyOf(r) !== st.a) || st.a;
  const layers = Array.from(new Set([].concat(...sampled.map(r => Object.keys(r.sample.tensors).map(n => /^blocks\.(\d+)\./.exec(n)).filter(Boolean).map(m => Number(m[1])))))).sort((x, y) => x - y);
  if (st.layer === null || !layers.includes(st.layer)) st.layer = loudestLayer(byKey(st.a), layers);
  const listeners = [];
  return {
    st, sampled, keyOf, layers, listeners,
    run: side => byKey(st[side]),
    tensor: () => siteTensor(st.site, st.layer),
    tensorText: () => tensorText(st.site, st.layer),
    layer: () => st.layer,
    form: () => st.form,
    token: () => st.token,
    setToken(t) {
      if (st.token === t) return;
      st.token = t;
      listeners.forEach(f => f(t));
    },
  };
}

// Where there is most to see.
function loudestLayer(run, layers) {
  const t = run && run.measure && run.measure.tensors;
  if (!t || !layers.length) return layers.length ? layers[layers.length - 1] : 0;
  const size = l => { const i = t.name.indexOf(`blocks.${l}.block`); return i >= 0 && finite(t.absmax[i]) ? t.absmax[i] : 0; };
  return layers.reduce((best, l) => size(l) > size(best) ? l : best, layers[0]);
}

function drawInside(parent, data, group, index) {
  const pair = makePair(group, index), st = pair.st;
  if (!pair.sampled.length) return null;
  const sides = pair.sampled.length > 1 ? ["a", "b"] : ["a"]; // nothing stands beside itself
  const node = sides.length > 1 ? section(parent, "Inside two of them", "The same sentence through two models, drawn at one scale. Point at a token or a spike.", `inside-${index}`)
    : section(parent, "Inside", "A sentence through the model. Point at a token or a spike.", `inside-${index}`);
  if (data.without_details) add(node, "p", `For want of room ${data.without_details} runs more show nothing here: \`ghostmax report\` of a run's own folder does.`, "soft");
  const controls = add(node, "div", undefined, "controls"), runs = pair.sampled.map(r => [pair.keyOf(r), runName(group, r)]);
  const mine = [], redraw = () => { tip.hide(); mine.forEach(f => f.update()); refresh.forEach(f => f()); }, refresh = [];
  if (sides.length > 1) {
    choice(controls, "left", runs, st.a, v => { st.a = v; redraw(); });
    choice(controls, "right", runs, st.b, v => { st.b = v; redraw(); });
  }
  choice(controls, "layer", pair.layers.map(l => [l, String(l)]), st.layer, v => { st.layer = Number(v); redraw(); });
  const there = sites.filter(s => pair.sampled.some(r => pair.layers.concat(0).some(l => r.sample.tensors[siteTensor(s, l)])));
  if (!there.includes(st.site)) st.site = there[0] || "block";
  choice(controls, "tensor", there.map(s => [s, siteNames[s]]), st.site, v => { st.site = v; redraw(); });
  switcher(controls, "form", [["spikes", "spikes"], ["heat", "heat"], ["ridges", "3-D"]], st.form, v => { st.form = v; redraw(); });
  const strip = tokenStrip(node, pair);
  const panels = row(node, "two");
  [activationChart, levelsChart, attentionChart].forEach(chart => sides.forEach(side => mine.push(chart(panels, group, index, side, pair))));
  refresh.push(drawLargest(node, group, pair));
  pair.listeners.push(t => {
    Array.from(strip.children).forEach((span, i) => span.classList.toggle("lit", i === t));
    panels.querySelectorAll("svg").forEach(svg => svg.highlight && svg.highlight(t));
  });
  return pair;
}

const modelsOf = group => Array.from(new Set(group.runs.map(r => r.model).filter(m => m !== undefined)));

function drawHeads(parent, group, index) {
  const st = state.groups[index], model = st.model || modelsOf(group)[0];
  const have = Object.keys(headMeasures).filter(m => group.runs.some(r => r.measure && (r.measure.heads || {})[m]));
  if (!have.length) return;
  const node = section(parent, "Which heads rest", "Layer down, head across, mean over seeds.", `heads-${index}`), mine = [];
  const controls = add(node, "div", undefined, "controls"), from = figures.length;
  if (modelsOf(group).length > 1) choice(controls, "model", modelsOf(group).map(m => [m, m]), model, v => { st.model = v; rerender(); });
  if (!have.includes(st.heads)) st.heads = have[0];
  switcher(controls, "measure", have.map(m => [m, headMeasures[m].name]), st.heads, v => { st.heads = v; mine.forEach(f => f.update()); });
  const charts = row(node, "small");
  groupVariants(group).forEach(v => headsChart(charts, group, index, v, model, () => st.heads));
  mine.push(...figures.slice(from));
}

function drawWhere(parent, group, index) {
  const st = state.groups[index], model = st.model || modelsOf(group)[0];
  if (!group.runs.some(r => r.measure && r.model === model)) return;
  const node = section(parent, "Where the outliers sit", "", `where-${index}`), controls = add(node, "div", undefined, "controls"), charts = row(node), from = figures.length;
  let mine = [];
  const known = group.runs.find(r => r.measure).measure.tensors.site || [], there = sites.filter(s => known.includes(s));
  if (!there.includes(st.whereSite)) st.whereSite = there.includes("block") ? "block" : there[0];
  choice(controls, "tensor", there.map(s => [s, siteNames[s]]), st.whereSite, v => { st.whereSite = v; mine.forEach(f => f.update()); });
  choice(controls, "measure", [["inf_norm", "infinity norm"], ["inf_norm_without_first", "infinity norm without position 0"], ["kurtosis", "kurtosis"], ["kurtosis_without_first", "kurtosis without position 0"]],
    st.measure, v => { st.measure = v; mine.forEach(f => f.update()); });
  layersChart(charts, group, index, () => ({ site: st.whereSite, measure: st.measure, model }));
  mine = figures.slice(from);
  positionsChart(charts, group, index, model);
  classesChart(charts, group, index, model);
}

function drawQuantized(parent, group, index) {
  const st = state.groups[index], model = st.model || modelsOf(group)[0];
  if (!group.precisions.length) return;
  const node = section(parent, "What quantization costs", "Simulated rounding of weights and activations on the validation text; each tensor's own cost is measured with all others in f32.", `quantized-${index}`), charts = row(node);
  bitsChart(charts, group, index, model);
  costLayersChart(charts, group, index, model);
  costsChart(charts, group, index, model);
  if (!charts.children.length) node.remove();
}

function drawSizes(parent, group, index) {
  if (modelsOf(group).length < 2 || !group.rows.length) return;
  sizeCharts(row(section(parent, "As models grow", "Outliers that emerge with scale would show here.", `sizes-${index}`)), group, index);
}

function drawGroup(parent, data, group, index) {
  const node = add(parent, "article");
  node.dataset.part = String(index);
  const head = add(node, "header");
  add(head, "h1", groupTitle(data, group));
  add(head, "p", groupSubtitle(group), "soft");
  if (group.apart) add(head, "p", `Kept apart from the first group, because its numbers do not compare: ${group.apart}.`, "apart");
  drawVerdict(node, group);
  drawTables(node, group, index);
  if (typeof d3 === "undefined") {
    add(node, "p", "This build of ghostmax had no d3, so the charts are left out; their numbers are in the files of docs/formats.md.", "soft");
    return;
  }
  drawNoise(node, group, index);
  drawTraining(node, group, index);
  drawInside(node, data, group, index);
  drawHeads(node, group, index);
  drawWhere(node, group, index);
  drawQuantized(node, group, index);
  drawSizes(node, group, index);
}

// ---- the whole ---------------------------------------------------------------------------------------------------------------------------

// Where the reader is, in words that hold for the page drawn anew: what has the keyboard, what is unfolded, how far tables are shifted.
const placeOf = node => [node.tagName, node.getAttribute("aria-label") || node.textContent, (node.closest("article, nav, footer") || { dataset: {} }).dataset.part].join("\n");

function keepPlace(page) {
  const active = page.contains(document.activeElement) ? placeOf(document.activeElement) : null;
  const unfolded = Array.from(page.querySelectorAll("details")).map(d => d.open), shifted = Array.from(page.querySelectorAll(".scroll, .legend")).map(s => [s.scrollLeft, s.scrollTop]);
  return () => {
    page.querySelectorAll("details").forEach((d, i) => { d.open = !!unfolded[i]; });
    page.querySelectorAll(".scroll, .legend").forEach((s, i) => { if (shifted[i]) [s.scrollLeft, s.scrollTop] = shifted[i]; });
    const again = active && Array.from(page.querySelectorAll("button, select, summary")).find(n => placeOf(n) === active);
    if (again) again.focus({ preventScroll: true });
  };
}

let present = null;
const rerender = () => render(present);

function render(data) {
  const page = document.getElementById("page"), top = window.scrollY, restore = keepPlace(page);
  present = data;
  tip.hide();
  page.textContent = "";
  figures = [];
  const names = Array.from(new Set([].concat(...data.groups.map(groupVariants))));
  setVariants(names);
  document.title = (data.groups.length ? groupTitle(data, data.groups[0]) : "report") + " · ghostmax";
  const bar = add(page, "div", undefined, "bar");
  add(bar, "span", "ghostmax", "brand");
  drawLegend(bar, names);
  add(bar, "span", undefined, "live");
  showLive();
  if (data.notes.length) {
    const notes = add(page, "ul", undefined, "notes");
    data.notes.forEach(n => add(notes, "li", n));
  }
  data.groups.forEach((group, index) => drawGroup(page, data, group, index));
  const made = add(page, "footer");
  drawSources(made, data);
  add(made, "p", `Written by ghostmax ${data.version}. Charts: d3. Every figure's numbers are behind “data”; Shift and a variant's name shows it alone.`, "soft");
  hideOff();
  updateAll();
  restore();
  window.scrollTo(0, top);
}

let connected = true;
function showLive() {
  const live = document.querySelector(".live");
  live.hidden = !location.protocol.startsWith("http");
  live.textContent = connected ? "live" : "not connected: the run has ended or is stopped";
  live.classList.toggle("lost", !connected);
}

// Served by `--live`, the page asks for newer numbers; opened from disk it never touches the network.
function follow(text) {
  const again = (newer, there) => {
    connected = there;
    if (newer !== text) render(JSON.parse(newer));
    else showLive();
    setTimeout(() => follow(newer), there ? 2000 : 10000);
  };
  fetch("data.json", { cache: "no-store" }).then(answer => answer.ok ? answer.text() : text).then(newer => again(newer, true), () => again(text, false));
}

let resized = 0, width = document.documentElement.clientWidth;
window.addEventListener("resize", () => {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  clearTimeout(resized);
  resized = setTimeout(updateAll, 120);
});
darkScheme.addListener(() => { if (present) rerender(); });
window.addEventListener("beforeprint", () => { printing = true; rerender(); });
window.addEventListener("afterprint", () => { printing = false; rerender(); });

const given = document.getElementById("data").textContent;
render(JSON.parse(given));
if (location.protocol.startsWith("http")) follow(given);
