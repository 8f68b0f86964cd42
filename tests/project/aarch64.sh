#!/bin/sh
# Everything compiles for aarch64 without a warning (kernels/aarch64.sh also runs the kernels). Exit 77: no cross compiler, skipped.
# Usage: aarch64.sh SOURCE_DIR BUILD_DIR
set -eu
cd "$1"
cc=${GM_AARCH64_CC:-aarch64-linux-gnu-gcc}
command -v "$cc" >/dev/null || {
    echo "skipped: needs $cc (apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"
    exit 77
}
# The libraries' headers are the same on every 64-bit machine; nothing else of this machine's may be seen.
headers=$(mktemp -d)
trap 'rm -rf "$headers"' EXIT
for name in jansson.h jansson_config.h utf8proc.h protobuf-c png.h pngconf.h pnglibconf.h microhttpd.h; do
    for folder in /usr/include "/usr/include/$(uname -m)-linux-gnu"; do
        [ ! -e "$folder/$name" ] || ln -sf "$folder/$name" "$headers/$name"
    done
done
rooms=$(for room in lib/*/; do printf ' -I%s' "$room"; done)
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -O1 -fno-math-errno -ffp-contract=off -fopenmp -Wall -Wextra -Wshadow -Werror -Iinclude"
for source in lib/*/*.c cli/*.c examples/*.c; do
    [ -e "$source" ] || continue
    inside=$rooms
    case $source in
    cli/* | examples/*) inside= ;;
    esac
    "$cc" $flags -I"$headers" -I"$2/assets" $inside -c "$source" -o /dev/null
done
