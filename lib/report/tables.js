// tables.js -- the verdict, the table with the best of each column marked, and what was run.
"use strict";

function drawVerdict(parent, group) {
  const sentences = group.verdict || [];
  if (!sentences.length) return;
  const node = add(parent, "div", undefined, "verdict"), overall = sentences.filter(s => /(^|: )Overall: /.test(s));
  const lead = overall.length ? overall : sentences.slice(0, 1), rest = sentences.filter(s => !lead.includes(s));
  lead.forEach(s => add(node, "p", s.replace(/Overall: (.)/, (m, first) => first.toUpperCase()), "lead"));
  if (rest.length) {
    const list = add(node, "ul");
    rest.forEach(s => add(list, "li", s));
  }
}

function bestOf(rows, metric) {
  const means = rows.map(r => r[metric.name] && r[metric.name].mean).filter(finite);
  if (!metric.better || means.length < 2 || Math.min(...means) === Math.max(...means)) return NaN;
  return metric.better < 0 ? Math.min(...means) : Math.max(...means);
}

// Two digits, as table.md has them.
const costText = x => (x < 0 ? "" : "+") + minus(x.toFixed(Math.min(6, decimals(Math.abs(x), 2))));

// A table's names of columns; a star behind those of words.
function drawHead(parent, names) {
  names.forEach(name => add(parent, "th", name.replace("*", ""), name.endsWith("*") ? "word" : ""));
}

// costliest: a last column with the tensor that costs most when it alone is quantized.
function drawTable(parent, key, caption, rows, metrics, costliest) {
  const used = metrics.filter(m => rows.some(r => r[m.name] && finite(r[m.name].mean)));
  if (!used.length) return;
  const table = add(add(parent, "div", undefined, "scroll"), "table", undefined, "numbers");
  table.dataset.table = key;
  add(table, "caption", caption);
  const head = add(add(table, "thead"), "tr"), models = new Set(rows.map(r => r.model)).size > 1;
  add(head, "th", "variant");
  if (models) add(head, "th", "model", "word");
  if (!costliest) add(head, "th", "params");
  used.forEach(m => add(head, "th", m.title + (m.better ? (m.better < 0 ? "\u00a0↓" : "\u00a0↑") : "")));
  if (costliest) add(head, "th", "W8A8 costs most at", "word");
  const body = add(table, "tbody");
  for (const row of rows) {
    const tr = add(body, "tr"), name = add(tr, "td");
    tr.dataset.variant = row.variant;
    add(name, "span", "", "swatch").style.background = row.quantizer ? "transparent" : color(row.variant);
    add(name, "span", row.variant);
    if (row.diverged) add(name, "span", " diverged: seed " + row.diverged.join(", "), "bad");
    if (models) add(tr, "td", row.model, "word");
    if (!costliest) add(tr, "td", countText(row.params));
    for (const m of used) {
      const s = row[m.name], best = s && s.mean === bestOf(rows.filter(r => r.model === row.model), m), td = add(tr, "td", undefined, best ? "best" : "");
      const [text, spread] = m.name.endsWith("tokens_per_s") && s && finite(s.mean) ? [countText(s.mean), ""] : spreadText(s);
      add(td, "span", text);
      if (spread) add(td, "small", " ± " + spread);
      if (s && s.values && s.values.length > 1) td.title = "seeds: " + s.values.map(show).join(", ");
    }
    if (costliest) {
      const td = add(tr, "td", row.costliest ? row.costliest.tensor + " " : "–", "word");
      if (row.costliest) add(td, "small", costText(row.costliest.loss_increase.mean));
    }
  }
}

function drawTables(parent, group, index) {
  const of = bit => group.metrics.filter(m => m.tables & bit); // GM_TABLE_* of rows.h
  if (!group.rows.length) return;
  drawTable(parent, `results-${index}`, "Loss, outliers, quantized perplexity", group.rows, of(1), false);
  drawTable(parent, `more-${index}`, "Kurtosis, weights, attention, speed", group.rows, of(2), false);
  drawTable(parent, `quantized-${index}`, "Quantized", group.rows.concat(group.ablations), of(4), group.rows.some(r => r.costliest));
}

