#!/bin/sh
# Builds the two disks every box is made of, without root:
#   build/images/base.squashfs    tenon/base, the image that needs no network: Debian's static busybox and a little /etc
#   build/images/upper.ext4       the empty writable layer that each box gets a copy of; it grows when the box starts
set -eu
umask 022
top=$(cd "$(dirname "$0")/.." && pwd)
images=$top/build/images
PATH=$PATH:/usr/sbin:/sbin # mke2fs, for those who are not root

package=$("$top/rootfs/sources.sh" binary busybox-static)
version=$(sed -n 's/^Version: \([0-9]*:\)\{0,1\}\([0-9.]*\).*/\2/p' "$package/control")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root

install_busybox() {
	install -D -m 755 "$package/tree/bin/busybox" "$root/bin/busybox"
	"$root/bin/busybox" --list-full | grep / | while read -r applet; do
		[ -e "$root/$applet" ] && continue
		mkdir -p "$root/$(dirname "$applet")"
		ln -s /bin/busybox "$root/$applet"
	done
}

install_etc() {
	mkdir -p "$root/etc"
	cat >"$root/etc/passwd" <<-'END'
		root:x:0:0:root:/root:/bin/sh
		tenon:x:1000:1000:tenon:/home/tenon:/bin/sh
		nobody:x:65534:65534:nobody:/nonexistent:/bin/false
	END
	cat >"$root/etc/group" <<-'END'
		root:x:0:
		tty:x:5:
		tenon:x:1000:
		nogroup:x:65534:
	END
	cat >"$root/etc/hosts" <<-'END'
		127.0.0.1	localhost
		::1	localhost ip6-localhost ip6-loopback
	END
	: >"$root/etc/resolv.conf"
	cat >"$root/etc/nsswitch.conf" <<-'END'
		passwd: files
		group: files
		hosts: files dns
	END
	cat >"$root/etc/profile" <<-'END'
		export PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
		PS1='\u@\h:\w\$ '
	END
	cat >"$root/etc/os-release" <<-END
		NAME="Tenon base"
		PRETTY_NAME="Tenon base (busybox $version)"
		ID=tenon
		VERSION_ID="$version"
	END
}

# tar sets the owners, so that none of it has to be done as root. The one folder that is not root's comes second.
pack() {
	find "$root" -exec touch -h -d @0 {} +
	tar -C "$root" --sort=name --numeric-owner --owner=0 --group=0 --exclude=./home/tenon -cf "$work/tar" .
	tar -C "$root" --numeric-owner --owner=1000 --group=1000 -rf "$work/tar" ./home/tenon
	tar2sqfs -q -f -c zstd --defaults mtime=0 "$images/base.squashfs.part" <"$work/tar" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		exit 1
	}
	mv "$images/base.squashfs.part" "$images/base.squashfs"
}

# With a configuration of its own, so that the machine's mke2fs.conf has no say in what guests mount. resize= reserves
# room to grow to 64 GiB while mounted. The image is a new sparse file and so reads as zeroes: told that, mke2fs leaves
# no inode tables behind for the guest to clear in the background. The journal does not grow later, hence its size.
format_upper() {
	size_blocks=$((512 * 256)) # 512 MiB of 4 KiB
	most_blocks=$((64 * 1024 * 256))
	cat >"$work/mke2fs.conf" <<-'END'
		[defaults]
			base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
			blocksize = 4096
			inode_size = 256
			inode_ratio = 16384
		[fs_types]
			ext4 = {
				features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
			}
	END
	truncate -s $((size_blocks * 4096)) "$work/upper.ext4"
	MKE2FS_CONFIG=$work/mke2fs.conf mke2fs -q -F -t ext4 -T ext4 -m 0 -J size=32 -L tenon-upper \
		-E resize=$most_blocks,assume_storage_prezeroed=1,lazy_journal_init=1,nodiscard,root_owner=0:0 \
		"$work/upper.ext4"
	# A volume is a copy of this, and a program that wants an empty folder is to find one.
	debugfs -w -R 'rmdir lost+found' "$work/upper.ext4" >"$work/log" 2>&1
	cp --sparse=always "$work/upper.ext4" "$images/upper.ext4.part"
	mv "$images/upper.ext4.part" "$images/upper.ext4"
}

mkdir -p "$images" "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/root" "$root/home/tenon" \
	"$root/mnt" "$root/usr/local/bin" "$root/var/log" "$root/var/tmp"
ln -s /run "$root/var/run"
chmod 1777 "$root/tmp" "$root/var/tmp"
chmod 700 "$root/root"
install_busybox
install_etc
pack
format_upper
