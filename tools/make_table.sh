#!/bin/sh
# The recorded run of README's table: five variants, three seeds, the words-mini model on the built-in stories. About a quarter of an hour on
# two cores. Run again, it continues where it stopped.
set -eu
program=$1
time -p "$program" lab --data stories --model words-mini --batch 16 --context 128 --lr 3e-3 --steps 500 --seeds 3 --seed 1 --out table
