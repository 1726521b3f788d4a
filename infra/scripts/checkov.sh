#!/bin/sh
# Installs checkov, which reads templates with the eyes of a security auditor, once, and
# prints where it is. It needs other versions of what moto and cfn-lint need.
# The version is pinned here and nowhere else.
set -eu

checkov=3.3.30

bin=$("$(dirname "$0")/venv.sh" "checkov-$checkov" "checkov==$checkov")
printf '%s\n' "$bin/checkov"
