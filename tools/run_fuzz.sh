#!/bin/sh
# Builds and runs every fuzz target for SECONDS each; what it finds interesting is kept in BUILD/corpus/, what breaks it in BUILD/.
# Usage: tools/run_fuzz.sh BUILD JOBS SECONDS
set -eu
build=$1
jobs=$2
seconds=$3
source=$(cd "$(dirname "$0")/.." && pwd)
for target in "$source"/tests/fuzz/fuzz_*.c; do
    name=$(basename "$target" .c)
    format=${name#fuzz_}
    cmake --build "$build" -j "$jobs" --target "$name"
    mkdir -p "$build/corpus/$format"
    echo "$name: $seconds s"
    # Memory is bounded by the file's size: a reader that takes more for a small file has believed what it says.
    OMP_NUM_THREADS=1 "$build/tests/$name" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=64 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="$build/$name-" "$build/corpus/$format" "$source/tests/fuzz/corpus/$format"
done
