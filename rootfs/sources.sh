#!/bin/sh
# Fetches Debian packages without touching the host: nothing is installed, and apt's own settings are left alone.
# usage: sources.sh source PACKAGE     prints a folder with its .dsc and tarballs
#        sources.sh binary PACKAGE     prints a folder with tree/ (the package unpacked) and control
#        sources.sh lists              prints the files that name the mirrors, for another tool to read
#
# apt runs with a private configuration under build/apt/, made from the machine's own sources (the same mirrors, the
# same keys, plus their deb-src halves), and verifies what it downloads as it always does. No root needed.
# Packages land in $XDG_CACHE_HOME/tenon/packages by version, so the next clone needs no network; which version is
# current is looked up again after a week, and the known one serves on while that look-up fails.
set -eu

case ${1-}-$# in
source-2 | binary-2 | lists-1) ;;
*) sed -n '3,5s/^# //p' "$0" >&2; exit 2 ;;
esac
kind=$1 package=${2-}
top=$(cd "$(dirname "$0")/.." && pwd)
apt=$top/build/apt
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tenon/packages
current=$cache/current/$kind-$package

# The machine's sources, deb and deb-src both, reduced to the index files needed here. Archives of other vendors
# (suites not named after this release) are left out: they cannot have what we want, and may be broken.
write_sources() {
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
	rm -rf "$apt/sources.list.d"
	mkdir -p "$apt/sources.list.d"
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -f "$file" ] && cat "$file"
	done | awk -v suite="^($codename|(old)*stable|testing|unstable|sid)(-|/|$)" '
		$1 == "deb" || $1 == "deb-src" {
			sub(/[ \t]*#.*/, "")
			sub(/^[ \t]*deb(-src)?[ \t]+/, "")
			options = ""
			if (match($0, /^\[[^]]*\][ \t]*/)) {
				options = substr($0, 2, index($0, "]") - 2)
				$0 = substr($0, RLENGTH + 1)
			}
			if ($2 !~ suite || $1 ~ /^cdrom:/)
				next
			print "deb [" options " target=Packages] " $0
			print "deb-src [" options " target=Sources] " $0
		}' | sort -u >"$apt/sources.list"
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -f "$file" ] || continue
		# Comments go first: between two fields they are legal, but a stanza must not look empty.
		sed '/^#/d' "$file" | awk -v RS= -v ORS='\n\n' -v suite="(^|\n)Suites:([^\n]* )?($codename|(old)*stable|testing|unstable|sid)[-/ \n]" '
			($0 "\n") ~ suite && !/URIs:[ \t]*cdrom:/ {
				gsub(/(^|\n)(Types|Targets):[^\n]*/, "")
				sub(/^\n+/, "")
				print "Types: deb deb-src\nTargets: Packages Sources\n" $0
			}' >"$apt/sources.list.d/$(basename "$file")"
	done
}

# Read by -c, after /etc/apt: proxies and the like stay in force, the machine's hooks do not.
write_config() {
	mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/state"
	cat >"$apt/apt.conf" <<-END
		#clear APT::Update::Pre-Invoke;
		#clear APT::Update::Post-Invoke;
		#clear APT::Update::Post-Invoke-Success;
		Dir::Etc::SourceList "$apt/sources.list";
		Dir::Etc::SourceParts "$apt/sources.list.d";
		Dir::State "$apt/state";
		Dir::State::Status "/var/lib/dpkg/status";
		Dir::State::Lists "$apt/lists";
		Dir::Cache "$apt/cache";
		Acquire::Languages "none";
		Acquire::Retries "3";
		// The user _apt cannot reach a checkout in somebody's home.
		APT::Sandbox::User "root";
	END
}

apt() {
	apt-get -c "$apt/apt.conf" "$@"
}

# Hours-old lists are good enough, so that one build downloads them once.
update() {
	[ -z "$(find "$apt/updated" -mmin -600 2>/dev/null)" ] || return 0
	echo "sources: downloading package lists into build/apt (once)" >&2
	write_sources
	write_config
	# One archive that is out of reach is no reason to stop: whether the package can be had shows next.
	if apt -qq -o APT::Update::Error-Mode=any update >&2; then
		touch "$apt/updated"
	fi
}

# Both leave the files in the working directory and set $name. Every step is chained by &&, here and in refresh: they
# run as a condition, where the shell ignores set -e.
fetch_source() {
	apt -qq source --download-only --only-source "$package" >&2 &&
		name=$(basename ./*.dsc .dsc)
}

fetch_binary() {
	apt -qq download "$package" >&2 &&
		dpkg-deb -x ./*.deb tree &&
		dpkg-deb -f ./*.deb >control &&
		name=$(basename ./*.deb .deb) &&
		rm ./*.deb
}

# Fetches into a folder of its own and moves that into place whole: an interrupted run leaves nothing half there.
refresh() (
	work=$(mktemp -d "$cache/.fetch.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	update && chmod 755 "$work" && cd "$work" && "fetch_$kind" &&
		{ [ -d "$cache/$kind/$name" ] || mv "$work" "$cache/$kind/$name"; } &&
		ln -sfn "../$kind/$name" "$current"
)

fresh() {
	[ -d "$current/" ] && [ -n "$(find "$current" -prune -mtime -7)" ]
}

lock() {
	mkdir -p "$apt"
	exec 9>"$apt/lock"
	flock 9
}

if [ "$kind" = lists ]; then
	lock
	[ -d "$apt/sources.list.d" ] || write_sources
	find "$apt/sources.list" "$apt/sources.list.d" -type f -size +0
	exit
fi
if ! fresh; then
	mkdir -p "$cache/source" "$cache/binary" "$cache/current"
	lock
	if ! fresh && ! refresh; then
		[ -d "$current/" ] || { echo "sources: cannot fetch $package" >&2; exit 1; }
		echo "sources: cannot look $package up now; going on with $(basename "$(readlink "$current")")" >&2
	fi
fi
readlink -f "$current"
