#!/bin/sh
# Installs what the tests stand in for AWS with, once, and prints where it is:
# moto_server, a stand-in for AWS's services, cfn-lint, which reads templates, and aws, with
# which the fixes that the doctor prints are carried out.
# The versions are pinned here and nowhere else; a new one gets a new directory.
set -eu

moto=5.2.1
lint=1.51.5
cli=1.46.3

exec "$(dirname "$0")/venv.sh" "moto-$moto-lint-$lint-cli-$cli" "moto[server]==$moto" "cfn-lint==$lint" "awscli==$cli"
