#!/bin/sh
# The NEON table: lib/kernels and its test, built by the cross compiler and run under qemu. Exit 77: tools missing, skipped.
# Usage: aarch64.sh SOURCE_DIR
set -eu
root=$1
cc=${GM_AARCH64_CC:-aarch64-linux-gnu-gcc}
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static || true)
if [ -z "$qemu" ] || ! command -v "$cc" >/dev/null; then
    echo "skipped: needs $cc and qemu-aarch64 (apt-get install gcc-aarch64-linux-gnu qemu-user)"
    exit 77
fi
program=$(mktemp)
trap 'rm -f "$program"' EXIT
"$cc" -std=c11 -D_POSIX_C_SOURCE=200809L -O2 -fno-math-errno -ffp-contract=off -Wall -Wextra -Wshadow -Werror -static \
    -I"$root/lib/kernels" "$root"/lib/kernels/*.c "$root/tests/kernels/test_kernels.c" -lm -o "$program"
"$qemu" "$program"
