#!/bin/sh
# The tests against the real libraries, in a virtual environment of their own: BUILD/interop, or $GHOSTMAX_INTEROP_VENV. What is missing
# there is installed with pip (llama-cpp-python is compiled: minutes). What cannot be installed is said, and its tests are skipped.
# Usage: tools/run_interop.sh SOURCE BUILD [TEST]    (TEST: only interop_<TEST>.py, and only the package of that name is installed)
set -u
source=$1
build=$2
only=${3:-}
venv=${GHOSTMAX_INTEROP_VENV:-$build/interop}
python=$venv/bin/python

# pip's name, the module's
packages='numpy numpy
safetensors safetensors
tokenizers tokenizers
sentencepiece sentencepiece
gguf gguf
llama-cpp-python llama_cpp
tensorboard tensorboard
torch torch
transformers transformers'

if [ ! -x "$python" ] && ! python3 -m venv "$venv"; then
    echo "interop: no virtual environment at $venv; install python3-venv, or name one that exists in GHOSTMAX_INTEROP_VENV" >&2
    exit 1
fi
echo "$packages" | while read -r package module; do
    [ -z "$only" ] || [ "$package" = "$only" ] || continue
    "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$module') is None)" && continue
    echo "interop: installing $package into $venv"
    "$venv/bin/pip" install -q "$package" >"$venv/$package.log" 2>&1 || echo "interop: $package cannot be installed (see $venv/$package.log)"
done

passed=0 skipped=0 failed=0
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
for test in "$source"/tests/interop/interop_${only:-*}.py; do
    name=$(basename "$test" .py)
    echo "== $name"
    "$python" -W ignore "$test" "$source" "$build" 2>"$venv/$name.stderr"
    status=$?
    missing=$(sed -n 's/^ModuleNotFoundError: /skipped: /p' "$venv/$name.stderr")
    if [ $status = 0 ]; then
        passed=$((passed + 1))
    elif [ $status = 77 ] || [ -n "$missing" ]; then
        echo "${missing:-(skipped)}"
        skipped=$((skipped + 1))
    else
        cat "$venv/$name.stderr"
        failed=$((failed + 1))
    fi
done
echo "interop: $passed passed, $skipped skipped, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
