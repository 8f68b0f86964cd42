#!/bin/sh
# clang-format on every C file; with --check only says which differ. Other versions of clang-format than 14 break lines elsewhere, so
# the check is skipped (exit 77) for them.
# Usage: tools/format.sh [--check]
set -eu
cd "$(dirname "$0")/.."
if ! clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    echo "skipped: needs clang-format 14 (apt-get install clang-format)"
    exit 77
fi
files() {
    find include lib cli bench examples tests -name '*.[ch]' -print0 2>/dev/null
}
if [ "${1:-}" = --check ]; then
    files | xargs -0 clang-format --dry-run --Werror
else
    files | xargs -0 clang-format -i
fi