// The largest activations of all, with the words around them.
function drawLargest(parent, group, pair) {
  const node = add(parent, "div", undefined, "scroll");
  const update = () => {
    node.textContent = "";
    const sides = ["a", "b"].map(pair.run).filter((r, i, all) => r && all.indexOf(r) === i && r.measure && (r.measure.largest || []).length);
    if (!sides.length) return;
    const table = add(node, "table", undefined, "numbers");
    add(table, "caption", "The largest activations, and where they stand in the text");
    const head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
    drawHead(head, ["run*", "value", "tensor*", "dim", "position", "in the text*"]);
    sides.forEach(run => run.measure.largest.slice(0, 5).forEach(v => {
      const tr = add(body, "tr"), name = add(tr, "td");
      add(name, "span", "", "swatch").style.background = color(run.variant);
      add(name, "span", runName(group, run));
      add(tr, "td", show(v.value));
      add(tr, "td", v.tensor, "word");
      add(tr, "td", String(v.dim));
      add(tr, "td", String(v.position));
      const text = add(tr, "td", undefined, "word context");
      add(text, "span", (v.before || "").slice(-40));
      add(text, "mark", tokenText(v.text));
      add(text, "span", (v.after || "").slice(0, 30));
    }));
  };
  update();
  return update;
}

// ---- what was run ----------------------------------------------------------------------------------------------------------------------

// "gpt2-nano: 3 layers, 3 heads, width 48, ffn 192, vocab 2000"
function shapeText(entry) {
  const s = entry.shape || {};
  return finite(s.layers) ? `${entry.model}: ${plural(s.layers, "layer")}, ${plural(s.heads, "head")}, width ${s.width}, ffn ${s.ffn}, vocab ${s.vocab}` : "";
}

function drawSources(parent, data) {
  add(parent, "h2", "What was run").id = "run";
  const list = add(parent, "dl", undefined, "sources");
  data.sources.forEach(s => {
    add(list, "dt", s.folder + " ");
    const dd = add(list, "dd");
    if (s.command) add(add(dd, "p"), "code", s.command);
    const m = s.machine || {}, words = [s.kind, s.version && "ghostmax " + s.version + (s.commit ? " (" + s.commit + ")" : ""), s.time && s.time.replace("T", " ").replace("Z", " UTC"),
      m.isa && m.isa + " kernels", m.gemm, m.threads && plural(m.threads, "thread"), m.compiler && "compiler " + m.compiler, m.system].filter(Boolean);
    add(dd, "p", words.join(" · "), "soft");
  });
  data.groups.forEach((group, index) => {
    const config = add(parent, "p", undefined, "soft config");
    const facts = Object.entries(group.config).map(([k, v]) => `${k} ${v}`).concat(group.kind === "audit" ? [] : seedsText(group), group.models.map(shapeText).filter(Boolean));
    config.textContent = (data.groups.length > 1 ? `Group ${index + 1}: ` : "") + facts.join(" · ");
  });
  const details = add(parent, "details"), runs = d3Merge(data.groups.map((g, i) => g.runs.map(r => [g, i, r])));
  add(details, "summary", plural(runs.length, "run"));
  const table = add(add(details, "div", undefined, "scroll"), "table", undefined, "numbers"), head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
  drawHead(head, ["run*", "model*", "state*", "step", "time", "folder*", "missing*"]);
  runs.forEach(([group, , r]) => {
    const tr = add(body, "tr"), name = add(tr, "td");
    add(name, "span", "", "swatch").style.background = color(r.variant);
    add(name, "span", runName(group, r));
    add(tr, "td", r.model, "word");
    add(tr, "td", r.state + (r.diverged_at ? ` at step ${r.diverged_at}` : ""), r.state === "finished" ? "word" : "word bad");
    add(tr, "td", finite(r.step) ? `${r.step} of ${finite(r.steps) ? r.steps : "?"}` : "–");
    add(tr, "td", secondsText(r.seconds));
    add(tr, "td", data.sources[r.source].folder + (r.folder ? "/runs/" + r.folder : ""), "word");
    add(tr, "td", (r.missing || []).join(", "), "word bad");
  });
}

const d3Merge = lists => [].concat(...lists);
