// curves.js -- lines and dots: training, strips and intervals, layers, sizes, bits, costs. Marks carry the class "mark".
"use strict";

const box = (w, h, left, bottom) => ({ left: left || 46, right: w - 10, top: 10, bottom: h - (bottom || 36) });

// ---- training ----------------------------------------------------------------------------------------------------------------------

function pointsOf(run, field) {
  const log = (run.log || {})[field];
  return log ? log[0].map((step, i) => ({ step, x: step * (run.tokens_per_step || 1), y: log[1][i] })) : [];
}

// A thin line per seed, and where seeds share their steps a thick one for their mean.
function meanLine(lines) {
  if (lines.length < 2 || lines.some(l => l.points.length !== lines[0].points.length || l.points.some((p, i) => p.x !== lines[0].points[i].x))) return null;
  return lines[0].points.map((p, i) => ({ x: p.x, step: p.step, y: mean(lines.map(l => l.points[i].y)) }));
}

function trainingChart(parent, group, index, field, title, note) {
  const lines = group.runs.map(run => ({ run, points: pointsOf(run, field) })).filter(l => l.points.some(p => finite(p.y)));
  if (!lines.length || (field === "null_mass" && lines.every(l => l.points.every(p => !p.y)))) return;
  figure(parent, {
    key: `train-${index}-${field}`, title, note, height: 210, variants: () => lines.map(l => l.run.variant),
    table: () => ({
      columns: ["model", "variant", "seed", "step", "tokens", field],
      rows: d3.merge(lines.map(l => l.points.map(p => [l.run.model, l.run.variant, l.run.seed, p.step, p.x, p.y]))),
    }),
    draw(svg, w, h) {
      const b = box(w, h), here = lines.filter(l => shown(l.run.variant)), c = ink();
      const all = d3.merge(here.map(l => l.points)), xs = all.map(p => p.x);
      const x = d3.scaleLinear().domain(xs.length ? [Math.min(0, d3.min(xs)), d3.max(xs) || 1] : [0, 1]).range([b.left, b.right]);
      const y = scaleOf(all.map(p => p.y), [b.bottom, b.top], 12);
      axisY(svg, y, b, { values: logTicks(y), text: y.base ? show : undefined });
      axisX(svg, x, b, { text: short, label: "tokens" });
      const path = d3.line().defined(p => finite(p.y) && (!y.base || p.y > 0)).x(p => x(p.x)).y(p => y(p.y));
      const byVariant = d3.nest().key(l => l.run.variant + "\n" + l.run.model).entries(here);
      for (const { values } of byVariant) {
        const paint = color(values[0].run.variant), average = meanLine(values);
        for (const l of values) {
          const known = l.points.filter(p => finite(p.y));
          if (known.length === 1)
            svg.append("circle").attr("class", "mark").attr("cx", x(known[0].x)).attr("cy", y(known[0].y)).attr("r", 3).attr("fill", paint);
          else
            svg.append("path").attr("class", "mark").attr("d", path(l.points)).attr("fill", "none").attr("stroke", paint)
              .attr("stroke-dasharray", dash(l.run.variant)).attr("stroke-width", average ? 0.9 : 1.6).attr("stroke-opacity", average ? 0.5 : 0.9);
        }
        if (average)
          svg.append("path").attr("class", "mean").attr("d", path(average)).attr("fill", "none").attr("stroke", paint).attr("stroke-width", 2)
            .attr("stroke-dasharray", dash(values[0].run.variant));
      }
      const cross = svg.append("line").attr("y1", b.top).attr("y2", b.bottom).attr("stroke", c.soft).attr("stroke-dasharray", "2 2").attr("opacity", 0);
      hoverArea(svg, b, (event, px, py) => {
        const near = here.map(l => {
          const p = l.points[d3.scan(l.points, (p1, p2) => Math.abs(x(p1.x) - px) - Math.abs(x(p2.x) - px))];
          return { l, p };
        }).filter(n => finite(n.p.y));
        if (!near.length) return tip.hide();
        const at = near[d3.scan(near, (n1, n2) => Math.abs(x(n1.p.x) - px) - Math.abs(x(n2.p.x) - px))].p;
        cross.attr("x1", x(at.x)).attr("x2", x(at.x)).attr("opacity", 0.8);
        near.sort((n1, n2) => Math.abs(y(n1.p.y) - py) - Math.abs(y(n2.p.y) - py));
        const listed = near.slice(0, 12).sort((n1, n2) => n2.p.y - n1.p.y);
        tip.show(event, [[`step ${at.step}, ${countText(at.x)} tokens`]].concat(listed.map(n => [runName(group, n.l.run), show(n.p.y), color(n.l.run.variant)])));
      }, () => cross.attr("opacity", 0));
    },
  });
}

