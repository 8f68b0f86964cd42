#!/bin/sh
# How far the same lab lies apart on two instruction sets: trains it twice and prints, for each variant, the largest relative difference over
# the seeds of what the table shows. docs/numerics.md, section 6, quotes it.
# Usage: tools/compare_isa.sh GHOSTMAX ISA ISA [options of `ghostmax lab`]
set -eu
program=$1
one=$2
other=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for isa in "$one" "$other"; do
    "$program" lab --isa "$isa" --quiet --no-ablations --sensitivity-sequences 0 --out "$work/$isa" "$@" >/dev/null
done
python3 - "$work/$one/results.json" "$work/$other/results.json" <<'END'
import json, sys
one, other = (json.load(open(path))["rows"] for path in sys.argv[1:])
fields = "val_loss", "max_inf_norm", "avg_kurtosis", "w8a8_ppl"
print("| variant | " + " | ".join(fields) + " |\n|:--|" + "--:|" * len(fields))
for a, b in zip(one, other):
    apart = [max(abs(x / y - 1) for x, y in zip(a[f]["values"], b[f]["values"])) for f in fields]
    print(f"| {a['variant']} | " + " | ".join(f"{x:.0e}" for x in apart) + " |")
END
