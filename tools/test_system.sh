#!/bin/sh
# `make test` of the present commit as the first command on a clean root of a Debian or Ubuntu release (mmdebstrap).
# Usage: tools/test_system.sh SUITE [SOURCE...]     as root; SOURCE: mmdebstrap's lines of package sources, for what is not Debian:
#     tools/test_system.sh noble "deb http://archive.ubuntu.com/ubuntu noble main universe"     (with ubuntu-keyring)
set -eu
suite=$1
shift
[ "$(id -u)" = 0 ] || {
    echo "test-system: a clean root is made and entered as root; run it so" >&2
    exit 1
}
command -v mmdebstrap >/dev/null || {
    echo "test-system: mmdebstrap is missing (apt-get install mmdebstrap)" >&2
    exit 1
}
top=$(git rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git clone -q "$top" "$work/ghostmax"
[ ! -d "$top/../shared" ] || cp -rL "$top/../shared" "$work/shared"
mmdebstrap --quiet --variant=minbase --format=null --include=apt,make,git,ca-certificates \
    --customize-hook='cp /etc/resolv.conf "$1/etc/resolv.conf"' \
    --customize-hook="sync-in '$work' /root" \
    --customize-hook='chroot "$1" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /root/ghostmax && make test" >&2' \
    "$suite" /dev/null "$@"