function hoverArea(svg, b, move, leave) {
  svg.append("rect").attr("class", "hover").attr("x", b.left).attr("y", b.top).attr("width", Math.max(0, b.right - b.left)).attr("height", Math.max(0, b.bottom - b.top))
    .attr("fill", "none").attr("pointer-events", "all")
    .on("mousemove", function () { const [px, py] = d3.mouse(this); move(d3.event, px, py); })
    .on("touchstart touchmove", function () { const t = d3.touches(this)[0]; if (t) move(d3.event.touches[0], t[0], t[1]); })
    .on("mouseleave touchend", () => { tip.hide(); if (leave) leave(); });
}

// ---- one metric: every seed, or the paired difference to softmax with its interval ---------------------------------------------------

function rowLabel(group, row) {
  return group.models.length > 1 ? row.variant + " · " + row.model : row.variant;
}

function differences(group, row, metric) {
  const base = group.rows.find(r => r.variant === "softmax" && r.model === row.model);
  const at = new Map(base ? base.runs.map((r, i) => [r.seed, base[metric].values[i]]) : []);
  return row.runs.map((r, i) => finite(row[metric].values[i]) && finite(at.get(r.seed)) ? { seed: r.seed, value: row[metric].values[i] - at.get(r.seed) } : null).filter(Boolean);
}

function stripChart(parent, group, index, metric, paired) {
  const rows = group.rows.filter(r => paired ? r.paired && finite((r.paired[metric.name] || {}).low) : r[metric.name] && r[metric.name].values.some(finite));
  if (!rows.length) return;
  const left = 12 + 6.6 * Math.min(22, d3.max(rows, r => rowLabel(group, r).length));
  figure(parent, {
    key: `${paired ? "paired" : "strip"}-${index}-${metric.name}`, title: metric.title + (paired ? ", minus softmax" : ""),
    note: paired ? "bar: 95% interval; filled where it excludes 0" : metric.better ? (metric.better < 0 ? "lower is better" : "higher is better") : "",
    height: 32 + 24 * rows.length,
    table: () => paired
      ? { columns: ["model", "variant", "difference", "low", "high", "relative", "pairs"], rows: rows.map(r => { const p = r.paired[metric.name]; return [r.model, r.variant, p.difference, p.low, p.high, p.relative, p.pairs]; }) }
      : { columns: ["model", "variant", "seed", metric.name], rows: d3.merge(rows.map(r => r.runs.map((run, i) => [r.model, r.variant, run.seed, r[metric.name].values[i]]))) },
    draw(svg, w, h) {
      const here = rows.filter(r => shown(r.variant)), b = { left: Math.min(left, w * 0.42), right: w - 14, top: 6 }, c = ink();
      const y = d3.scaleBand().domain(d3.range(here.length)).range([b.top, b.top + 24 * here.length]);
      const dots = here.map(r => paired ? differences(group, r, metric.name) : r.runs.map((run, i) => ({ seed: run.seed, value: r[metric.name].values[i] })).filter(p => finite(p.value)));
      const all = d3.merge(dots).map(p => p.value).concat(paired ? d3.merge(here.map(r => [r.paired[metric.name].low, r.paired[metric.name].high])).concat(0) : []);
      const x = scaleOf(all, [b.left + 6, b.right - 6], paired ? 0 : 30), bottom = b.top + 24 * here.length + 2;
      axisX(svg, x, { left: b.left, right: b.right, bottom }, { ticks: Math.max(2, Math.floor((b.right - b.left) / 70)), values: logTicks(x, 5), text: x.base ? show : undefined });
      if (paired) svg.append("line").attr("x1", x(0)).attr("x2", x(0)).attr("y1", b.top).attr("y2", bottom).attr("stroke", c.soft);
      here.forEach((r, i) => {
        const middle = y(i) + 12, paint = color(r.variant), p = paired && r.paired[metric.name], m = paired ? p.difference : r[metric.name].mean;
        const name = rowLabel(group, r);
        label(svg, b.left - 8, middle + 4, fitting(name, b.left - 8), "end", c.text);
        svg.append("line").attr("x1", b.left).attr("x2", b.right).attr("y1", middle).attr("y2", middle).attr("stroke", c.faint);
        if (paired)
          svg.append("line").attr("class", "interval").attr("x1", x(p.low)).attr("x2", x(p.high)).attr("y1", middle).attr("y2", middle).attr("stroke", paint).attr("stroke-width", 3).attr("stroke-linecap", "round").attr("stroke-opacity", 0.55);
        dots[i].forEach(d => svg.append("circle").attr("class", "mark").attr("cx", x(d.value)).attr("cy", middle).attr("r", paired ? 2 : 3.5).attr("fill", paint).attr("fill-opacity", 0.6));
        if (paired) {
          const sure = p.low > 0 || p.high < 0;
          svg.append("circle").attr("class", "mean").attr("cx", x(m)).attr("cy", middle).attr("r", 5).attr("fill", sure ? paint : c.ground).attr("stroke", paint).attr("stroke-width", 1.8);
        } else if (dots[i].length > 1)
          svg.append("line").attr("class", "mean").attr("x1", x(m)).attr("x2", x(m)).attr("y1", middle - 8).attr("y2", middle + 8).attr("stroke", paint).attr("stroke-width", 2.5);
        svg.append("rect").attr("class", "hover").attr("x", 0).attr("y", y(i)).attr("width", w).attr("height", 24).attr("fill", "none").attr("pointer-events", "all")
          .on("mousemove", () => tip.show(d3.event, [[name, undefined, paint]].concat(paired
            ? [["difference", show(p.difference)], ["95% interval", `${show(p.low)} to ${show(p.high)}`], ["relative", show(100 * p.relative) + " %"]]
            : dots[i].map(d => ["seed " + d.seed, show(d.value)]).concat(dots[i].length > 1 ? [["mean ± std", spreadText(r[metric.name]).join(" ± ")]] : []))))
          .on("mouseleave", () => tip.hide());
      });
    },
  });
}

