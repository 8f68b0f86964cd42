"""An implementation of every metric of its own, in double, from the published definitions; it shares no line with the library.

Usage: oracle_measure.py CASE.json, written by test_measure_oracle.c. A case is either a raw tensor with what the library says of it, or a
llama2.c checkpoint, tokens, and gm_measure_model's JSON: then the model's forward pass is done again here, from the .bin, in double.

Definitions: norms and kurtosis as the code of arXiv 2306.12929 computes them (x.view(B, -1), torch.std with N-1, eps 1e-6 on s^4, no -3,
mean over sequences); sinks as arXiv 2410.10781; massive activations as arXiv 2402.17762; outlier features as arXiv 2208.07339.
Where a value lies within rounding of a threshold, both counts are right."""
import json
import struct
import sys

import numpy as np

failures = []
compared = 0


def near(what, got, want, tolerance):
    global compared
    compared += 1
    if want is None or not np.isfinite(want):
        if got is not None:
            failures.append(f"{what}: got {got}, want null")
    elif got is None or not abs(got - want) <= tolerance * max(1e-3, abs(want)):
        failures.append(f"{what}: got {got!r}, want {want!r}")


def between(what, got, low, high):
    global compared
    compared += 1
    if not low <= got <= high:
        failures.append(f"{what}: got {got}, want {low} .. {high}")


# ---- tensors: x [S, T, C]

