#!/bin/sh
# Installs what the tests stand in for AWS with, once, and prints where it is:
# moto_server, a stand-in for AWS's services, cfn-lint, which reads templates, and aws, with
# which the fixes that the doctor prints are carried out.
# The versions are pinned here and nowhere else; a new one gets a new directory.
set -eu

moto=5.2.1
lint=1.51.5
cli=1.46.3
home="${XDG_CACHE_HOME:-$HOME/.cache}/slurm-factory-publish/moto-$moto-lint-$lint-cli-$cli"

if [ ! -e "$home/installed" ]; then
	# Two tests may want it at once; the second waits for the first.
	mkdir -p "$home"
	exec 9>"$home/lock"
	flock 9
	if [ ! -e "$home/installed" ]; then
		python3 -m venv "$home/venv" >&2
		"$home/venv/bin/pip" install --quiet --disable-pip-version-check "moto[server]==$moto" "cfn-lint==$lint" "awscli==$cli" >&2
		touch "$home/installed"
	fi
fi
printf '%s\n' "$home/venv/bin"
