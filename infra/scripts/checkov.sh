#!/bin/sh
# Installs checkov, which reads templates with the eyes of a security auditor, once, and
# prints where it is. It has an environment of its own: it needs other versions of
# what moto and cfn-lint need. The version is pinned here and nowhere else.
set -eu

checkov=3.3.30
home="${XDG_CACHE_HOME:-$HOME/.cache}/slurm-factory-publish/checkov-$checkov"

if [ ! -e "$home/installed" ]; then
	# Two tests may want it at once; the second waits for the first.
	mkdir -p "$home"
	exec 9>"$home/lock"
	flock 9
	if [ ! -e "$home/installed" ]; then
		python3 -m venv "$home/venv" >&2
		"$home/venv/bin/pip" install --quiet --disable-pip-version-check "checkov==$checkov" >&2
		touch "$home/installed"
	fi
fi
printf '%s\n' "$home/venv/bin/checkov"
