#!/bin/sh
# The shared library exports exactly what include/*.h declares; the static one has no name outside gm_.
# Usage: symbols.sh SOURCE_DIR BUILD_DIR [SANITIZER_FLAG]
set -eu
[ -z "${3-}" ] || {
    echo "skipped: a sanitizer adds symbols of its own"
    exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
printf '#include "%s"\n' "$1"/include/*.h | cc -E -P -x c - | grep -o '\bgm_[a-z0-9_]*(' | tr -d '(' | sort -u >"$scratch/declared"
nm -D --defined-only "$2/libghostmax.so" | awk '{ print $NF }' | sort -u >"$scratch/exported"
[ "$(wc -l <"$scratch/declared")" -gt 100 ]
diff "$scratch/declared" "$scratch/exported" || {
    echo "< declared in include/, not exported    > exported, not declared"
    exit 1
}
nm -g --defined-only "$2/libghostmax.a" | awk 'NF == 3 { count++; if ($3 !~ /^gm_/) { print "not gm_: " $3; bad = 1 } } END { exit bad || count < 100 }'
readelf -d "$2/libghostmax.so" | grep -q 'SONAME.*libghostmax\.so\.[0-9]'
