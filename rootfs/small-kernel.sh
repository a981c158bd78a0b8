#!/bin/sh
# Builds build/kernel/small/vmlinux, a guest kernel with what boxes need and nothing else (rootfs/kernel/config), from
# Debian's linux-source. All of it is built in: there are no modules. The ELF, for QEMU's -kernel by the PVH entry.
# Results are kept in $XDG_CACHE_HOME/tenon/kernel by package version and by the hash of this script and the config.
# Below make it shares make's -j; by itself it takes every processor.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tenon/kernel
config=$top/rootfs/kernel/config
out=$top/build/kernel/small

# The metapackage stands for this release's kernel.
meta=$("$top/rootfs/sources.sh" binary linux-source)
package=$(sed -n 's/^Depends: *\(linux-source-[^ ,]*\).*/\1/p' "$meta/control")
dir=$("$top/rootfs/sources.sh" binary "$package")
result=$cache/$(basename "$dir")-$(cat "$0" "$config" | sha256sum | cut -c1-12)

# Three quarters of the tree are drivers and machines that no config of ours selects. Of those only what make reads is
# unpacked: kbuild looks into every Kconfig, and into some Makefiles.
unpack() {
	tar -xf "$dir/tree/usr/src/$package.tar.xz" --strip-components=1 --wildcards \
		--exclude '*/drivers/gpu/*.[ch]' --exclude '*/drivers/media/*.[ch]' --exclude '*/drivers/staging/*.[ch]' \
		--exclude '*/drivers/scsi/*.[ch]' --exclude '*/drivers/infiniband/*.[ch]' --exclude '*/drivers/usb/*.[ch]' \
		--exclude '*/drivers/net/ethernet/*.[ch]' --exclude '*/drivers/net/wireless/*.[ch]' --exclude '*/sound/*.[ch]' \
		--exclude '*/arch/arm*/*.[chS]' --exclude '*/arch/powerpc/*.[chS]' --exclude '*/arch/mips/*.[chS]' \
		--exclude '*.dts' --exclude '*.dtsi' --exclude '*/tools/testing/*' --exclude '*/Documentation/*.rst'
}

# A line that another line's absence switches off would be missed in a box, one day.
configure() {
	make -s KCONFIG_ALLCONFIG="$config" allnoconfig || return 1
	grep '^CONFIG_' "$config" | grep -vxFf .config >missing || return 0
	echo "these lines of rootfs/kernel/config take no effect:"
	cat missing
	return 1
}

# The same sources give the same file: no time, user or host of the build.
compile() {
	export KBUILD_BUILD_TIMESTAMP=@0 KBUILD_BUILD_USER=tenon KBUILD_BUILD_HOST=tenon KBUILD_BUILD_VERSION=1
	case ${MAKEFLAGS:-} in
	*jobserver*) jobs= ;;
	*) jobs=-j$(nproc) ;;
	esac
	make -s $jobs vmlinux && strip -o vmlinux.stripped vmlinux
}

if [ ! -d "$result" ]; then
	echo "small-kernel: building $(basename "$dir") (some minutes, once)" >&2
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/.build.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	mkdir "$work/source" "$work/out"
	cd "$work/source"
	{ unpack && configure && compile; } >"$work/log" 2>&1 || { tail -n 40 "$work/log" >&2; exit 1; }
	mv vmlinux.stripped "$work/out/vmlinux"
	cp .config "$work/out/config"
	mv "$work/out" "$result" 2>/dev/null || [ -d "$result" ] # somebody else was quicker
	cd "$top"
fi
mkdir -p "$out"
cp "$result/config" "$out/config"
cp "$result/vmlinux" "$out/vmlinux.part"
mv "$out/vmlinux.part" "$out/vmlinux"
