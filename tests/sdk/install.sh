#!/bin/sh
# Installs BoxLite's published clients from their registries into build/sdk/, each version by itself.
# usage: install.sh     does nothing when all of them are there
set -eu
cd "$(dirname "$0")/../.."

# Python's 0.9.0 and 0.9.1 speak the 2026-02 dialect; PyPI has none before.
node_versions="0.9.7 0.10.0"
python_versions="0.9.1 0.9.7 0.10.8"

# A version that was cut off half way is made anew: the folder gets its name at the end.
for v in $node_versions; do
	to=build/sdk/node-$v
	[ ! -d "$to" ] || continue
	rm -rf "$to.new" && mkdir -p "$to.new"
	npm install --no-audit --no-fund --ignore-scripts --prefix "$to.new" "@boxlite-ai/boxlite@$v"
	mv "$to.new" "$to"
done
for v in $python_versions; do
	to=build/sdk/python-$v
	[ ! -d "$to" ] || continue
	rm -rf "$to.new"
	/usr/bin/python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--target "$to.new" "boxlite==$v"
	mv "$to.new" "$to"
done
