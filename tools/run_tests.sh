#!/bin/sh
# Runs the tests of a build folder and ends with one line that counts them: cases of test programs, and scripts.
# Usage: tools/run_tests.sh BUILD JOBS [CTEST_OPTIONS]
set -eu
build=$1
jobs=$2
shift 2
status=0
# Programs run side by side, one thread each; tests about threads ask for theirs. More would spin in each other's way.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" OMP_WAIT_POLICY=passive
ctest --test-dir "$build" --output-on-failure -j "$jobs" "$@" || status=$?
# A script that says "skipped: ..." did not run (ctest's log has it as passed); of a Python script, cases may be skipped.
awk -v status="$status" '
    /^[0-9]+\/[0-9]+ Test: /    { programs++; cases = 0; left_out = 0 }
    /^\[  PASSED  \] [0-9]+ test/ { passed += $4; cases = 1 }
    /^\[  FAILED  \] [0-9]+ test/ { failed += $4; cases = 1 }
    /^\[  SKIPPED \] [0-9]+ test/ { skipped += $4; cases = 1 }
    /^skipped: /                 { left_out = 1 }
    /^(OK|FAILED) \(.*skipped=/  { match($0, /skipped=[0-9]+/); skipped += substr($0, RSTART + 8, RLENGTH - 8) }
    /^Test Passed\./             { if (left_out) skipped++; else if (!cases) passed++ }
    /^Test Failed\./             { if (!cases) failed++ }
    END { printf "%d test programs: %d passed, %d failed, %d skipped\n", programs, passed, failed, skipped; exit programs ? status : 1 }
' "$build/Testing/Temporary/LastTest.log"
