#!/bin/sh
# Installs the packages of `make deb` on a clean Debian root (mmdebstrap, from this machine's own package sources): the program alone, which
# runs; then the libraries, which an example is built with. lintian, where it is there, finds nothing.
# Usage: tools/test_deb.sh BUILD     as root
set -eu
set -- "$(cd "$1" && pwd)"
deb=$(ls "$1"/ghostmax_*.deb)
[ "$(id -u)" = 0 ] || {
    echo "test-deb: a clean root is made and entered as root; run it so" >&2
    exit 1
}
command -v mmdebstrap >/dev/null || {
    echo "test-deb: mmdebstrap is missing (apt-get install mmdebstrap)" >&2
    exit 1
}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
. /etc/os-release
mmdebstrap --quiet --variant=minbase "$VERSION_CODENAME" "$root/system" /etc/apt/sources.list* 2>"$root/log" ||
    mmdebstrap --quiet --variant=minbase "$VERSION_CODENAME" "$root/system" 2>>"$root/log" || {
    cat "$root/log" >&2
    exit 1
}
if command -v lintian >/dev/null; then
    lintian --no-cfg --allow-root --fail-on error,warning "$1"/*ghostmax*.deb
else
    echo "test-deb: lintian is not installed, passed over (apt-get install lintian)"
fi
mkdir "$root/system/packages"
cp "$1"/*ghostmax*.deb "$root/system/packages/"
cp /etc/resolv.conf "$root/system/etc/resolv.conf" 2>/dev/null || true
inside() {
    chroot "$root/system" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive "$@"
}
inside apt-get -qq update >"$root/log" 2>&1
inside apt-get -qq install --no-install-recommends -y "/packages/${deb##*/}" >>"$root/log" 2>&1 || {
    cat "$root/log" >&2
    exit 1
}
inside ghostmax --version
inside ghostmax explain -- -10 -10 -10
inside ghostmax selftest
inside sh -c 'cd /tmp && ghostmax train --model gpt2-nano --steps 5 --quiet --out run && ghostmax measure run --data stories --sequences 4 --brief --quiet' |
    tail -3
inside test -s /usr/share/bash-completion/completions/ghostmax
inside sh -c 'apt-get -qq install --no-install-recommends -y /packages/lib*.deb gcc libc6-dev pkg-config' >>"$root/log" 2>&1 || {
    cat "$root/log" >&2
    exit 1
}
inside sh -c 'ldconfig -p | grep -q libghostmax.so.0 && cd /tmp &&
    gcc /usr/share/doc/libghostmax-dev/examples/softmax1_attention.c $(pkg-config --cflags --libs ghostmax) -o example && ./example'
inside sh -c 'apt-get -qq purge -y ghostmax libghostmax0 libghostmax-dev' >>"$root/log" 2>&1
left=$(find "$root/system/usr" -name '*ghostmax*')
[ -z "$left" ] || {
    echo "test-deb: left behind: $left" >&2
    exit 1
}
echo "$(cd "$1" && echo *ghostmax*.deb): installed, ran and left a clean $PRETTY_NAME"
