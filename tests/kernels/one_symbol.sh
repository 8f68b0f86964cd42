#!/bin/sh
# Each instruction set's file exports its table and nothing else, so that no function compiled with its flags can be linked into the
# portable path. Exit 77: no nm, skipped. Usage: one_symbol.sh SOURCE_DIR BUILD_DIR [SANITIZER_FLAG]
set -eu
command -v nm >/dev/null || {
    echo "skipped: needs nm (apt-get install binutils)"
    exit 77
}
[ -z "${3-}" ] || {
    echo "skipped: a sanitizer adds symbols of its own"
    exit 77
}
cd "$2"
nm -A -g --defined-only libghostmax.a 2>/dev/null | grep ':kernels_\(avx2\|avx512\|avx512vnni\|avx512amx\|neon\|neondot\|ref\)\.c' | awk '
    { split($1, where, ":"); split(where[2], file, "."); symbol = $NF; count++
      if (symbol != "gm_" file[1]) { print file[1] ".c exports " symbol; bad = 1 } }
    END { if (count < 2) { print "only " count + 0 " tables found"; bad = 1 } else print count " tables"; exit bad }'
