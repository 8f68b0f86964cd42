#!/bin/sh
# Every public header compiles alone, as C99, C11 and C++, without a warning from any compiler that is here.
# Usage: headers.sh SOURCE_DIR
set -eu
compiled=0
for header in "$1"/include/*.h; do
    for compiler in gcc clang g++ clang++; do
        command -v $compiler >/dev/null || continue
        case $compiler in
        *++) languages="c++11 c++17" ;;
        *) languages="c99 c11" ;;
        esac
        for language in $languages; do
            case $compiler in
            *++) kind=c++ ;;
            *) kind=c ;;
            esac
            printf '#include "%s"\n' "$header" |
                $compiler -std=$language -x $kind -Wall -Wextra -Wshadow -pedantic -Werror -I"$1/include" -fsyntax-only -
            compiled=$((compiled + 1))
        done
    done
done
echo "$compiled compilations"
[ $compiled -ge 8 ]
