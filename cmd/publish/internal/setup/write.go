package setup

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// An entry is a setting in publish.yaml.
type entry struct {
	name, value string
	sample      string // value in the comment of a setting without a value
	about       string
}

func (s Settings) entries() []entry {
	all := []entry{
		{"source", s.Source, "", "A Spack mirror, or a directory above several of them: where `spack buildcache push` writes."},
		{"destination", s.Destination, "", "s3://bucket[/prefix], file:///directory or the path of a directory. A bucket must exist."},
	}
	if s.inS3() {
		all = append(all,
			entry{"region", s.Region, cmp.Or(s.Found.Region, "eu-central-1"), "Region of the bucket. Without it publish asks AWS."},
			entry{"endpoint-url", s.Endpoint, "https://minio.example.org:9000", "URL of an S3 that is not Amazon's."},
			entry{"distribution-id", s.Distribution, "E2QWRUHAPOMQZL", "CloudFront distribution in which exactly the changed objects are invalidated."})
	}
	return append(all,
		entry{"public-url", s.PublicURL, "https://cache.example.org/noble/spack", "URL at which clients find the destination. The new index is read back through it."},
		entry{"trusted-keys", s.TrustedKeys.String(), cmp.Or(s.Found.TrustedKeys, "keys/release.asc"), "File of armored public keys. Signatures by any other key are refused."})
}

// yaml returns the text of publish.yaml.
func (s Settings) yaml() string {
	var b strings.Builder
	b.WriteString("# Settings of publish, which reads them when it is run in this directory without arguments:\n" +
		"#   publish --dry-run    shows what would be done\n" +
		"#   publish              does it\n" +
		"# A flag wins over a variable PUBLISH_*, and a variable over this file. Each flag of\n" +
		"# `publish --help` may stand here. Passwords and keys of AWS do not belong here.\n")
	for _, e := range s.entries() {
		line := "# " + e.name + ": " + scalar(e.sample)
		if e.value != "" {
			line = e.name + ": " + scalar(e.value)
		}
		fmt.Fprintf(&b, "\n# %s\n%s\n", e.about, line)
	}
	fmt.Fprintf(&b, "\n# Refuse packages that are not signed.\nrequire-signed: %t\n", s.RequireSigned)
	return b.String()
}

var plain = regexp.MustCompile(`^(\.{0,2}/|[A-Za-z])[A-Za-z0-9._/:@+-]*$`)

// scalar returns a string in YAML: plain if no reader can misunderstand it, otherwise in quotes.
func scalar(s string) string {
	words := []string{"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
	if plain.MatchString(s) && !strings.HasSuffix(s, ":") && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

const workflowHead = `# Publishes packages to a Spack buildcache: https://github.com/vantagecompute/slurm-factory-publish
# The action does not read publish.yaml: make changes in both files.
name: publish
on:
  workflow_dispatch:
  push:
    branches: [main]
permissions: {}
jobs:
  publish:
    runs-on: ubuntu-latest
    timeout-minutes: 60
`

const checkout = `    steps:
      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1
        with: {persist-credentials: false}
`

// WorkflowYAML returns a workflow in which the action publishes like publish with publish.yaml.
func (s Settings) WorkflowYAML() string {
	var b strings.Builder
	b.WriteString(workflowHead)
	credentials := "          role-to-assume: ${{ vars.AWS_ROLE_ARN }} # a variable of the repository\n"
	if s.Endpoint == "" {
		b.WriteString("    permissions: {id-token: write, contents: read}\n" + checkout)
	} else {
		b.WriteString("    permissions: {contents: read}\n" + checkout)
		credentials = "          credentials: env\n"
	}
	b.WriteString("      # Replace this by the build of the packages, which pushes them to the directory of `path`.\n      - run: ./build.sh\n" +
		"      - uses: vantagecompute/slurm-factory-publish@v1\n")
	if s.Endpoint != "" {
		b.WriteString("        env: # secrets of the repository\n" +
			"          AWS_ACCESS_KEY_ID: ${{ secrets.AWS_ACCESS_KEY_ID }}\n" +
			"          AWS_SECRET_ACCESS_KEY: ${{ secrets.AWS_SECRET_ACCESS_KEY }}\n")
	}
	b.WriteString("        with:\n" + credentials)
	for _, in := range []entry{
		{name: "region", value: s.Region}, {name: "endpoint-url", value: s.Endpoint},
		{name: "path", value: s.Source}, {name: "destination", value: s.Destination},
		{name: "distribution-id", value: s.Distribution}, {name: "public-url", value: s.PublicURL},
		{name: "trusted-keys", value: strings.Join(s.TrustedKeys, "")},
	} {
		if in.value != "" {
			fmt.Fprintf(&b, "          %s: %s\n", in.name, scalar(in.value))
		}
	}
	fmt.Fprintf(&b, "          require-signed: %t\n", s.RequireSigned)
	return b.String()
}
