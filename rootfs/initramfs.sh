#!/bin/sh
# Packs build/guest/initramfs.cpio: tenon-init as /init, and the kernel modules it loads itself (there is no modprobe).
#   /modules/boot.list    file names in loading order: what the link needs, loaded before anything else
#   /modules/root.list    likewise: what a box's root and its devices need, loaded by Configure when there are any
#   /modules/net.list     when a network is asked for
#   /modules/FSTYPE.list  when a mount of that file system is asked for
# The small kernel has them all built in, and the agent passes them over: one archive serves both kernels.
# usage: initramfs.sh [INIT [OUT]]     another static binary in the agent's place, for boot measurements
# Needs no root: the owner is set by cpio, and device nodes come from the devtmpfs that init mounts.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
init=${1:-$top/build/guest/tenon-init}
out=${2:-$top/build/guest/initramfs.cpio}
modules=$top/build/kernel/modules

boot="virtio_pci virtio_mmio vmw_vsock_virtio_transport"
root="virtio_blk squashfs ext4 overlay virtio_rng"
net="virtio_net"
virtiofs="virtiofs"

# Prints the files of the modules named, each once and after those it depends on, by modules.dep; built-in ones have
# none. That order also puts virtio_ring before virtio: the other way round the guest has no vsock, and no error says so.
load_order() {
	awk -v wanted="$*" '
		function name(path) {
			sub(/.*\//, "", path)
			sub(/\.ko$/, "", path)
			gsub(/-/, "_", path)
			return path
		}
		function emit(module,    i, n, needs) {
			if (module in done)
				return
			done[module] = 1
			n = split(depends[module], needs, " ")
			for (i = n; i > 0; i--)
				emit(name(needs[i]))
			print file[module]
		}
		FILENAME ~ /modules\.builtin$/ { done[name($1)] = 1; next }
		{
			path = $1
			sub(/:$/, "", path)
			module = name(path)
			file[module] = path
			$1 = ""
			depends[module] = $0
		}
		END {
			n = split(wanted, list, " ")
			for (i = 1; i <= n; i++) {
				if (!(list[i] in file) && !(list[i] in done)) {
					print "initramfs: the kernel has no module " list[i] >"/dev/stderr"
					exit 1
				}
				emit(list[i])
			}
		}' "$modules/modules.builtin" "$modules/modules.dep"
}

# $1: list name, further: modules. Those that boot.list holds are loaded by then.
# Their signatures go with the debug information: checking one costs the guest some 4 ms under TCG, 65 ms of a boot in
# all, and proves nothing, for whoever can change this archive can change /init. The kernel calls itself tainted (E).
install_modules() {
	list=$tree/modules/$1
	shift
	load_order "$@" >"$tree/order"
	while read -r path; do
		file=$(basename "$path")
		grep -qsx "$file" "$tree/modules/boot.list" && continue
		[ -e "$tree/modules/$file" ] || strip --strip-debug -o "$tree/modules/$file" "$modules/$path"
		echo "$file" >>"$list"
	done <"$tree/order"
	rm "$tree/order"
}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$tree"
mkdir "$tree/dev" "$tree/proc" "$tree/sys" "$tree/run" "$tree/box" "$tree/modules"
install_modules boot.list $boot
install_modules root.list $root
install_modules net.list $net
install_modules virtiofs.list $virtiofs
install -m 755 "$init" "$tree/init"

# The same content gives the same file: sorted, no times, no owner's uid. Uncompressed, since unpacking costs the guest
# more than reading does.
find "$tree" -exec touch -h -d @0 {} +
mkdir -p "$(dirname "$out")"
(cd "$tree" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R 0:0) >"$out.part"
mv "$out.part" "$out"