// ---- lines over few places: layers, sizes, precisions -----------------------------------------------------------------------------------

// series: [{name, variant, points: [{x, y, low, high}], dashed}]; ticks: [[x, text]] or null for a log axis.
function placesChart(parent, spec) {
  figure(parent, {
    key: spec.key, title: spec.title, note: spec.note, height: 230, className: spec.className, variants: () => spec.series().map(s => s.variant),
    table: () => {
      const series = spec.series();
      return { columns: [spec.what, "series", "mean", "low", "high"], rows: d3.merge(series.map(s => s.points.map(p => [spec.text ? spec.text(p.x) : p.x, s.name, p.y, p.low, p.high]))) };
    },
    draw(svg, w, h) {
      const series = spec.series().filter(s => shown(s.variant)), b = box(w, h), all = d3.merge(series.map(s => s.points)), c = ink();
      const xs = Array.from(new Set(all.map(p => p.x))).sort(d3.ascending);
      const x = spec.logX ? d3.scaleLog().domain([(xs[0] || 1) / 1.3, (xs[xs.length - 1] || 10) * 1.3]).range([b.left, b.right])
        : d3.scalePoint().domain(xs).range([b.left, b.right]).padding(0.4);
      const y = scaleOf(all.map(p => p.y).concat(all.map(p => p.low), all.map(p => p.high)).concat(spec.zero ? 0 : []), [b.bottom, b.top], spec.zero ? 0 : 12);
      axisY(svg, y, b, { values: logTicks(y), text: y.base ? show : undefined });
      axisX(svg, x, b, { values: spec.ticks || (spec.logX ? logTicks(x, 6) : xs), text: spec.text || short, label: spec.what });
      series.forEach((s, k) => {
        const paint = color(s.variant), shift = spec.logX ? 0 : (k - (series.length - 1) / 2) * Math.min(5, 24 / series.length);
        const points = s.points.filter(p => finite(p.y)).sort((p, q) => p.x - q.x);
        svg.append("path").attr("class", "mark").attr("d", d3.line().x(p => x(p.x) + shift).y(p => y(p.y))(points)).attr("fill", "none").attr("stroke", paint)
          .attr("stroke-width", 1.6).attr("stroke-dasharray", s.dashed ? "4 3" : dash(s.variant));
        for (const p of points) {
          if (finite(p.low) && p.high > p.low)
            svg.append("line").attr("x1", x(p.x) + shift).attr("x2", x(p.x) + shift).attr("y1", y(p.low)).attr("y2", y(p.high)).attr("stroke", paint).attr("stroke-opacity", 0.6);
          svg.append("circle").attr("class", "point").attr("cx", x(p.x) + shift).attr("cy", y(p.y)).attr("r", 3.2).attr("fill", s.dashed ? c.ground : paint).attr("stroke", paint);
        }
      });
      hoverArea(svg, b, (event, px) => {
        if (!xs.length) return;
        const at = xs[d3.scan(xs, (p, q) => Math.abs(x(p) - px) - Math.abs(x(q) - px))];
        const lines = series.map(s => [s, s.points.find(p => p.x === at)]).filter(([, p]) => p && finite(p.y)).sort((p, q) => q[1].y - p[1].y);
        tip.show(event, [[spec.text ? `${spec.what} ${spec.text(at)}` : `${countText(at)} ${spec.what}`]].concat(lines.slice(0, 14).map(([s, p]) => [s.name, show(p.y) + (p.high > p.low ? ` (${show(p.low)} to ${show(p.high)})` : ""), color(s.variant)])));
      });
    },
  });
}

