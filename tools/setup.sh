#!/bin/sh
# Installs the Debian packages that are missing, as root or with sudo; where that cannot be done, prints the exact command and stops.
# Usage: tools/setup.sh [--optional] GROUP...    (the groups of tools/packages.txt; --optional: says what is missing and goes on)
set -eu
stop=1
if [ "$1" = --optional ]; then
    stop=0
    shift
fi
list=$(dirname "$0")/packages.txt
wanted=$(for group; do awk -v group="$group" '$1 == group { print $2 }' "$list"; done)
if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    # Not Debian: cmake says what it does not find.
    echo "setup: this is not a Debian system; if the build stops, install what these packages are here:" $wanted >&2
    exit 0
fi
missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    run=
elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    run=sudo
else
    echo "setup: packages are missing and this user cannot install them; run as root:" >&2
    echo "    apt-get update && $install" >&2
    exit $stop
fi
echo "setup: installing$missing" >&2
export DEBIAN_FRONTEND=noninteractive
if ! { $run apt-get update -q && $run $install; } >&2; then
    echo "setup: apt-get failed (no network?); when it works again, run as root:" >&2
    echo "    apt-get update && $install" >&2
    exit $stop
fi
