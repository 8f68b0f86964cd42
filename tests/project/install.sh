#!/bin/sh
# What `make install` puts down is enough: the installed program runs; an example builds from the installed headers and libraries alone, by
# pkg-config and by find_package, shared and static, and a program in C++ by both; others may read it whatever the umask is; and
# `make uninstall` leaves nothing.
# Usage: install.sh SOURCE_DIR BUILD_DIR [EXTRA_FLAGS]
set -eu
source=$1
build=$2
flags=${3-}
cc=$(sed -n 's/^CMAKE_C_COMPILER:[^=]*=//p' "$build/CMakeCache.txt") # the static library wants its own OpenMP
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
prefix=$root/opt/ghostmax
cmake --install "$build" --prefix "$prefix" >/dev/null
cd "$root"
libs=$(dirname "$(find "$prefix" -name libghostmax.a)")
export PKG_CONFIG_PATH="$libs/pkgconfig" LD_LIBRARY_PATH="$libs"
example=$source/examples/softmax1_attention.c

"$cc" "$example" $(pkg-config --cflags --libs ghostmax) $flags -o shared
./shared >shared.out
grep -q '^softmax1 ' shared.out
"$cc" "$example" $(pkg-config --cflags --libs --static ghostmax | sed 's,-lghostmax,-l:libghostmax.a,') $flags -o static
env -u LD_LIBRARY_PATH ./static | cmp - shared.out

cmake -S "$source/tests/project/consumer" -B consumer -DSOURCE="$example" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_C_FLAGS="$flags" >consumer.log 2>&1 &&
    cmake --build consumer >>consumer.log 2>&1 || {
    cat consumer.log
    exit 1
}
for program in consumer/with_ghostmax consumer/with_static; do
    ./$program | cmp - shared.out
done

# In C++, with nothing of C enabled in CMake (the static library's OpenMP wants it)
if command -v g++ >/dev/null && [ -e "$libs/libghostmax.so" ]; then
    cpp=$source/tests/project/consumer/cpp
    g++ -std=c++11 -Wall -Wextra -Werror "$cpp/consumer.cpp" $(pkg-config --cflags --libs ghostmax) -o consumer_cpp
    [ "$(./consumer_cpp)" = 0.00013618 ]
    cmake -S "$cpp" -B cpp -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER=g++ >cpp.log 2>&1 && cmake --build cpp >>cpp.log 2>&1 || {
        cat cpp.log
        exit 1
    }
    [ "$(cpp/consumer)" = 0.00013618 ]
fi

"$prefix/bin/ghostmax" --version
for file in man/man1/ghostmax.1 man/man1/ghostmax-lab.1 bash-completion/completions/ghostmax zsh/site-functions/_ghostmax \
    fish/vendor_completions.d/ghostmax.fish; do
    [ -s "$prefix/share/$file" ]
done

# By make: DESTDIR goes before the prefix, folders are open to all, and what was installed is removed again. In a build folder that knows of
# no other installation.
mkdir front
ln -s "$build/cmake_install.cmake" "$build/install_manifest.txt" front/
umask 077
front() {
    env -u MAKEFLAGS DESTDIR="$root/stage" make -s -C "$source" -o build "$1" BUILD="$root/front" PREFIX=/usr >/dev/null
}
front install
[ -x stage/usr/bin/ghostmax ]
[ -z "$(find stage -type d ! -perm -005 -o -type f ! -perm -004)" ]
front uninstall
[ -z "$(find stage -type f -o -type l -o -name ghostmax)" ]
