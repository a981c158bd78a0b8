#!/bin/sh
# Runs the tests that `make` has built and adds them up in one closing line: N passed, N failed, N skipped.
# usage: run.sh check     what needs no VM: unit tests, and the agent on a unix socket (tests/agent)
#        run.sh test      those, then tests/count, tests/e2e, tests/issues and tests/sdk
# Exits 0 only if something passed and nothing failed. Full output of each suite: build/test-logs/.
set -u
cd "$(dirname "$0")/.."
logs=build/test-logs
unit_seconds=60    # for one unit test program
pytest_seconds=2400 # for one run of pytest; a single test has 180 unless it is marked otherwise
passed=0 failed=0 skipped=0

# $1: name, $2 $3 $4: passed, failed, skipped, $5: seconds; prints a line, and the log's end if something failed.
account() {
	passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
	verdict=ok
	[ "$3" = 0 ] || verdict=FAILED
	printf '%-6s %-52s %3d passed, %d failed, %d skipped  %s s\n' "$verdict" "$1" "$2" "$3" "$4" "$5"
	[ "$3" = 0 ] || sed 's/^/    | /' "$log" | tail -n "${6:-40}"
}

# A test that was planned and not reported did not pass: its program crashed or hung before it. A program that fails
# with all its tests passed counts too: a leak found at exit, for one.
run_unit() {
	log=$logs/$(echo "${1#build/tests/}" | tr / .).log
	began=$(date +%s)
	CMOCKA_MESSAGE_OUTPUT=TAP timeout -k 5 "$unit_seconds" "$1" >"$log" 2>&1 </dev/null
	status=$?
	[ $status != 124 ] || echo "ended after $unit_seconds s" >>"$log"
	planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	ok=$(grep -c '^ok ' "$log")
	skip=$(grep -c '^not ok .*# SKIP' "$log")
	bad=$((planned - ok - skip))
	[ $status = 0 ] || [ $bad -gt 0 ] || bad=1
	account "${1#build/}" "$ok" "$bad" "$skip" $(($(date +%s) - began))
}

# $1: name of the run, then folders; one run for those that may share a booted box.
run_pytest() {
	log=$logs/$1.log
	xml=$logs/$1.xml
	shift
	rm -f "$xml"
	began=$(date +%s)
	# Debian's Python, whose packages bootstrap.sh has installed, whatever comes first in PATH.
	# SIGINT lets pytest clean up and report what it has.
	PYTHONDONTWRITEBYTECODE=1 timeout -s INT -k 30 "$pytest_seconds" /usr/bin/python3 -m pytest -p no:cacheprovider \
		--rootdir=tests --timeout=180 --tb=short -ra --durations=10 --junitxml="$xml" "$@" >"$log" 2>&1 </dev/null
	status=$?
	[ $status != 124 ] || echo "ended after $pytest_seconds s" >>"$log"
	total=$(junit tests) bad=$(($(junit failures) + $(junit errors))) skip=$(junit skipped)
	ok=$((total - bad - skip))
	[ $ok -ge 0 ] || ok=0
	[ $status = 0 ] || [ $bad -gt 0 ] || bad=1
	account "pytest $*" "$ok" "$bad" "$skip" $(($(date +%s) - began)) 150
}

junit() {
	count=$(sed -n "s/.*<testsuite [^>]*$1=\"\([0-9]*\)\".*/\1/p" "$xml" 2>/dev/null | head -n 1)
	echo "${count:-0}"
}

what=${1:-test}
case $what in
check | test) ;;
*) sed -n '3,4s/^# //p' "$0" >&2; exit 2 ;;
esac

mkdir -p "$logs"
# From the sources, so that the leftover program of a deleted test does not run.
for source in $(find tests/unit tests/issues -name 'test_*.c' 2>/dev/null | LC_ALL=C sort); do
	run_unit "build/${source%.c}"
done

run_pytest agent tests/agent
if [ "$what" = test ]; then
	folders=
	for folder in tests/count tests/e2e tests/issues tests/sdk; do
		[ -z "$(find "$folder" -name 'test_*.py' 2>/dev/null)" ] || folders="$folders $folder"
	done
	[ -z "$folders" ] || run_pytest pytest $folders
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ] && [ $passed -gt 0 ]