// Seeds of one place: their mean, least and greatest.
function spanOf(x, values) {
  const known = values.filter(finite);
  return known.length ? [{ x, y: mean(known), low: d3.min(known), high: d3.max(known) }] : [];
}

function layersChart(parent, group, index, choose) {
  const titles = { inf_norm: "Infinity norm", inf_norm_without_first: "Infinity norm without position 0", kurtosis: "Kurtosis", kurtosis_without_first: "Kurtosis without position 0" };
  placesChart(parent, {
    key: `layers-${index}`, what: "layer", title: () => `${titles[choose().measure]} of ${siteNames[choose().site] || choose().site} by layer`,
    note: "mean over seeds; the bar spans them", text: String,
    series: () => {
      const { site, measure, model } = choose();
      return groupVariants(group).map(variant => {
        const by = new Map();
        group.runs.filter(r => r.variant === variant && r.model === model && r.measure).forEach(r => {
          const t = r.measure.tensors;
          (t.site || []).forEach((s, i) => {
            if (s === site && finite((t[measure] || [])[i])) by.set(t.layer[i], (by.get(t.layer[i]) || []).concat(t[measure][i]));
          });
        });
        return { name: variant, variant, points: d3.merge(Array.from(by, ([layer, values]) => spanOf(layer, values))) };
      }).filter(s => s.points.length);
    },
  });
}

// Norms of the residual stream by position: what rests on the first token stands out at the left.
function positionsChart(parent, group, index, model) {
  const sampled = group.runs.filter(r => r.model === model && r.measure && r.measure.positions && Object.keys(r.measure.positions).length);
  if (!sampled.length) return;
  const last = d3.max(sampled, run => d3.max(d3.values(run.measure.positions), at => d3.max(at.from)));
  const octaves = Math.floor(Math.log2(Math.max(1, last))) + 1;
  const positions = [1].concat(d3.range(0, octaves, Math.ceil(octaves / 8)).map(e => Math.pow(2, e) + 1));
  const loudest = run => Object.entries(run.measure.positions).sort((p, q) => d3.max(q[1].inf_norm) - d3.max(p[1].inf_norm))[0];
  placesChart(parent, {
    key: `positions-${index}-${model}`, what: "position", title: "Infinity norm by position", note: "of the block output where it is largest, one seed", logX: true,
    ticks: positions, text: at => String(at - 1), // a log axis has no 0
    series: () => sampled.map(run => {
      const [name, at] = loudest(run);
      return { name: `${run.variant}, ${name}`, variant: run.variant, points: at.from.map((p, i) => ({ x: p + 1, y: at.inf_norm[i], low: at.inf_norm[i], high: at.inf_norm[i] })) };
    }),
  });
}

