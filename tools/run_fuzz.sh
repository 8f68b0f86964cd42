#!/bin/sh
# Builds and runs every fuzz target for SECONDS each, and prints what each has done; what it finds interesting is kept in BUILD/corpus/, what
# breaks it in BUILD/. With `afl` the search is AFL++'s, in a build by afl-clang-fast. FUZZ=NAME (a part of it): that target alone.
# Usage: tools/run_fuzz.sh BUILD JOBS SECONDS [afl]
set -eu
build=$1
jobs=$2
seconds=$3
by=${4:-libfuzzer}
source=$(cd "$(dirname "$0")/.." && pwd)
status=0
export OMP_NUM_THREADS=1
for target in "$source"/tests/fuzz/fuzz_*"${FUZZ:-}"*.c; do
    name=$(basename "$target" .c)
    format=${name#fuzz_}
    corpus=$build/corpus/$format
    log=$build/$name.log
    cmake --build "$build" -j "$jobs" --target "$name" >"$log" 2>&1 || {
        cat "$log"
        exit 1
    }
    mkdir -p "$corpus"
    good=true
    if [ "$by" = afl ]; then
        # Nothing but a terminal is asked of the machine; what AFL++ would like besides (core_pattern, the governor) is its administrator's.
        AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 AFL_AUTORESUME=1 afl-fuzz -V "$seconds" -m none \
            -i "$source/tests/fuzz/corpus/$format" -o "$corpus" -- "$build/tests/$name" >"$log" 2>&1 || good=false
        runs=$(awk '$1 == "execs_done" { print $3 }' "$corpus/default/fuzzer_stats")
        [ "$(awk '$1 == "saved_crashes" || $1 == "saved_hangs" { n += $3 } END { print n + 0 }' "$corpus/default/fuzzer_stats")" = 0 ] || good=false
    else
        # Memory is bounded by the file's size: a reader that takes more for a small file has believed what it says.
        "$build/tests/$name" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=64 -verbosity=0 -print_final_stats=1 \
            -artifact_prefix="$build/$name-" "$corpus" "$source/tests/fuzz/corpus/$format" >"$log" 2>&1 || good=false
        runs=$(awk '$1 == "stat::number_of_executed_units:" { print $2 }' "$log")
    fi
    printf '%-22s %6s s %12s inputs  %s\n' "$name" "$seconds" "${runs:-0}" "$($good && echo "no finding" || echo "FOUND SOMETHING, see $log")"
    $good || status=1
done
exit $status
