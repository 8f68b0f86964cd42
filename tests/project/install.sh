#!/bin/sh
# What `make install` puts down is enough: the installed program runs, and the example builds from the installed headers, library and
# pkg-config file alone.
# Usage: install.sh SOURCE_DIR BUILD_DIR [EXTRA_FLAGS]
set -eu
prefix=$2/install-test
rm -rf "$prefix"
cmake --install "$2" --prefix "$prefix" >/dev/null
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
cd "$prefix"
cc "$1/examples/softmax1_attention.c" $(pkg-config --cflags --libs ghostmax) ${3:-} -o example
./example
"$prefix/bin/ghostmax" --version
cd /
rm -rf "$prefix"
