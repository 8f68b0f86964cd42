#!/bin/sh
# Static analysis with a baseline of zero: clang-tidy (.clang-tidy), cppcheck (tools/cppcheck.txt), gcc -fanalyzer. A finding is mended, or
# suppressed beside its place with the reason. A tool that is not there is named and passed over.
# Usage: tools/lint.sh BUILD JOBS   (BUILD: configured with -DCMAKE_EXPORT_COMPILE_COMMANDS=ON)
set -eu
build=$1
jobs=$2
cd "$(dirname "$0")/.."
status=0
files=$(git ls-files 'lib/*.c' 'cli/*.c' 'examples/*.c' 2>/dev/null || find lib cli examples -name '*.c')
absent() { echo "lint: $1 is not installed, passed over (apt-get install $2)"; }

if command -v cppcheck >/dev/null; then
    echo "cppcheck"
    cppcheck --quiet --enable=warning,performance,portability --inline-suppr --suppressions-list=tools/cppcheck.txt --error-exitcode=1 \
        --std=c11 -j "$jobs" --library=tools/cppcheck.cfg -Iinclude $(printf ' -I%s' lib/*/) $files || status=1
else
    absent cppcheck cppcheck
fi

if gcc -fanalyzer -fsyntax-only -x c /dev/null 2>/dev/null; then
    echo "gcc -fanalyzer"
    python3 tools/analyze.py "$build/compile_commands.json" "$jobs" || status=1
else
    absent "gcc with -fanalyzer" "gcc (10 or later)"
fi

if command -v clang-tidy >/dev/null; then
    echo "clang-tidy"
    tidy="xargs -n 1 -P $jobs clang-tidy --quiet -p $build"
    failing="--extra-arg=-Wno-unused-value --extra-arg=-D_GNU_SOURCE= --extra-arg=-include --extra-arg=$PWD/tools/analyzer.h" # what gm_fail returns
    plain='^lib/kernels/|base/status.c|dist/dist.c' # which know no base.h, or are what analyzer.h speaks of
    echo "$files" | grep '^lib/' | grep -vE "$plain" | $tidy $failing 2>/dev/null || status=1
    echo "$files" | grep -E "$plain|^cli/|^examples/" | grep -v kernels_neon | $tidy 2>/dev/null || status=1
else
    absent clang-tidy clang-tidy
fi
[ $status = 0 ] && echo "lint: no findings"
exit $status
