package main

import (
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// A spec whose parts are several arguments selects what publish ls lists for it, in every command: openmpi, which needs
// munge too, is not meant by slurm ^munge.
func TestASpecInSeveralArguments(t *testing.T) {
	from := spack(t, "v3-unsigned")
	for _, command := range []string{
		"copy --dry-run " + from + " " + t.TempDir(),
		"export --dry-run " + from + " " + t.TempDir() + "/a.tar",
		"view set --dry-run " + from + " v",
		"view add --dry-run " + from + " v",
		"withdraw --dry-run --reason why " + from,
	} {
		for _, spec := range []string{"slurm ^munge", "slurm +pmix", "slurm target=x86_64_v3", "slurm @24-11-6-1 %gcc", "zlib slurm ^munge"} {
			code, stdout, stderr := execute(t, nil, append(strings.Fields(command), strings.Fields(spec)...)...)
			var said []string // warnings name more packages
			for line := range strings.Lines(stdout) {
				if !strings.HasPrefix(line, "warning") {
					said = append(said, line)
				}
			}
			plan := strings.Join(said, "")
			if code != cli.ExitDone || !strings.Contains(plan, "slurm@24-11-6-1") || strings.Contains(plan, "openmpi") {
				t.Errorf("%s %s: exit code %d\n%s%s", command, spec, code, stdout, stderr)
			}
		}
	}
}

// The first generation of a view adds all its packages.
func TestTheFirstGenerationOfAView(t *testing.T) {
	m := t.TempDir()
	for _, command := range []string{"publish " + spack(t, "v3-unsigned") + " " + m, "view set " + m + " v zlib"} {
		args := strings.Fields(strings.TrimPrefix(command, "publish "))
		if code, _, stderr := execute(t, nil, args...); code != cli.ExitDone {
			t.Fatalf("%s: exit code %d\n%s", command, code, stderr)
		}
	}
	code, stdout, stderr := execute(t, nil, "history", m, "--view", "v", "--json")
	if code != cli.ExitDone || !strings.Contains(stdout, `zlib@1.3.1/`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}
