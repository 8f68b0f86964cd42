#!/bin/sh
# `make dist` twice gives the same bytes, whatever the folder, the time and the umask; it holds every committed file; and it knows its commit.
# Usage: dist.sh SOURCE_DIR BUILD_DIR
set -eu
source=$1
git -C "$source" rev-parse HEAD >/dev/null 2>&1 || {
    echo "skipped: not a git checkout"
    exit 77
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
first=$("$source/tools/dist.sh" "$scratch/a")
(
    cd /
    umask 077
    TZ=Pacific/Auckland LC_ALL=C HOME=/nowhere "$source/tools/dist.sh" "$scratch/b"
) >/dev/null
cmp "$first" "$scratch/b/${first##*/}"
mkdir "$scratch/tree"
tar -xzf "$first" -C "$scratch/tree" --strip-components=1
(cd "$scratch/tree" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort) >"$scratch/packed"
git -C "$source" ls-tree -r --name-only HEAD | LC_ALL=C sort | diff - "$scratch/packed"
commit=$(cat "$scratch/tree/tools/commit.txt")
git -C "$source" rev-parse HEAD | grep -q "^$commit"
cmake -DSOURCE="$scratch/tree" -DOUT="$scratch/facts.h" -DMPI= -P "$scratch/tree/tools/build_facts.cmake"
grep -q "GM_BUILD_COMMIT \"$commit\"" "$scratch/facts.h"
