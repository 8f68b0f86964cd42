#!/bin/sh
# The library and the program compile without a warning in clang too, with OpenMP and without (GM_OPENMP=OFF). Exit 77: no clang, skipped.
# Usage: clang.sh SOURCE_DIR BUILD_DIR
set -eu
cd "$1"
command -v clang >/dev/null || {
    echo "skipped: needs clang (apt-get install clang libomp-dev)"
    exit 77
}
rooms=$(for room in lib/*/; do printf ' -I%s' "$room"; done)
echo '#include <omp.h>' | clang -fopenmp -fsyntax-only -x c - 2>/dev/null || {
    echo "skipped: clang has no omp.h (apt-get install libomp-dev)"
    exit 77
}
flags="-std=c11 -D_POSIX_C_SOURCE=200809L -O1 -fno-math-errno -ffp-contract=off -fsyntax-only -Werror"
flags="$flags -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Iinclude"
without_openmp="-Itools/no_openmp -Wno-unknown-pragmas -Wno-source-uses-openmp -Wno-unused-parameter"
for source in lib/*/*.c cli/*.c examples/*.c; do
    [ -e "$source" ] || continue
    isa=
    inside=$rooms
    case $source in
    */kernels_avx2.c) isa="-mavx2 -mfma -mf16c" ;;
    */kernels_avx512.c) isa="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c" ;;
    */kernels_avx512vnni.c) isa="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mfma -mf16c" ;;
    */kernels_avx512amx.c) isa="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mamx-tile -mamx-int8 -mfma -mf16c" ;;
    cli/* | examples/*) inside= ;;
    esac
    case $source in # another processor's file compiles to nothing; its flags would be unknown
    */kernels_avx*) [ "$(uname -m)" = x86_64 ] || continue ;;
    esac
    clang $flags -I"$2/assets" -fopenmp $isa $inside "$source"
    clang $flags -I"$2/assets" $without_openmp $isa $inside "$source"
done
