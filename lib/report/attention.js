// attention.js -- what heads look at: maps of a sample with the mass that goes to nothing as a column of its own, and grids over all heads.
"use strict";

// Weights [T, T] (0..1) and null mass [T] of one head of the sample.
function attentionOf(run, layer, head) {
  const stored = run && run.sample && (run.sample.heads || {})[layer];
  if (!stored || head >= stored.heads) return null;
  if (!stored.bytes) stored.bytes = { weights: bytesOf(stored.weights), nulls: bytesOf(stored.null_mass) };
  const T = run.sample.tokens.length, triangle = T * (T + 1) / 2;
  return {
    T,
    weight: (i, j) => j > i ? 0 : stored.bytes.weights[head * triangle + i * (i + 1) / 2 + j] / 255,
    nothing: i => stored.bytes.nulls[head * T + i] / 255,
  };
}

const headCount = (run, layer) => run && run.sample && (run.sample.heads || {})[layer] ? run.sample.heads[layer].heads : 0;

// All heads of the chosen layer, of one side.
function attentionChart(parent, group, index, side, pair) {
  const heads = () => headCount(pair.run(side), pair.layer());
  const layout = w => {
    const n = Math.max(1, heads()), columns = Math.max(1, Math.min(n, Math.floor(w / (n > 4 ? 120 : 190)))), size = Math.floor(Math.min(280, w / columns - 12));
    return { columns, size, rows: Math.ceil(n / columns) };
  };
  return figure(parent, {
    key: `attention-${index}-${side}`, className: "panel",
    title: () => pair.run(side) ? `${runName(group, pair.run(side))}: attention of layer ${pair.layer()}` : "no sample",
    note: "query down, key across; the amber column at the left is the mass given to nothing",
    height: w => { const l = layout(w); return heads() ? l.rows * (l.size + 22) + 4 : 60; },
    table: () => {
      const rows = [];
      d3.range(heads()).forEach(head => {
        const a = attentionOf(pair.run(side), pair.layer(), head);
        for (let i = 0; i < a.T; i++) {
          rows.push([head, i, "nothing", Number(a.nothing(i).toFixed(3))]);
          for (let j = 0; j <= i; j++) rows.push([head, i, String(j), Number(a.weight(i, j).toFixed(3))]);
        }
      });
      return { columns: ["head", "query", "key", "weight"], rows };
    },
    draw(svg, w, h) {
      const run = pair.run(side), c = ink(), l = layout(w), blues = rampTable(ramp("size")), ambers = rampTable(ramp("null"));
      if (!heads()) return label(svg, w / 2, 30, "no sample of this layer", "middle");
      d3.range(heads()).forEach(head => {
        const a = attentionOf(run, pair.layer(), head), left = (head % l.columns) * (l.size + 12), top = Math.floor(head / l.columns) * (l.size + 22) + 16;
        const band = Math.max(5, Math.round(l.size / 24)), map = { left: left + band + 3, right: left + l.size, top, bottom: top + l.size - band - 3 };
        const nulls = d3.mean(d3.range(a.T), a.nothing), first = d3.mean(d3.range(a.T), i => a.weight(i, 0));
        const small = l.size < 150, [share, where] = nulls > 0.0005 ? [nulls, "nothing"] : [first, small ? "first" : "the first"];
        label(svg, left, top - 5, small ? String(head) : `head ${head}`, "start", c.text);
        label(svg, left + l.size, top - 5, small ? `${where} ${Math.round(100 * share)} %` : `${show(Number((100 * share).toFixed(1)))} % to ${where}`, "end");
        raster(svg, 1, a.T, { left, right: left + band, top: map.top, bottom: map.bottom }, (x, i) => ambers[Math.round(255 * Math.sqrt(a.nothing(i)))]).attr("class", "null-column");
        raster(svg, a.T, a.T, map, (j, i) => j > i ? [0, 0, 0, 0] : blues[Math.round(255 * Math.sqrt(a.weight(i, j)))]).attr("class", "mark");
        svg.append("path").attr("d", `M${map.left},${map.top}V${map.bottom}H${map.right}`).attr("fill", "none").attr("stroke", c.line);
        svg.append("rect").attr("x", left).attr("y", map.top).attr("width", band).attr("height", map.bottom - map.top).attr("fill", "none").attr("stroke", c.line);
        const cell = (map.right - map.left) / a.T, spot = svg.append("rect").attr("fill", "none").attr("stroke", c.text).attr("opacity", 0).attr("pointer-events", "none");
        hoverArea(svg, { left, right: map.right, top: map.top, bottom: map.bottom }, (event, px, py) => {
          const i = Math.max(0, Math.min(a.T - 1, Math.floor((py - map.top) / (map.bottom - map.top) * a.T))), j = Math.min(a.T - 1, Math.floor((px - map.left) / cell));
          const token = t => `“${tokenText(run.sample.tokens[t])}”`, lines = [[`head ${head}, query ${i}`, token(i), color(run.variant)]];
          if (px < map.left - 1 || j > i) lines.push(["to nothing", show(Number(a.nothing(i).toFixed(3)))]);
          else lines.push([`key ${j}`, token(j)], ["weight", show(Number(a.weight(i, j).toFixed(3)))], ["to nothing", show(Number(a.nothing(i).toFixed(3)))]);
          spot.attr("x", px < map.left ? left : map.left).attr("y", map.top + i * (map.bottom - map.top) / a.T).attr("width", px < map.left ? band : map.right - map.left)
            .attr("height", (map.bottom - map.top) / a.T).attr("opacity", 0.8);
          pair.setToken(i);
          tip.show(event, lines);
        }, () => { spot.attr("opacity", 0); pair.setToken(null); });
      });
    },
  });
}

