#!/bin/sh
# Removes the files of a list that `cmake --install` wrote, and folders named after us that this leaves empty. DESTDIR counts.
# Usage: tools/uninstall.sh LIST
set -eu
[ -f "$1" ] || {
    echo "uninstall: '$1' is missing: nothing was installed from here" >&2
    exit 1
}
while IFS= read -r file || [ -n "$file" ]; do
    rm -f "${DESTDIR-}$file"
    case $file in
    */ghostmax/*) rmdir "${DESTDIR-}$(dirname "$file")" 2>/dev/null || true ;;
    esac
done <"$1"
