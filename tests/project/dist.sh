#!/bin/sh
# `make dist` twice gives the same bytes, whatever the folder, the clone, the time, the umask and the user's settings; it holds every committed
# file; and it knows its commit, by the name that a checkout's build has for it.
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
git clone -q --depth 1 "file://$(cd "$source" && pwd)" "$scratch/clone"
mkdir "$scratch/home"
echo '* text eol=crlf' >"$scratch/home/attributes"
printf '[core]\n abbrev = 20\n autocrlf = true\n attributesFile = %s\n[tar]\n umask = 077\n' "$scratch/home/attributes" >"$scratch/home/.gitconfig"
(
    cd /
    umask 077
    TZ=Pacific/Auckland LC_ALL=C HOME=$scratch/home GZIP=--rsyncable "$scratch/clone/tools/dist.sh" "$scratch/b"
) >/dev/null
cmp "$first" "$scratch/b/${first##*/}"
mkdir "$scratch/tree"
tar -xzf "$first" -C "$scratch/tree" --strip-components=1
(cd "$scratch/tree" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort) >"$scratch/packed"
git -C "$source" ls-tree -r --name-only HEAD | LC_ALL=C sort | diff - "$scratch/packed"
commit=$(cat "$scratch/tree/tools/commit.txt")
[ "$(git -C "$scratch/clone" describe --always --abbrev=12 --exclude='*')" = "$commit" ]
cmake -DSOURCE="$scratch/tree" -DOUT="$scratch/facts.h" -DMPI= -P "$scratch/tree/tools/build_facts.cmake"
grep -q "GM_BUILD_COMMIT \"$commit\"" "$scratch/facts.h"
