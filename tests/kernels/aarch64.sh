#!/bin/sh
# The NEON tables: lib/kernels and its test, built by the cross compiler and run under qemu. Exit 77: tools missing, skipped.
# Usage: aarch64.sh SOURCE_DIR
set -eu
root=$1
cc=${GM_AARCH64_CC:-aarch64-linux-gnu-gcc}
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
if [ -z "$qemu" ] || ! command -v "$cc" >/dev/null; then
    echo "skipped: needs $cc and qemu-aarch64 (apt-get install gcc-aarch64-linux-gnu qemu-user)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for source in "$root"/lib/kernels/*.c "$root/tests/kernels/test_kernels.c"; do
    isa=
    case $source in
    */kernels_neondot.c) isa=-march=armv8.2-a+dotprod ;; # as CMakeLists.txt says
    esac
    "$cc" -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -fno-math-errno -ffp-contract=off -Wall -Wextra -Wshadow -Werror $isa \
        -I"$root/lib/kernels" -c "$source" -o "$work/$(basename "$source" .c).o"
done
"$cc" -static "$work"/*.o -lm -o "$work/test"
"$qemu" -cpu max "$work/test" tables
