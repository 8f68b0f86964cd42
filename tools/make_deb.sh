#!/bin/sh
# Debian packages of the present commit for this machine's release, built from the commit's tarball in BUILD/deb: ghostmax (the program),
# libghostmax0 (the shared library; the number is its soname's) and libghostmax-dev (headers, static library), each
# BUILD/NAME_VERSION_ARCH.deb. The same commit and tools give the same bytes (SOURCE_DATE_EPOCH is the commit's time).
# Usage: tools/make_deb.sh BUILD JOBS
set -eu
umask 022
tarball=$("$(dirname "$0")/dist.sh" "$1")
work=$1/deb
rm -rf "$work" "$1"/*ghostmax*.deb
mkdir -p "$work/source" "$work/debian"
tar -xzf "$tarball" -C "$work/source" --strip-components=1
SOURCE_DATE_EPOCH=$(stat -c %Y "$work/source/CMakeLists.txt")
export SOURCE_DATE_EPOCH
version=$(basename "$tarball" .tar.gz)
version=${version#ghostmax-}
library=libghostmax${version%%.*}
arch=$(dpkg --print-architecture)
triplet=$(gcc -print-multiarch)
top=$(cd "$work" && pwd)

# -ffile-prefix-map: no path of this machine in the packages; relro, now: as Debian links its own
hard=-Wl,-z,relro,-z,now
cmake -S "$work/source" -B "$work/build" -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_LIBDIR="lib/$triplet" \
    -DCMAKE_C_FLAGS="-ffile-prefix-map=$top=." -DCMAKE_EXE_LINKER_FLAGS=$hard -DCMAKE_SHARED_LINKER_FLAGS=$hard >"$work/configure.log" 2>&1 || {
    cat "$work/configure.log" >&2
    exit 1
}
cmake --build "$work/build" -j "$2" --target ghostmax-cli ghostmax-shared pages
root=$top/root/ghostmax
DESTDIR=$root cmake --install "$work/build" --strip >/dev/null

# What belongs to which package. Completions that packages bring have a place of their own in Debian.
find "$root/usr/share/man" -name '*.1' -exec gzip -9n {} +
mkdir -p "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_ghostmax" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"
mkdir -p "$top/root/$library/usr/lib/$triplet" "$top/root/libghostmax-dev/usr"
mv "$root/usr/lib/$triplet"/libghostmax.so.* "$top/root/$library/usr/lib/$triplet/"
chmod 644 "$top/root/$library/usr/lib/$triplet"/*
mv "$root/usr/lib" "$root/usr/include" "$top/root/libghostmax-dev/usr/"
strip --strip-debug --enable-deterministic-archives "$top/root/libghostmax-dev/usr/lib/$triplet/libghostmax.a"

copyright() {
    echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
    echo 'Upstream-Name: ghostmax'
    echo
    echo 'Files: *'
    sed -n 's/^Copyright (c) /Copyright: /p' "$work/source/LICENSE"
    echo 'License: Expat'
    sed -n '/^Permission/,$p' "$work/source/LICENSE" | sed 's/^$/./; s/^/ /'
}

# dpkg-shlibdeps wants a source package around it; what it finds are the libraries' packages with their versions.
touch "$work/debian/control"
needs() { # FILE
    (cd "$work" && dpkg-shlibdeps -O --ignore-missing-info "$1" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p' | grep . || {
        echo "make_deb: dpkg-shlibdeps found no libraries (apt-get install dpkg-dev)" >&2
        exit 1
    }
}

# pack NAME SECTION FIELDS SUMMARY DESCRIPTION: the folder root/NAME as a package
pack() {
    at=$top/root/$1
    docs=$at/usr/share/doc/$1
    mkdir -p "$docs" "$at/DEBIAN"
    copyright >"$docs/copyright"
    printf 'ghostmax (%s) unstable; urgency=medium\n\n  * Commit %s.\n\n -- ghostmax <ghostmax@example.org>  %s\n' "$version" \
        "$(cat "$work/source/tools/commit.txt")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$docs/changelog.gz"
    cat >"$at/DEBIAN/control" <<END
Package: $1
Source: ghostmax
Version: $version
Architecture: $arch
Section: $2
Priority: optional
Maintainer: ghostmax <ghostmax@example.org>
Installed-Size: $(find "$at/usr" -printf '%y %s\n' | awk '{ kb += $1 == "d" ? 1 : int(($2 + 1023) / 1024) } END { print kb }')
$3
Description: $4
$(echo "$5" | tr '\n' ' ' | fold -s -w 76 | sed 's/ *$//; s/^/ /')
END
    if [ "$1" = "$library" ]; then
        printf 'activate-noawait ldconfig\n' >"$at/DEBIAN/triggers"
        echo "libghostmax ${version%%.*} $1 (= $version)" >"$at/DEBIAN/shlibs"
    fi
    find "$at" -type d -exec chmod 755 {} +
    (cd "$at" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k2 >DEBIAN/md5sums)
    dpkg-deb --build --root-owner-group "$at" "$top/../$1_${version}_$arch.deb"
}

docs=$root/usr/share/doc/ghostmax
mkdir -p "$docs"
cp "$work/source/README.md" "$docs/"
cp -r "$work/source/docs" "$docs/"
rm -f "$docs"/docs/*.png
mkdir -p "$top/root/libghostmax-dev/usr/share/doc/libghostmax-dev"
cp -r "$work/source/examples" "$top/root/libghostmax-dev/usr/share/doc/libghostmax-dev/"
text='Trains transformers with softmax, softmax1, learned sinks, clipped and gated softmax, measures their outliers, quantizes them to 8 bits, and
puts the answer in one table.'
program_needs=$(needs root/ghostmax/usr/bin/ghostmax)
library_needs=$(needs "root/$library/usr/lib/$triplet/libghostmax.so.$version")
pack ghostmax science "Depends: $program_needs" 'attention normalisers that let a head say nothing' "$text"
pack "$library" libs "Multi-Arch: same
Depends: $library_needs" 'attention normalisers that let a head say nothing (library)' "$text This is the shared library."
# pkg-config asks for what the static library needs, whichever is linked with
pack libghostmax-dev libdevel "Depends: $library (= $version), libjansson-dev, libutf8proc-dev, libpcre2-dev, libprotobuf-c-dev, libpng-dev, libmicrohttpd-dev
Suggests: libdnnl-dev, libopenmpi-dev" 'attention normalisers that let a head say nothing (development)' \
    "$text These are the headers, the static library, and what pkg-config and CMake read."
