#!/bin/sh
# What `make run` shows: a tenond of its own on a free port with an empty state folder, one box, one command in it.
# Succeeds only if the command's stdout, stderr and exit code all came back as they should.
set -eu
cd "$(dirname "$0")/.."
ready_seconds=20
run_seconds=90
message='hello from a micro-VM'

work=$(mktemp -d "${TMPDIR:-/tmp}/tenon-run.XXXXXX")
daemon=
finish() {
	status=$?
	trap '' HUP INT TERM
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || :
		wait "$daemon" 2>/dev/null || :
	fi
	if [ $status != 0 ] && [ -s "$work/tenond.log" ]; then
		echo "--- the end of tenond's log:" >&2
		tail -n 20 "$work/tenond.log" >&2
	fi
	# Boxes outlive tenond; after a failure ours may still be there, and its processes name our folder.
	for process in $(grep -l -a -F "$work/state" /proc/[0-9]*/cmdline 2>/dev/null); do
		process=${process%/cmdline}
		kill "${process#/proc/}" 2>/dev/null || :
	done
	rm -rf "$work"
	exit $status
}
trap finish EXIT
trap 'exit 130' HUP INT TERM

fail() {
	echo "make run: $*" >&2
	exit 1
}

for program in tenond tenon-vmm tenon; do
	[ -x "build/bin/$program" ] || fail "build/bin/$program is not built"
done

# A FIFO, so that we wait for the line itself, or for the end of tenond. Descriptor 3 stays its reader.
# timeout bounds the whole run, and follows the TERM of finish with a KILL.
mkfifo "$work/out"
timeout -k 5 $((ready_seconds + run_seconds + 30)) \
	build/bin/tenond --listen 127.0.0.1:0 --state "$work/state" --no-auth >"$work/out" 2>"$work/tenond.log" &
daemon=$!
exec 3<"$work/out"
ready=$(timeout "$ready_seconds" sed -n '/^tenond ready on /{p;q}' <&3) || :
TENON_HOST=${ready#tenond ready on }
[ -n "$TENON_HOST" ] || fail "tenond ended, or was not ready within $ready_seconds s"
export TENON_HOST
echo "$ready"

script="echo '$message'; uname -sr; echo 'and this is stderr' >&2; exit 7"
echo "\$ tenon run --rm tenon/base -- sh -c \"$script\""
code=0
timeout -k 5 "$run_seconds" build/bin/tenon run --rm --timing tenon/base -- sh -c "$script" \
	>"$work/stdout" 2>"$work/stderr" </dev/null || code=$?
cat "$work/stdout"
cat "$work/stderr" >&2

[ "$code" != 124 ] || fail "no end within $run_seconds s"
[ "$code" = 7 ] || fail "the exit code is $code, not 7"
[ "$(head -n 1 "$work/stdout")" = "$message" ] || fail "the command's stdout did not come back"
grep -qx 'and this is stderr' "$work/stderr" || fail "the command's stderr did not come back"
echo "exit code $code, as asked. It works."
