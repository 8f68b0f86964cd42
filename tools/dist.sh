#!/bin/sh
# The tarball of what is committed: DIR/ghostmax-VERSION.tar.gz, whose name it prints. A commit gives the same bytes wherever and whenever
# it is packed: git takes times and modes from the commit, gzip writes no name and no time. What else would change them is set here: the
# user's settings, and how short git makes a commit's name (by default as long as this clone's number of objects asks for).
# Usage: tools/dist.sh DIR
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
git rev-parse HEAD >/dev/null 2>&1 || {
    echo "dist: this is no git checkout; the tarball that it came from is its distribution" >&2
    exit 1
}
[ -z "$(git status --porcelain)" ] || echo "dist: there are changes that are not committed; they are left out" >&2
name=ghostmax-$(sed -n 's/.*project(ghostmax VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
git -c tar.umask=0022 -c core.autocrlf=false -c core.eol=lf -c core.attributesFile=/dev/null -c core.abbrev=12 \
    archive --format=tar --prefix="$name/" HEAD | GZIP='' gzip -9n >"$dir/$name.tar.gz.tmp"
mv "$dir/$name.tar.gz.tmp" "$dir/$name.tar.gz"
echo "$dir/$name.tar.gz"