function sizeCharts(parent, group, index) {
  const metrics = group.metrics.filter(m => m.by_size);
  metrics.forEach(metric => placesChart(parent, {
    key: `size-${index}-${metric.name}`, what: "parameters", title: metric.title + " by size", note: "mean ± std over seeds", logX: true,
    series: () => groupVariants(group).map(variant => ({
      name: variant, variant,
      points: group.rows.filter(r => r.variant === variant && finite(r.params) && finite(r[metric.name].mean)).map(r => {
        const s = r[metric.name], d = finite(s.std) ? s.std : 0;
        return { x: r.params, y: s.mean, low: s.mean - d, high: s.mean + d };
      }),
    })).filter(s => s.points.length),
  }));
}

// ---- quantization --------------------------------------------------------------------------------------------------------------------

// Most bits first: f32, then weights' and activations' bits.
function precisionOrder(group) {
  const bits = name => { const m = /^w(\d+)a(\d+)$/.exec(name); return m ? Number(m[1]) + Number(m[2]) : 0; };
  return ["f32"].concat(group.precisions.slice().sort((a, b) => bits(b) - bits(a)));
}

function bitsChart(parent, group, index, model) {
  const order = precisionOrder(group);
  if (order.length < 2) return;
  const value = (row, p) => p === "f32" ? row.ppl : row[p + "_ppl"];
  placesChart(parent, {
    key: `bits-${index}-${model}`, what: "precision", title: "Perplexity against bits", note: "W8A8: weights and activations in 8 bits; dashed: plain softmax, quantized with care",
    text: i => order[i] === "f32" ? "f32" : order[i].toUpperCase(),
    series: () => group.rows.filter(r => r.model === model).map(r => ({ row: r, variant: r.variant, name: r.variant, dashed: false }))
      .concat(group.ablations.filter(r => r.model === model).map(r => ({ row: r, variant: "softmax", name: r.variant, dashed: true })))
      .map(s => Object.assign(s, {
        points: d3.merge(order.map((p, i) => {
          const v = value(s.row, p);
          return v && finite(v.mean) ? [{ x: i, y: v.mean, low: v.mean - (v.std || 0), high: v.mean + (v.std || 0) }] : [];
        })),
      })).filter(s => s.points.length),
  });
}

function costsOf(group, model) {
  const costs = new Map();
  group.runs.filter(r => r.model === model).forEach(r => Object.entries(r.costs || {}).forEach(([tensor, x]) => {
    const by = costs.get(tensor) || new Map();
    by.set(r.variant, (by.get(r.variant) || []).concat(x));
    costs.set(tensor, by);
  }));
  return costs;
}

function costLayersChart(parent, group, index, model) {
  const costs = costsOf(group, model);
  if (!costs.size) return;
  placesChart(parent, {
    key: `cost-layers-${index}-${model}`, what: "layer", title: "Loss added by quantizing one tensor, summed by layer", note: "nats; each tensor alone in 8 bits, the rest in f32", zero: true, text: String,
    series: () => groupVariants(group).map(variant => {
      const by = new Map();
      costs.forEach((seeds, tensor) => {
        const layer = /^blocks\.(\d+)\./.exec(tensor);
        if (layer && seeds.has(variant)) by.set(Number(layer[1]), (by.get(Number(layer[1])) || 0) + (mean(seeds.get(variant)) || 0));
      });
      return { name: variant, variant, points: Array.from(by, ([x, y]) => ({ x, y, low: y, high: y })) };
    }).filter(s => s.points.length),
  });
}