def kurtosis_of(flat, eps):  # flat [groups, n]
    mean = flat.mean(axis=1, keepdims=True)
    s = flat.std(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (((flat - mean) ** 4).mean(axis=1) / (s ** 4 + eps)).mean()


def tensor_metrics(x, per_token):
    S, T, C = x.shape
    groups = x.reshape(S * T, C) if per_token else x.reshape(S, T * C)
    flat = x.ravel()
    m = flat - flat.mean()
    return {"inf_norm": np.abs(groups).max(axis=1).mean(), "kurtosis": kurtosis_of(groups, 1e-6), "kurtosis_eps0": kurtosis_of(groups, 0.0),
            "excess_kurtosis_pooled": (m ** 4).mean() / (m ** 2).mean() ** 2 - 3, "mean": flat.mean(), "std": flat.std(),
            "absmax": np.abs(flat).max()}


def outliers(x, sigmas):  # of each sequence's own mean and standard deviation
    flat = x.reshape(len(x), -1)
    mean, s = flat.mean(axis=1), flat.std(axis=1, ddof=1)
    return np.abs(x - mean[:, None, None]) > sigmas * s[:, None, None]


def check_quantiles(what, got, values, tolerance):
    values = np.sort(values)
    for name, answer in got.items():
        want = values[int(np.floor(float(name) * (len(values) - 1) + 0.5))]
        near(f"{what} quantile {name}", answer, want, 1 / 128 + tolerance)


def check_tensor(what, got, x, per_token, tolerance, classes=None):
    for suffix, part in (("", x), ("_without_first", x[:, 1:])):
        for name, want in tensor_metrics(part, per_token).items():
            near(f"{what} {name}{suffix}", got[name + suffix], want, tolerance)
        if "outliers" in got:
            low, high = outliers(part, 6 * (1 + tolerance)), outliers(part, 6 * (1 - tolerance))
            between(f"{what} outliers{suffix}", got["outliers" + suffix], low.sum(), high.sum())
            for name, count in (got["outliers_by_class" + suffix] if classes is not None else {}).items():
                here = (classes if not suffix else classes[:, 1:]) == name
                between(f"{what} outliers of {name}{suffix}", count, low[here].sum(), high[here].sum())
    check_quantiles(what, got["quantiles"], np.abs(x.ravel()), tolerance)
    if "value_quantiles" in got:
        check_quantiles(what + " signed", got["value_quantiles"], x.ravel(), tolerance)


def check_histogram(what, histogram, x, tolerance):
    rounding = 0.2 * tolerance * x.std()  # of the library's sums in f32: as large beside small values as beside large ones
    between(f"{what} values in the histogram", sum(n + p for _, n, p in histogram), x.size, x.size)
    for lower, negative, positive in histogram:
        for sign, count in ((-1, negative), (1, positive)):
            sized = sign * x
            slack = tolerance * lower + rounding
            low = ((sized >= lower + slack) & (sized < 2 * (lower - slack))).sum()
            high = ((sized >= lower - slack) & (sized < 2 * (lower + slack))).sum()
            if lower > 0:
                between(f"{what} octave {sign * lower}", count, low, high)


def check_levels(what, levels, x, tolerance):
    """Values below each boundary of an even grid of 255 levels: exact but for those that share a bin (1/64 of their size) with it."""
    step = np.abs(x).max() / 127
    assert len(levels) == 255 and sum(levels) == x.size, what
    below = np.cumsum(levels)
    for i in range(254):
        boundary = (i - 127 + 0.5) * step
        slack = (1 / 63 + tolerance) * abs(boundary) + 0.2 * tolerance * x.std()
        between(f"{what} up to level {i - 127}", below[i], (x < boundary - slack).sum(), (x < boundary + slack).sum())


def check_positions(what, bins, x, tolerance):
    norms, sizes = np.sqrt((x ** 2).sum(axis=2)), np.abs(x).max(axis=2)
    covered = 0
    for b in bins:
        assert b["from"] == covered, f"{what}: positions {b['from']} do not follow {covered}"
        covered = b["to"] + 1
        near(f"{what} norm at {b['from']}", b["norm"], norms[:, b["from"]:covered].mean(), tolerance)
        near(f"{what} inf norm at {b['from']}", b["inf_norm"], sizes[:, b["from"]:covered].mean(), tolerance)
        near(f"{what} absmax at {b['from']}", b["absmax"], sizes[:, b["from"]:covered].max(), tolerance)
    assert covered == x.shape[1]


def check_dim(what, got, x, tolerance):
    for suffix, part in (("", x), ("_without_first", x[:, 1:])):
        column = part[:, :, got["dim"]].ravel()
        near(f"{what} dim {got['dim']} absmax{suffix}", got["absmax" + suffix], np.abs(column).max(), tolerance)
        near(f"{what} dim {got['dim']} kurtosis{suffix}", got["kurtosis" + suffix], kurtosis_of(column[None], 0.0), 10 * tolerance)
        near(f"{what} dim {got['dim']} std{suffix}", got["std" + suffix], column.std(), tolerance)


# ---- the model, from its file

def read_model(path):
    with open(path, "rb") as f:
        data = f.read()
    dim, hidden, layers, heads, kv_heads, vocab, length = struct.unpack_from("<7i", data)
    at = 28

    def take(*shape):
        nonlocal at
        n = int(np.prod(shape))
        x = np.frombuffer(data, "<f4", n, at).astype(np.float64).reshape(shape)
        at += 4 * n
        return x
    size, L = dim // heads, layers
    m = {"dim": dim, "layers": L, "heads": heads, "kv_heads": kv_heads, "size": size, "embedding": take(abs(vocab), dim),
         "norm1": take(L, dim), "wq": take(L, dim, dim), "wk": take(L, kv_heads * size, dim), "wv": take(L, kv_heads * size, dim),
         "wo": take(L, dim, dim), "norm2": take(L, dim), "w1": take(L, hidden, dim), "w2": take(L, dim, hidden), "w3": take(L, hidden, dim),
         "norm": take(dim)}
    assert vocab > 0, "a head of its own is not read here"
    return m


def rms(x, g):
    return x / np.sqrt((x ** 2).mean(axis=-1, keepdims=True) + 1e-5) * g


def rotate(x):  # [S, T, H, D], pairs (2i, 2i+1)
    T, D = x.shape[1], x.shape[3]
    angle = np.arange(T)[:, None] * 10000.0 ** (-np.arange(0, D, 2) / D)
    c, s = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    y = np.empty_like(x)
    y[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
    y[..., 1::2] = x[..., 0::2] * s + x[..., 1::2] * c
    return y


def forward(m, tokens, sink, a, c):
    """Every tensor by the library's names, [S, T, ...]; attention [L, S, H, ...]."""
    S, T = tokens.shape
    H, D = m["heads"], m["size"]
    t, att = {}, []
    x = t["embed"] = m["embedding"][tokens]
    causal = np.tril(np.ones((T, T), bool))
    for l in range(m["layers"]):
        b = f"blocks.{l}."
        n1 = t[b + "norm1"] = rms(x, m["norm1"][l])
        q, k, v = n1 @ m["wq"][l].T, n1 @ m["wk"][l].T, n1 @ m["wv"][l].T
        q, k = rotate(q.reshape(S, T, H, D)), rotate(k.reshape(S, T, -1, D))
        t[b + "q"], t[b + "k"], t[b + "v"] = q.reshape(S, T, -1), k.reshape(S, T, -1), v
        group = H // m["kv_heads"]
        k = k.repeat(group, axis=2)
        v = v.reshape(S, T, -1, D).repeat(group, axis=2)
        scores = np.where(causal, np.einsum("sthd,sjhd->shtj", q, k) / np.sqrt(D), -np.inf)
        top = np.maximum(scores.max(axis=-1, keepdims=True), sink)
        e = np.exp(scores - top)
        z = e.sum(axis=-1, keepdims=True) + np.exp(sink - top)
        w = np.clip(a * e / z + c, 0, 1)
        null = (np.exp(sink - top) / z)[..., 0]
        o = np.einsum("shtj,sjhd->sthd", w, v)
        t[b + "attn_in"] = o.reshape(S, T, H * D)
        wo = m["wo"][l].reshape(m["dim"], H, D)
        added = np.sqrt((np.einsum("sthd,chd->sthc", o, wo) ** 2).sum(axis=-1))
        valued = np.sqrt((np.einsum("sthd,chd->sthc", v, wo) ** 2).sum(axis=-1))
        att.append({"w": w, "null": null, "noop": added / np.sqrt((x ** 2).sum(axis=-1))[:, :, None], "value": valued})
        t[b + "attn_out"] = o.reshape(S, T, H * D) @ m["wo"][l].T
        r = t[b + "residual1"] = x + t[b + "attn_out"]
        n2 = t[b + "norm2"] = rms(r, m["norm2"][l])
        gate = n2 @ m["w1"][l].T
        act = t[b + "ffn_act"] = gate / (1 + np.exp(-gate)) * (n2 @ m["w3"][l].T)
        t[b + "ffn_out"] = act @ m["w2"][l].T
        x = t[b + "block"] = r + t[b + "ffn_out"]
    t["norm_final"] = rms(x, m["norm"])
    return t, att


def losses_of(m, final, targets):
    logits = final @ m["embedding"].T
    top = logits.max(axis=-1, keepdims=True)
    lse = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    return lse - np.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


# ---- tokens

def token_classes(path, tokens):
    with open(path, "rb") as f:
        data = f.read()
    at, keys = 4, []
    while at < len(data):
        _, n = struct.unpack_from("<fi", data, at)
        keys.append(data[at + 8:at + 8 + n])
        at += 8 + n

    def class_of(i, key):
        if i == 1:
            return "bos"
        if i < 3:
            return "other"
        if 3 <= i < 259:  # <0xNN>: what it prints
            key = bytes([i - 3])
        try:
            text = key.decode()
        except UnicodeDecodeError:
            return "other"
        if text.isspace():
            return "whitespace"
        text = text.strip(" ")
        if text.isdigit():
            return "digits"
        if any(c.isalnum() for c in text):
            return "words"
        return "punctuation" if text.isprintable() else "other"
    return np.array([class_of(i, key) for i, key in enumerate(keys)])[tokens]


# ---- the checks of a whole measurement

def check_heads(got, att, tolerance):
    H = att[0]["w"].shape[1]
    totals = {}
    for head in got["heads"]:
        a, h = att[head["layer"]], head["head"]
        for suffix, first in (("", 0), ("_without_first", 1)):
            w, null = a["w"][:, h, first:], a["null"][:, h, first:]
            queries = w[:, :64 - first, 0].mean(axis=1)  # of each sequence
            spent = w.sum(axis=-1)
            with np.errstate(divide="ignore", invalid="ignore"):
                p = w / spent[..., None]
                entropy = -np.where(w > 0, p * np.log(p), 0).sum(axis=-1)
            want = {"sink_mass": queries.mean(), "null_mass": null.mean(), "unspent": (1 - spent).mean(),
                    "entropy": np.mean([e[s > 0].mean() for e, s in zip(entropy, spent) if (s > 0).any()]),
                    "noop_score": a["noop"][:, first:, h].mean(),
                    "value_drain": (a["value"][:, 0, h] / a["value"][:, 1:, h].mean(axis=1)).mean()}
            for name, value in want.items():
                near(f"layer {head['layer']} head {h} {name}{suffix}", head[name + suffix], value, tolerance)
                totals.setdefault(name + suffix, []).append(value)
            between(f"layer {head['layer']} head {h} sink_rate{suffix}", head["sink_rate" + suffix],
                    100 * (queries > 0.3 * (1 + tolerance)).mean() - 1e-6, 100 * (queries > 0.3 * (1 - tolerance)).mean() + 1e-6)
    for name, values in totals.items():
        near(f"model {name}", got[name], np.mean(values), tolerance)
        for l, layer in enumerate(got["layers"]):
            near(f"layer {l} {name}", layer[name], np.mean(values[l * H:(l + 1) * H]), tolerance)
    assert len(got["heads"]) == len(att) * H


def check_features(got, t, layers, tolerance):
    def shares(threshold, first):
        hits = np.stack([np.stack([np.abs(t[f"blocks.{l}.{site}"][:, first:]) >= threshold for site in ("norm1", "attn_in", "norm2")]).any(axis=0)
                         for l in range(layers)])  # [L, S, T, C]
        return hits.any(axis=(1, 2)).mean(axis=0), hits.any(axis=0).mean(axis=(0, 1))
    for name, first in (("outlier_features", 0), ("outlier_features_without_first", 1)):
        low, high = shares(6 * (1 + tolerance), first), shares(6 * (1 - tolerance), first)
        found = {f["dim"]: f for f in got[name]}
        for c in range(len(low[0])):
            sure, possible = (s[0][c] >= 0.25 and s[1][c] >= 0.06 for s in (low, high))
            between(f"{name} {c}", c in found, sure, possible)
            if c in found:
                between(f"{name} {c} layers", found[c]["layers"], low[0][c] - 1e-8, high[0][c] + 1e-8)
                between(f"{name} {c} positions", found[c]["positions"], low[1][c] - 1e-8, high[1][c] + 1e-8)
    peaks = np.stack([np.abs(t[f"blocks.{l}.block"]).max(axis=(0, 1)) for l in range(layers)])
    order = np.sort(peaks.max(axis=0))[::-1]
    for i, feature in enumerate(got["features"]):
        x = t[f"blocks.{feature['layer']}.block"]
        near(f"feature number {i}", feature["absmax"], order[i], tolerance)
        check_dim("feature", feature, x, tolerance)
        near(f"feature {feature['dim']}'s place", feature["value"], x[feature["sequence"], feature["position"], feature["dim"]], tolerance)


def check_massive(got, t, tokens, layers, tolerance):
    low, high = [0, 0], [0, 0]
    for l in range(layers):
        x = np.abs(t[f"blocks.{l}.block"])
        least = np.maximum(100, 1000 * np.median(x.reshape(len(x), -1), axis=1))[:, None, None]
        for i in (0, 1):
            low[i] += int(((x > least * (1 + tolerance))[:, i:]).sum())
            high[i] += int(((x > least * (1 - tolerance))[:, i:]).sum())
    between("massive_count", got["massive_count"], low[0], high[0])
    between("massive_count_without_first", got["massive_count_without_first"], low[1], high[1])
    for one in got["massive"]:
        place = one["sequence"], one["position"]
        near("massive value", one["value"], t[f"blocks.{one['layer']}.block"][place][one["dim"]], tolerance)
        assert one["token"] == tokens[place]
    return high[0]


def check_largest(got, t, tokens, published, tolerance):
    for name, first in (("largest", 0), ("largest_without_first", 1)):
        everything = np.sort(np.concatenate([np.abs(t[n][:, first:]).ravel() for n in published]))[::-1]
        for i, one in enumerate(got[name]):
            near(f"{name} number {i}", abs(one["value"]), everything[i], tolerance)
            near(f"{name} {i}'s place", one["value"], t[one["tensor"]][one["sequence"], one["position"], one["dim"]], tolerance)
            between(f"{name} {i}'s position", one["position"], first, tokens.shape[1] - 1)
            assert one["token"] == tokens[one["sequence"], one["position"]]


def check_weights(got, m, tolerance):
    names = {"wte": m["embedding"]}
    for l in range(m["layers"]):
        names.update({f"blocks.{l}.wqkv.q": m["wq"][l], f"blocks.{l}.wqkv.k": m["wk"][l], f"blocks.{l}.wqkv.v": m["wv"][l],
                      f"blocks.{l}.wo": m["wo"][l], f"blocks.{l}.ffn.w2": m["w2"][l]})
    by_name = {w["name"]: w for w in got["weights"]}
    for name, w in names.items():
        assert name in by_name, f"no weight {name} in {sorted(by_name)}"
        near(f"{name} kurtosis", by_name[name]["kurtosis"], kurtosis_of(w.reshape(1, -1), 0.0), tolerance)
        near(f"{name} inf norm", by_name[name]["inf_norm"], np.abs(w).max(), tolerance)
        check_quantiles(name, by_name[name]["quantiles"], np.abs(w.ravel()), tolerance)
    near("weight_kurtosis", got["weight_kurtosis"], np.mean([w["kurtosis"] for w in got["weights"]]), tolerance)
    assert len(by_name) == 1 + 7 * m["layers"]


def check_classes(got, classes):
    ffn = [t for t in got["tensors"] if t["site"] == "ffn_out"]
    for suffix, part in (("", classes), ("_without_first", classes[:, 1:])):
        sums = {k: sum(t["outliers_by_class" + suffix][k] for t in ffn) for k in ffn[0]["outliers_by_class"]}
        total = sum(sums.values())
        between("outliers of all classes", got["token_classes" + suffix]["values"], total, total)
        for k, count in sums.items():
            base = (part == k).mean()
            near(f"tokens of {k}{suffix}", got["token_class_tokens" + suffix][k], base, 1e-8)
            near(f"share of {k}{suffix}", got["token_classes" + suffix][k], count / total if total else np.nan, 1e-8)
            near(f"ratio of {k}{suffix}", got["token_class_ratio" + suffix][k], count / total / base if total and base else np.nan, 1e-8)


def check_model(case):
    got, tolerance = case["measured"], case["tolerance"]
    tokens, targets = np.array(case["tokens"]), np.array(case["targets"])
    m = read_model(case["model"])
    m["w2"][1, 7] *= case["plant"]
    t, att = forward(m, tokens, -np.inf if case["sink"] is None else case["sink"], case["clip_a"], case["clip_c"])
    L, convention = m["layers"], got["convention"]
    classes = token_classes(case["tokenizer"], tokens)
    losses = losses_of(m, t["norm_final"], targets)
    near("loss", got["loss"], losses.mean(), tolerance)
    for b in got["loss_by_position"]:
        near(f"loss at {b['from']}", b["loss"], losses[:, b["from"]:b["to"] + 1].mean(), tolerance)

    published = [f"blocks.{l}.{s}" for l in range(L) for s in ("norm1", "attn_out", "norm2", "ffn_out", "block")] + ["norm_final"]
    by_name = {x["name"]: x for x in got["tensors"]}
    assert set(by_name) == set(t), set(by_name) ^ set(t)
    kurtoses, norms = {"": [], "_without_first": []}, {"": {}, "_without_first": {}}
    for name, x in t.items():
        per_token = convention == "opt-code" and name.endswith((".norm2", ".ffn_out"))  # fc2 and final_layer_norm are (-1, C) there
        check_tensor(name, by_name[name], x, per_token, tolerance, classes)
        check_histogram(name, by_name[name]["histogram"], x, tolerance)
        check_levels(name, by_name[name]["levels"], x, tolerance)
        check_positions(name, by_name[name]["positions"], x, tolerance)
        if not name.endswith((".q", ".k")):  # whose dimensions the library orders in its own way
            for dim in by_name[name]["dims"]:
                check_dim(name, dim, x, tolerance)
        layer, site = by_name[name]["layer"], by_name[name]["site"]
        averaged = name in published and (convention != "bert-code" or site == "ffn_out" or (site == "norm1" and layer > 0) or layer < 0)
        assert by_name[name]["averaged"] == averaged, name
        for suffix, part in (("", x), ("_without_first", x[:, 1:])):
            metrics = tensor_metrics(part, per_token)
            if averaged:
                kurtoses[suffix].append(metrics["kurtosis"])
            if name in published:
                norms[suffix][name] = metrics["inf_norm"]
    for suffix in kurtoses:
        near("avg_kurtosis" + suffix, got["avg_kurtosis" + suffix], np.mean(kurtoses[suffix]), tolerance)
        near("max_kurtosis" + suffix, got["max_kurtosis" + suffix], max(kurtoses[suffix]), tolerance)
        for field, site in (("max_inf_norm", ".block"), ("max_ffn_inf_norm", ".ffn_out"), ("max_all_inf_norm", "")):
            near(field + suffix, got[field + suffix], max(v for n, v in norms[suffix].items() if n.endswith(site)), tolerance)
    for l, norm in enumerate(got["first_norm"]):
        near(f"first_norm {l}", norm, np.sqrt((t[f"blocks.{l}.block"][:, 0] ** 2).sum(axis=-1)).mean(), tolerance)

    check_heads(got, att, tolerance)
    check_features(got, t, L, tolerance)
    massive = check_massive(got, t, tokens, L, tolerance)
    assert (massive > 0) == (case["plant"] > 1), f"{massive} massive activations"
    check_largest(got, t, tokens, published, tolerance)
    check_weights(got, m, tolerance)
    check_classes(got, classes)


def check_raw(case):
    x = np.fromfile(case["raw"], "<f4").astype(np.float64).reshape(case["shape"])
    for per_token, got in zip((False, True), case["measured"]):
        check_tensor("raw tensor", got, x, per_token, case["tolerance"])


def main():
    with open(sys.argv[1]) as f:
        case = json.load(f)
    (check_raw if "raw" in case else check_model)(case)
    for line in failures[:20]:
        print(line)
    print(f"{compared} values compared, {len(failures)} differ")
    sys.exit(1 if failures else 0)


main()
