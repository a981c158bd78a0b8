#!/bin/sh
# Builds what tenon-init links, with musl, into build/static/{lib,include}: Debian's own .a files are built for glibc
# with fortify, and do not link. Results are kept in $XDG_CACHE_HOME/tenon/static by package version and by the hash
# of this script.
# To add a library: write build_<source package>, which builds in the working directory (the unpacked source) and
# installs into $out/{lib,include}, and name it in the last lines.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
static=$top/build/static
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tenon/static
recipe=$(sha256sum "$0" | cut -c1-12)

headers=$static/kernel-headers
CC="musl-gcc -idirafter $headers"
CFLAGS="-Os -mstringop-strategy=libcall -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables -ffile-prefix-map=$cache=."
export CC CFLAGS

# musl-gcc knows no kernel headers, and /usr/include as a whole would bring in glibc's.
link_kernel_headers() {
	mkdir -p "$headers"
	for dir in linux asm-generic mtd; do
		ln -sfn "/usr/include/$dir" "$headers/$dir"
	done
	ln -sfn "/usr/include/$(dpkg-architecture -qDEB_HOST_MULTIARCH)/asm" "$headers/asm"
}

# The runtime is one C file; building it needs none of the C++ its configure asks for.
build_protobuf_c() {
	mkdir -p "$out/lib" "$out/include/protobuf-c" &&
		$CC $CFLAGS -I. -DHAVE_ENDIAN_H=1 -c protobuf-c/protobuf-c.c -o protobuf-c.o &&
		ar rcsD "$out/lib/libprotobuf-c.a" protobuf-c.o &&
		cp protobuf-c/protobuf-c.h "$out/include/protobuf-c/"
}

build_libseccomp() {
	./configure --quiet --prefix=/ --disable-shared --enable-static --disable-python &&
		make -s -C include DESTDIR="$out" install &&
		make -s -C src DESTDIR="$out" install-libLTLIBRARIES &&
		rm -f "$out"/lib/*.la
}

# Tar alone, without compression: of the library only what is called is linked. Debian's patches are newer than the
# generated files, which is no reason to generate them again.
build_libarchive() {
	./configure --quiet --prefix=/ --disable-shared --enable-static --disable-bsdtar --disable-bsdcpio --disable-bsdcat \
		--disable-acl --disable-xattr --without-zlib --without-bz2lib --without-libb2 --without-iconv --without-lz4 \
		--without-zstd --without-lzma --without-openssl --without-xml2 --without-expat &&
		make -s -j2 ACLOCAL=: AUTOCONF=: AUTOHEADER=: AUTOMAKE=: libarchive.la &&
		mkdir -p "$out/lib" "$out/include" &&
		cp .libs/libarchive.a "$out/lib/" &&
		cp libarchive/archive.h libarchive/archive_entry.h "$out/include/"
}

# $1: source package. Its steps run as a condition, where the shell ignores set -e: those that may fail are chained.
provide() {
	dir=$("$top/rootfs/sources.sh" source "$1")
	result=$cache/$(basename "$dir")-$recipe
	if [ ! -d "$result" ]; then
		echo "static-libs: building $(basename "$dir") with musl" >&2
		mkdir -p "$cache"
		work=$(mktemp -d "$cache/.build.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		trap 'exit 1' HUP INT TERM
		out=$work/out
		mkdir "$out"
		dpkg-source --no-check -x "$dir"/*.dsc "$work/source" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
		cd "$work/source"
		"build_$(echo "$1" | tr - _)" >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
		cd "$top"
		mv "$out" "$result" 2>/dev/null || [ -d "$result" ] # somebody else was quicker
		rm -rf "$work"
	fi
	cp -a "$result/." "$static/"
}

mkdir -p "$static"
link_kernel_headers
provide protobuf-c
provide libseccomp
provide libarchive