// ---- layer by head: one number per head ------------------------------------------------------------------------------------------------

const headMeasures = {
  sink_mass: { name: "mass on position 0", kind: "size" },
  sink_rate: { name: "sink rate, %", kind: "size" },
  null_mass: { name: "mass to nothing", kind: "null" },
  entropy: { name: "entropy", kind: "size" },
  noop_score: { name: "share of the stream", kind: "size" },
};

function headCells(group, variant, model, measure) {
  const cells = new Map();
  group.runs.filter(r => r.variant === variant && r.model === model && r.measure).forEach(r => {
    const t = r.measure.heads;
    (t.layer || []).forEach((layer, i) => {
      const key = layer + "," + t.head[i], cell = cells.get(key) || { layer, head: t.head[i], values: [] };
      if (t[measure] && finite(t[measure][i])) cell.values.push(t[measure][i]);
      cells.set(key, cell);
    });
  });
  return Array.from(cells.values());
}

const cellText = x => x < 0.005 ? "0" : x < 1 ? x.toFixed(2).replace(/^0/, "") : Number(x.toPrecision(2)).toString();

// A small grid per variant, all at one scale.
function headsChart(parent, group, index, variant, model, choose) {
  const cells = () => headCells(group, variant, model, choose());
  if (!headCells(group, variant, model, "sink_mass").length) return;
  const all = cells(), layers = d3.max(all, c => c.layer) + 1, heads = d3.max(all, c => c.head) + 1;
  const greatest = () => Math.max(1e-3, ...d3.merge(groupVariants(group).map(v => headCells(group, v, model, choose()).map(c => mean(c.values)).filter(finite))));
  const sizeFor = w => Math.max(7, Math.min(46, Math.floor((w - 34) / heads)));
  figure(parent, {
    key: `heads-${index}-${model}-${variant}`, className: "small", title: variant, note: () => `${headMeasures[choose()].name}; full shade: ${show(Number(greatest().toPrecision(2)))}`,
    height: w => layers * sizeFor(w) + 26,
    table: () => ({ columns: ["layer", "head", choose()], rows: cells().map(c => [c.layer, c.head, mean(c.values)]) }),
    draw(svg, w, h) {
      const size = sizeFor(w), c = ink(), paint = ramp(headMeasures[choose()].kind), max = greatest();
      if (!shown(variant)) return label(svg, 30, 20, "(off)");
      for (const cell of cells()) {
        const value = mean(cell.values), share = Math.min(1, value / max), x = 30 + cell.head * size, y = 4 + cell.layer * size;
        svg.append("rect").attr("class", "mark").attr("x", x).attr("y", y).attr("width", size - 1.5).attr("height", size - 1.5).attr("rx", 2).attr("fill", finite(value) ? paint(share) : "none").attr("stroke", c.line).attr("stroke-width", 0.6)
          .on("mousemove", () => tip.show(d3.event, [[`layer ${cell.layer}, head ${cell.head}`, show(value), color(variant)]].concat(cell.values.length > 1 ? [["seeds", cell.values.map(show).join(", ")]] : [])))
          .on("mouseleave", () => tip.hide());
        if (size >= 30 && finite(value))
          label(svg, x + size / 2 - 0.7, y + size / 2 + 3.5, cellText(value), "middle", d3.lab(paint(share)).l > 55 ? "#1b1f24" : "#fff").attr("pointer-events", "none").attr("font-size", 10.5);
      }
      const every = Math.ceil(14 / size);
      d3.range(0, layers, every).forEach(l => label(svg, 24, 4 + (l + 0.5) * size + 3, String(l), "end"));
      d3.range(0, heads, every).forEach(k => label(svg, 30 + (k + 0.5) * size, 4 + layers * size + 13, String(k), "middle"));
    },
  });
}
