#!/bin/sh
# Builds every fuzz target and runs JOBS of them side by side for SECONDS each; prints what each has done, and at the end a line that counts
# them. What is found interesting is kept in BUILD/corpus/, what breaks a target in BUILD/. With `afl` the search is AFL++'s, in a build by
# afl-clang-fast. FUZZ=NAME (a part of it): that target alone.
# Usage: tools/run_fuzz.sh BUILD JOBS SECONDS [afl]
set -eu
build=$1
jobs=$2
seconds=$3
by=${4:-libfuzzer}
source=$(cd "$(dirname "$0")/.." && pwd)
export OMP_NUM_THREADS=1
targets=$(for file in "$source"/tests/fuzz/fuzz_*"${FUZZ:-}"*.c; do basename "$file" .c; done)
cmake --build "$build" -j "$jobs" --target $targets >"$build/fuzz.log" 2>&1 || {
    cat "$build/fuzz.log"
    exit 1
}

search() { # one target: a line in BUILD/NAME.found
    name=$1
    format=${name#fuzz_}
    corpus=$build/corpus/$format
    log=$build/$name.log
    mkdir -p "$corpus"
    finding="no finding"
    if [ "$by" = afl ]; then
        # Nothing but a terminal is asked of the machine; what AFL++ would like besides (core_pattern, the governor) is its administrator's.
        # Memory is bounded as below; 20 s: a machine that does other work too makes no hang.
        ASAN_OPTIONS=abort_on_error=1:symbolize=0:allocator_may_return_null=0:max_allocation_size_mb=64 \
            AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 AFL_AUTORESUME=1 AFL_NO_AFFINITY=1 \
            afl-fuzz -V "$seconds" -m none -t 20000 -i "$source/tests/fuzz/corpus/$format" -o "$corpus" -- "$build/tests/$name" >"$log" 2>&1 || finding=
        ! grep -q 'results in a \(crash\|timeout\)' "$log" || finding= # a file of the corpus: passed over, and not counted below
        runs=$(awk '$1 == "execs_done" { print $3 }' "$corpus/default/fuzzer_stats")
        [ "$(awk '$1 == "saved_crashes" || $1 == "saved_hangs" { n += $3 } END { print n + 0 }' "$corpus/default/fuzzer_stats")" = 0 ] || finding=
    else
        # Memory and time are bounded by the file's size: a reader that takes more for a small file has believed what it says.
        "$build/tests/$name" -max_total_time="$seconds" -rss_limit_mb=1024 -malloc_limit_mb=64 -timeout=120 -verbosity=0 -print_final_stats=1 \
            -artifact_prefix="$build/$name-" "$corpus" "$source/tests/fuzz/corpus/$format" >"$log" 2>&1 || finding=
        runs=$(awk '$1 == "stat::number_of_executed_units:" { print $2 }' "$log")
    fi
    printf '%-22s %6s s %12s inputs  %s\n' "$name" "$seconds" "${runs:-0}" "${finding:-FOUND SOMETHING, see $log}" | tee "$build/$name.found"
}

running=0
for name in $targets; do
    rm -f "$build/$name.found"
    search "$name" &
    running=$((running + 1))
    [ $((running % jobs)) != 0 ] || wait
done
wait
for name in $targets; do
    cat "$build/$name.found" 2>/dev/null || echo "$name: did not end"
done | awk '
    / no finding$/ { passed++ }
    { all++; inputs += $4 }
    END {
        printf "%d targets, %.0f inputs: %d without a finding, %d with one\n", all, inputs, passed, all - passed
        exit passed == all ? 0 : 1
    }'
