#!/bin/sh
# Installs the Debian packages that are missing for the named purpose, and nothing else.
# usage: bootstrap.sh [run|kernel|test|bench|fuzz|fmt]
#        run: build Tenon and start it;  kernel: that and the small guest kernel;  test, bench: that and what they use
# When nothing is missing this asks dpkg once and is done: no network, no root.
set -eu

# What each package is for is in docs/dependencies.md.
run="gcc libc6-dev make protobuf-c-compiler
     libmicrohttpd-dev libgnutls28-dev libwslay-dev libuv1-dev libsqlite3-dev zlib1g-dev libjansson-dev nettle-dev libprotobuf-c-dev
     libcurl4-openssl-dev libslirp-dev libseccomp-dev
     musl-tools linux-libc-dev dpkg-dev gperf
     kmod lz4 cpio squashfs-tools-ng e2fsprogs
     qemu-system-x86 qemu-utils
     libarchive-dev libzstd-dev skopeo"
kernel="flex bison bc libelf-dev xz-utils"
test="iproute2 valgrind libcmocka-dev openssl protobuf-compiler docker-registry umoci mmdebstrap zstd python3-protobuf python3-pytest python3-pytest-timeout python3-requests python3-websocket python3-pip"
# tests/sdk runs BoxLite's npm SDK; a Node.js from elsewhere brings its own npm, which Debian's would not fit.
command -v npm >/dev/null || test="$test nodejs npm"
fuzz="clang libclang-rt-14-dev python3-venv protobuf-compiler python3-protobuf python3-pytest python3-requests python3-websocket"
bench="wrk python3-matplotlib"
fmt="clang-format"

case ${1:-run} in
run) wanted=$run ;;
kernel) wanted="$run $kernel" ;;
test) wanted="$run $kernel $test" ;;
bench) wanted="$run $kernel $test $bench" ;;
fuzz) wanted="$run $fuzz" ;;
fmt) wanted=$fmt ;;
*) echo "usage: $0 [run|kernel|test|bench|fuzz|fmt]" >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null || {
	echo "bootstrap: this is not a Debian machine; install these packages' counterparts by hand:" $wanted >&2
	exit 1
}

# dpkg-query fails when it has never heard of one of the names; what it does know is on stdout all the same.
installed=" $(dpkg-query -W -f '${db:Status-Status}=${Package}\n' $wanted 2>/dev/null |
	sed -n 's/^installed=//p' | tr '\n' ' ') "
missing=
for p in $wanted; do
	case $installed in *" $p "*) ;; *) missing="$missing $p" ;; esac
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
	as_root=sudo
	command -v sudo >/dev/null || {
		echo "bootstrap: these Debian packages are missing, and installing them needs root or sudo:" >&2
		echo "    apt-get install --no-install-recommends$missing" >&2
		exit 1
	}
fi

echo "bootstrap: installing with apt-get:$missing" >&2
# Another apt may be at work on a fresh machine (unattended-upgrades): wait for its lock, but not for ever.
# The variable goes through env, since sudo drops the environment.
apt() {
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@"
}
apt update
apt install -y --no-install-recommends $missing
