#!/bin/sh
# Installs publish from a release, without Go: checks the signature of the release's checksums, and the checksum of the
# program, before anything is put in place.
#
#   sh install.sh [--version v1.2.3] [--dir DIRECTORY]
#
# The default is the latest release, into /usr/local/bin for root and ~/.local/bin for others. curl is needed, and
# cosign or gh, which check that the release was built from a tag of the repository by its own workflow.
# PUBLISH_RELEASES names a copy of https://github.com/vantagecompute/slurm-factory-publish/releases.
set -eu

repository=vantagecompute/slurm-factory-publish
releases=${PUBLISH_RELEASES:-https://github.com/$repository/releases}
workflow=$repository/.github/workflows/release.yml
version=
if [ "$(id -u)" = 0 ]; then dir=/usr/local/bin; else dir=$HOME/.local/bin; fi

fail() {
	echo "install.sh: $*" >&2
	exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

while [ $# -gt 0 ]; do
	case $1 in
	--version) [ $# -gt 1 ] || fail "--version wants a version, such as v1.2.3"; version=$2; shift 2 ;;
	--dir) [ $# -gt 1 ] || fail "--dir wants a directory"; dir=$2; shift 2 ;;
	*) fail "unknown argument '$1': want --version VERSION or --dir DIRECTORY" ;;
	esac
done
case $version in "" | v*) ;; *) version=v$version ;; esac

system=$(uname -s) machine=$(uname -m)
case $system in
Linux) os=linux ;;
Darwin) os=darwin ;;
*) fail "no release for $system: build it with Go, as CONTRIBUTING.md says" ;;
esac
case $machine in
x86_64 | amd64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) fail "no release for $machine: build it with Go, as CONTRIBUTING.md says" ;;
esac
has curl || fail "curl is needed"
if has sha256sum; then sum="sha256sum"; else sum="shasum -a 256"; fi
if ! has cosign && ! has gh; then
	fail "cosign or gh is needed to check the signature: https://docs.sigstore.dev/cosign/system_config/installation or https://cli.github.com"
fi

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

if [ -z "$version" ]; then
	# It redirects to .../tag/v1.2.3.
	version=$(curl -fsSL -o /dev/null -w '%{url_effective}' "$releases/latest") || fail "$releases/latest cannot be read"
	version=${version##*/}
	case $version in v[0-9]*) ;; *) fail "$releases has no release yet" ;; esac
fi
program=publish-$os-$arch
for file in "$program" SHA256SUMS SHA256SUMS.sigstore.json; do
	curl -fsSL -o "$tmp/$file" "$releases/download/$version/$file" || fail "$releases/download/$version/$file cannot be read"
done

cd "$tmp"
if has cosign; then
	cosign verify-blob --new-bundle-format --bundle SHA256SUMS.sigstore.json \
		--certificate-oidc-issuer https://token.actions.githubusercontent.com \
		--certificate-identity "https://github.com/$workflow@refs/tags/$version" SHA256SUMS >cosign.log 2>&1 ||
		{ cat cosign.log >&2; fail "SHA256SUMS of $version is not signed by the release workflow: nothing was installed"; }
else
	# What is attested is the program itself; the checksums are compared below as well.
	gh attestation verify "$program" --repo "$repository" --signer-workflow "$workflow" --source-ref "refs/tags/$version" >gh.log 2>&1 ||
		{ cat gh.log >&2; fail "$program of $version is not attested by the release workflow: nothing was installed"; }
fi
grep -E "^[0-9a-f]{64}  $program\$" SHA256SUMS >sum || fail "SHA256SUMS of $version does not name $program: nothing was installed"
$sum -c sum >/dev/null 2>&1 || fail "$program is not the file that SHA256SUMS names: nothing was installed"

mkdir -p "$dir" || fail "$dir cannot be made: name another directory with --dir"
# Renamed, so that a program that runs is not written to.
{ cp "$program" "$dir/.publish.$$" && chmod 755 "$dir/.publish.$$" && mv -f "$dir/.publish.$$" "$dir/publish"; } || {
	rm -f "$dir/.publish.$$"
	fail "$dir cannot be written to: name another directory with --dir"
}
echo "publish $version is in $dir"
case :$PATH: in *:"$dir":*) ;; *) echo "hint: $dir is not on your PATH" ;; esac