// The dots of several variants in rows of anything.
function dotRows(parent, spec) {
  figure(parent, {
    key: spec.key, title: spec.title, note: spec.note, className: spec.className, height: () => 30 + 22 * Math.max(1, spec.rows().length),
    variants: () => d3.merge(spec.rows().map(r => r.dots.map(d => d.variant))),
    table: () => ({ columns: [spec.what, "variant", spec.measure], rows: d3.merge((spec.allRows || spec.rows)().map(r => r.dots.map(d => [r.name, d.variant, d.value]))) }),
    draw(svg, w, h) {
      const rows = spec.rows(), c = ink(), left = Math.min(w * 0.45, 14 + 6.4 * (d3.max(rows, r => r.name.length) || 0)), bottom = 6 + 22 * rows.length;
      const dots = d3.merge(rows.map(r => r.dots)).filter(d => shown(d.variant) && finite(d.value));
      const x = spec.log ? d3.scaleLog().domain([Math.min(0.5, d3.min(dots, d => d.value > 0 ? d.value : Infinity) || 0.5), Math.max(2, d3.max(dots, d => d.value) || 2)]).nice().range([left, w - 14])
        : d3.scaleLinear().domain(d3.extent(dots.map(d => d.value).concat(0))).nice().range([left, w - 14]);
      axisX(svg, x, { left, right: w - 14, bottom }, { ticks: Math.max(2, Math.floor((w - left) / 80)), values: logTicks(x, 6), text: x.base ? v => show(v) + "×" : undefined });
      const one = spec.log ? 1 : 0;
      svg.append("line").attr("x1", x(one)).attr("x2", x(one)).attr("y1", 4).attr("y2", bottom).attr("stroke", c.soft).attr("stroke-opacity", 0.7);
      rows.forEach((r, i) => {
        const y = 6 + 22 * i + 11;
        label(svg, left - 8, y + 4, fitting(r.name, left - 8), "end", c.text);
        svg.append("line").attr("x1", left).attr("x2", w - 14).attr("y1", y).attr("y2", y).attr("stroke", c.faint);
        r.dots.filter(d => shown(d.variant) && finite(d.value) && (!spec.log || d.value > 0)).forEach(d => svg.append("circle").attr("class", "mark").attr("cx", x(d.value)).attr("cy", y).attr("r", 4)
          .attr("fill", color(d.variant)).attr("fill-opacity", 0.85).attr("stroke", c.ground).attr("stroke-width", 0.8));
        svg.append("rect").attr("class", "hover").attr("x", 0).attr("y", y - 11).attr("width", w).attr("height", 22).attr("fill", "none").attr("pointer-events", "all")
          .on("mousemove", () => tip.show(d3.event, [[r.name + (r.note ? ", " + r.note : "")]].concat(r.dots.filter(d => shown(d.variant)).sort((p, q) => q.value - p.value).map(d => [d.variant, show(d.value) + (spec.log ? "×" : ""), color(d.variant)]))))
          .on("mouseleave", () => tip.hide());
      });
    },
  });
}

const COSTS_SHOWN = 14;

function costsChart(parent, group, index, model) {
  const costs = costsOf(group, model);
  if (!costs.size) return;
  const all = Array.from(costs, ([name, seeds]) => ({ name, dots: Array.from(seeds, ([variant, list]) => ({ variant, value: mean(list) })) }));
  const most = r => d3.max(r.dots.filter(d => shown(d.variant)), d => d.value) || 0;
  const sorted = () => all.slice().sort((p, q) => most(q) - most(p));
  dotRows(parent, {
    key: `costs-${index}-${model}`, what: "tensor", measure: "loss added", title: "What each tensor costs alone",
    note: `the ${Math.min(COSTS_SHOWN, all.length)} of ${all.length} that cost most; nats of loss when it alone is in 8 bits`,
    rows: () => sorted().slice(0, COSTS_SHOWN), allRows: sorted,
  });
}

function classesChart(parent, group, index, model) {
  const classes = ["bos", "whitespace", "punctuation", "words", "digits", "other"];
  const rows = classes.map(name => {
    const dots = groupVariants(group).map(variant => {
      const runs = group.runs.filter(r => r.variant === variant && r.model === model && (r.measure || {}).token_class_ratio);
      return { variant, value: mean(runs.map(r => r.measure.token_class_ratio[name])) };
    }).filter(d => finite(d.value));
    const any = group.runs.find(r => r.model === model && (r.measure || {}).token_class_tokens);
    const share = any ? any.measure.token_class_tokens[name] : NaN;
    return { name, dots, note: finite(share) ? show(100 * share) + " % of tokens" : "" };
  }).filter(r => r.dots.length);
  if (!rows.length)
    add(parent, "p", "No FFN output of these models lies past six deviations: there is no outlier whose token could be named.", "soft");
  else
    dotRows(parent, { key: `classes-${index}-${model}`, what: "class", measure: "ratio", title: "Which tokens carry the outliers", note: "share of the FFN outputs' outliers (past six deviations) over share of tokens; 1: their fair share", log: true, rows: () => rows });
}
