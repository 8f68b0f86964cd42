#!/bin/sh
# A Debian package of the present commit for this machine's release: BUILD/ghostmax_VERSION_ARCH.deb, built from the commit's tarball in
# BUILD/deb. The same commit and tools give the same bytes (SOURCE_DATE_EPOCH is the commit's time).
# Usage: tools/make_deb.sh BUILD JOBS
set -eu
tarball=$("$(dirname "$0")/dist.sh" "$1")
work=$1/deb
rm -rf "$work"
mkdir -p "$work/source" "$work/root/DEBIAN" "$work/debian"
tar -xzf "$tarball" -C "$work/source" --strip-components=1
SOURCE_DATE_EPOCH=$(stat -c %Y "$work/source/CMakeLists.txt")
export SOURCE_DATE_EPOCH
version=$(basename "$tarball" .tar.gz)
version=${version#ghostmax-}
arch=$(dpkg --print-architecture)
top=$(cd "$work" && pwd)

# -ffile-prefix-map: no path of this machine in the package
cmake -S "$work/source" -B "$work/build" -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_C_FLAGS="-ffile-prefix-map=$top=." >"$work/configure.log" 2>&1 || {
    cat "$work/configure.log" >&2
    exit 1
}
cmake --build "$work/build" -j "$2" --target ghostmax-cli ghostmax-shared pages
DESTDIR=$top/root cmake --install "$work/build" --strip >/dev/null

docs=$work/root/usr/share/doc/ghostmax
mkdir -p "$docs"
cp "$work/source/README.md" "$docs/"
cp -r "$work/source/docs" "$work/source/examples" "$docs/"
rm -f "$docs"/docs/*.png
{
    echo 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/'
    echo 'Upstream-Name: ghostmax'
    echo
    echo 'Files: *'
    sed -n 's/^Copyright (c) /Copyright: /p' "$work/source/LICENSE"
    echo 'License: Expat'
    sed -n '/^Permission/,$p' "$work/source/LICENSE" | sed 's/^$/./; s/^/ /'
} >"$docs/copyright"
printf 'ghostmax (%s) unstable; urgency=medium\n\n  * Commit %s.\n\n -- ghostmax <ghostmax@localhost>  %s\n' "$version" \
    "$(cat "$work/source/tools/commit.txt")" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$docs/changelog.gz"
find "$work/root/usr/share/man" -name '*.1' -exec gzip -9n {} +
# Debian's place for completions that packages bring
mkdir -p "$work/root/usr/share/zsh/vendor-completions"
mv "$work/root/usr/share/zsh/site-functions/_ghostmax" "$work/root/usr/share/zsh/vendor-completions/"
rmdir "$work/root/usr/share/zsh/site-functions"

# dpkg-shlibdeps wants a source package around it; what it finds are the libraries' packages with their versions.
touch "$work/debian/control"
depends=$(cd "$work" && dpkg-shlibdeps -O -l"$top/root/usr/lib/$(gcc -print-multiarch)" --ignore-missing-info root/usr/bin/ghostmax \
    root/usr/lib/*/libghostmax.so.?.?.? 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || {
    echo "make_deb: dpkg-shlibdeps found no libraries (apt-get install dpkg-dev)" >&2
    exit 1
}
cat >"$work/root/DEBIAN/control" <<END
Package: ghostmax
Version: $version
Architecture: $arch
Section: science
Priority: optional
Maintainer: ghostmax <ghostmax@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$work/root" | cut -f1)
Depends: $depends
Suggests: libjansson-dev, libutf8proc-dev, libpcre2-dev
Description: attention normalisers that let a head say nothing
 Trains transformers with softmax, softmax1, learned sinks, clipped and gated
 softmax, measures their outliers, quantizes them to 8 bits, and puts the
 answer in one table. The program, the C library, headers and manuals.
END
printf 'activate-noawait ldconfig\n' >"$work/root/DEBIAN/triggers"
(cd "$work/root" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k2 >DEBIAN/md5sums)
find "$work/root" -type d -exec chmod 755 {} +
dpkg-deb --build --root-owner-group "$work/root" "$1/ghostmax_${version}_$arch.deb"
