#!/bin/sh
# Installs tools of Python, once, into an environment of their own, and prints where their
# commands are.
#   venv.sh NAME REQUIREMENT...
# NAME says the versions: what is there by that name is not installed again.
set -eu

home="${XDG_CACHE_HOME:-$HOME/.cache}/slurm-factory-publish/$1"
shift

if [ ! -e "$home/installed" ]; then
	# Two tests may want it at once; the second waits for the first.
	mkdir -p "$home"
	exec 9>"$home/lock"
	flock 9
	if [ ! -e "$home/installed" ]; then
		python3 -m venv "$home/venv" >&2
		# Python compiles what is imported. To compile all that is installed takes as long as to install it.
		"$home/venv/bin/pip" install --no-compile --quiet --disable-pip-version-check "$@" >&2
		touch "$home/installed"
	fi
fi
printf '%s\n' "$home/venv/bin"
