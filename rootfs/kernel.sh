#!/bin/sh
# Provides a guest kernel from Debian's cloud kernel package, without installing it (small-kernel.sh builds the other):
#   build/kernel/vmlinux    its ELF, for QEMU's -kernel by the PVH entry. Booting the ELF saves the guest from
#                           decompressing the bzImage: under TCG a good quarter of a second.
#   build/kernel/modules/   the module tree, with modules.dep
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
PATH=$PATH:/usr/sbin:/sbin # depmod, for those who are not root

# The metapackage stands for the newest kernel of this release.
meta=$("$top/rootfs/sources.sh" binary linux-image-cloud-amd64)
package=$(sed -n 's/^Depends: *\(linux-image-[^ ,]*\).*/\1/p' "$meta/control")
tree=$("$top/rootfs/sources.sh" binary "$package")/tree
release=$(basename "$tree"/lib/modules/*)
bzimage=$tree/boot/vmlinuz-$release

# $1: offset, $2: width in bytes; the boot protocol's header is little endian (Documentation/x86/boot.rst).
header_field() {
	od -An -t "u$2" -j "$1" -N "$2" "$bzimage" | tr -d ' '
}

# The payload is the compressed ELF, after the real-mode sectors; the build appends its unpacked size in four bytes,
# which the decompressors take for garbage.
unpack_elf() {
	setup_sectors=$(header_field $((0x1f1)) 1)
	offset=$(((setup_sectors + 1) * 512 + $(header_field $((0x248)) 4)))
	length=$(header_field $((0x24c)) 4)
	magic=$(od -An -t x1 -j "$offset" -N 4 "$bzimage" | tr -d ' ')
	case $magic in
	02214c18) unpack=lz4 ;;
	fd377a58) unpack=xz ;;
	28b52ffd) unpack=zstd ;;
	*) echo "kernel: $bzimage is compressed in a way not known here (magic $magic)" >&2; exit 1 ;;
	esac
	tail -c "+$((offset + 1))" "$bzimage" | head -c "$((length - 4))" | "$unpack" -dc
}

out=$top/build/kernel
rm -rf "$out/lib" "$out/modules" "$out/vmlinux" # and not small/, the other kernel
mkdir -p "$out/lib/modules"
cp -R "$tree/lib/modules/$release" "$out/lib/modules/"
ln -s "lib/modules/$release" "$out/modules"
depmod -b "$out" "$release"

unpack_elf >"$out/vmlinux.part"
[ "$(head -c 4 "$out/vmlinux.part" | tail -c 3)" = ELF ] || { echo "kernel: no ELF in $bzimage" >&2; exit 1; }
mv "$out/vmlinux.part" "$out/vmlinux"
echo "kernel: Linux $release" >&2
