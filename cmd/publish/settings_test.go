package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// A flag wins over the environment, and the environment over publish.yaml; a report says
// where each value came from.
func TestSettingsSayWhereTheyCameFrom(t *testing.T) {
	for _, row := range []struct {
		name string
		file string
		env  clitest.Variables
		args []string
		want []cli.Setting
	}{
		{"file alone", "source: {source}\ndestination: {destination}\n", nil, nil, []cli.Setting{
			{Name: "source", Value: "{source}", From: "publish.yaml:1:1"},
			{Name: "destination", Value: "{destination}", From: "publish.yaml:2:1"},
		}},
		{"file with flags of each kind", "# a comment\nsource: {source}\ndestination: {destination}\ninclude:\n  - zlib\n  - munge@*\nkeep_going: true\nconcurrency: 8\npart-size: 16MiB\nlimit-rate: 50MB/s\ntimeout: 30m\nindex: none\n", nil, nil, []cli.Setting{
			{Name: "source", Value: "{source}", From: "publish.yaml:2:1"},
			{Name: "destination", Value: "{destination}", From: "publish.yaml:3:1"},
			{Name: "concurrency", Value: "8", From: "publish.yaml:8:1"},
			{Name: "part-size", Value: "16 MiB", From: "publish.yaml:9:1"},
			{Name: "limit-rate", Value: "50 MB/s", From: "publish.yaml:10:1"},
			{Name: "index", Value: "none", From: "publish.yaml:12:1"},
			{Name: "include", Value: "[zlib,munge@*]", From: "publish.yaml:4:1"},
			{Name: "keep-going", Value: "true", From: "publish.yaml:7:1"},
			{Name: "timeout", Value: "30m0s", From: "publish.yaml:11:1"},
		}},
		{"environment alone", "", clitest.Variables{"PUBLISH_SOURCE": "{source}", "PUBLISH_DESTINATION": "{destination}", "PUBLISH_KEEP_GOING": "true"}, nil, []cli.Setting{
			{Name: "source", Value: "{source}", From: "PUBLISH_SOURCE"},
			{Name: "destination", Value: "{destination}", From: "PUBLISH_DESTINATION"},
			{Name: "keep-going", Value: "true", From: "PUBLISH_KEEP_GOING"},
		}},
		{"environment over file, flag over both", "source: /nowhere\ndestination: {destination}\nindex: rebuild\nif-exists: error\n", clitest.Variables{"PUBLISH_SOURCE": "{source}", "PUBLISH_INDEX": "none", "PUBLISH_IF_EXISTS": "skip"}, []string{"--if-exists", "overwrite"}, []cli.Setting{
			{Name: "source", Value: "{source}", From: "PUBLISH_SOURCE"},
			{Name: "destination", Value: "{destination}", From: "publish.yaml:2:1"},
			{Name: "index", Value: "none", From: "PUBLISH_INDEX"},
			{Name: "if-exists", Value: "overwrite", From: "flag"},
		}},
		{"arguments: the file is not read", "nonsense", clitest.Variables{"PUBLISH_SOURCE": "/nowhere"}, []string{"{source}", "{destination}"}, []cli.Setting{
			{Name: "source", Value: "{source}", From: "argument"},
			{Name: "destination", Value: "{destination}", From: "argument"},
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			source := clitest.Spack(t, "v3-unsigned")
			t.Chdir(t.TempDir())
			places := strings.NewReplacer("{source}", source, "{destination}", "file://"+t.TempDir()+"/mirror")
			if row.file != "" {
				clitest.Write(t, cli.ConfigFile, places.Replace(row.file))
			}
			env := clitest.Variables{}
			for name, value := range row.env {
				env[name] = places.Replace(value)
			}
			args := []string{"--dry-run", "--json"}
			for _, a := range row.args {
				args = append(args, places.Replace(a))
			}
			var want []cli.Setting
			for _, s := range row.want {
				want = append(want, cli.Setting{Name: s.Name, Value: places.Replace(s.Value), From: s.From})
			}
			code, out, errs := execute(t, env, args...)
			if code != cli.ExitDone {
				t.Fatalf("exit code %d: %s", code, errs)
			}
			var got task.Report
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			var rest []cli.Setting
			for _, s := range got.Settings {
				if s.Name != "dry-run" && s.Name != "json" {
					rest = append(rest, s)
				}
			}
			if diff := cmp.Diff(want, rest); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

// What cannot be understood is said with its place, and nothing is done.
func TestSettingsThatCannotBeUnderstood(t *testing.T) {
	const both = "source: x\ndestination: file:///y\n"
	for _, row := range []struct {
		name, file string
		env        clitest.Variables
		args       []string
		want       string
	}{
		{"unknown key", both + "  \nkeep_gong: true\n", nil, nil, `publish.yaml:4:1: unknown key "keep_gong", did you mean keep-going?`},
		{"the same key, written in both ways", both + "keep_going: true\nkeep-going: true\n", nil, nil, "publish.yaml:4:1: keep-going: it is given twice"},
		{"unknown value", both + "index: sideways\n", nil, nil, `publish.yaml:3:1: index "sideways": want merge, rebuild or none`},
		{"not a number", both + "concurrency: many\n", nil, nil, "publish.yaml:3:1: concurrency:"},
		{"not a size", both + "part-size: huge\n", nil, nil, `publish.yaml:3:1: part-size: "huge" is no size`},
		{"mapping where a value belongs", both + "include:\n  a: b\n", nil, nil, "publish.yaml:3:1: include: want a value or a list of values"},
		{"not a mapping", "- a\n- b\n", nil, nil, "publish.yaml:1:1: want a mapping"},
		{"not YAML", "a: [", nil, nil, "publish.yaml:"},
		{"the same key twice", both + "source: z\n", nil, nil, "publish.yaml:"},
		{"two sources", "source: [a, b]\ndestination: file:///y\n", nil, nil, "publish.yaml:1:1: source: want one place, and not a list"},
		{"bad variable", "", clitest.Variables{"PUBLISH_SOURCE": "x", "PUBLISH_DESTINATION": "file:///y", "PUBLISH_TIMEOUT": "soon"}, nil, "PUBLISH_TIMEOUT: must be a duration"},
		{"nothing at all", "", nil, nil, "no SOURCE and no DESTINATION: give both"},
		{"no destination", "source: x\n", nil, nil, "no DESTINATION: give both"},
		{"one argument", "", nil, []string{"x"}, "1 argument, want SOURCE and DESTINATION"},
		{"unknown flag", "", nil, []string{"--sideways", "x", "file:///y"}, "unknown flag: --sideways"},
		{"bad pattern", "", nil, []string{"--include", "[a", "x", "file:///y"}, `pattern "[a"`},
		{"bad --if-exists", "", nil, []string{"--if-exists", "perhaps", "x", "file:///y"}, `--if-exists "perhaps": want skip, overwrite, overwrite-signed or error`},
		{"no key file", "", nil, []string{"--trusted-keys", "nosuch.pub", "x", "file:///y"}, "--trusted-keys: open nosuch.pub"},
		{"no such scheme", "", nil, []string{"{source}", "gs://bucket"}, "want s3://bucket[/prefix], file:///directory or the path of a directory"},
		{"relative directory", "", nil, []string{"{source}", "file://mirror"}, "want an absolute path"},
		{"no bucket", "", nil, []string{"{source}", "s3:///prefix"}, "want s3://bucket or s3://bucket/prefix"},
	} {
		t.Run(row.name, func(t *testing.T) {
			source := clitest.Spack(t, "v3-unsigned")
			t.Chdir(t.TempDir())
			if row.file != "" {
				clitest.Write(t, cli.ConfigFile, row.file)
			}
			var args []string
			for _, a := range row.args {
				args = append(args, strings.ReplaceAll(a, "{source}", source))
			}
			code, _, errs := execute(t, row.env, args...)
			if code != cli.ExitUsage || !strings.HasPrefix(errs, "publish: ") || !strings.Contains(errs, row.want) {
				t.Errorf("exit code %d: %s", code, errs)
			}
		})
	}
}

// A variable that looks like a setting and is none is refused before anything is done: with PUBLISH_DRYRUN=1 nobody
// wants to publish.
func TestAnUnknownVariableIsRefused(t *testing.T) {
	source := clitest.Spack(t, "v3-unsigned")
	for _, row := range []struct {
		env  clitest.Variables
		want []string // in the message; nil: it is no error
	}{
		{clitest.Variables{"PUBLISH_DRYRUN": "1"}, []string{"publish: PUBLISH_DRYRUN: unknown variable, did you mean PUBLISH_DRY_RUN?"}},
		{clitest.Variables{"PUBLISH_DRY_RUN ": "1"}, []string{"did you mean PUBLISH_DRY_RUN?"}},
		{clitest.Variables{"PUBLISH_Dry_Run": "1"}, []string{"PUBLISH_Dry_Run: unknown variable, did you mean PUBLISH_DRY_RUN?"}},
		{clitest.Variables{"PUBLISH_DESTINATON": "file:///x"}, []string{"did you mean PUBLISH_DESTINATION?"}},
		{clitest.Variables{"PUBLISH_REQUIRE_SIGN": ""}, []string{"did you mean PUBLISH_REQUIRE_SIGNED?"}},
		{clitest.Variables{"PUBLISH_SOKET": "x"}, []string{"did you mean PUBLISH_SOCKET?"}},
		{clitest.Variables{"PUBLISH_HELP": "1"}, []string{"PUBLISH_HELP: unknown variable"}},
		{clitest.Variables{"PUBLISH_": "1"}, []string{"PUBLISH_: unknown variable"}},
		{clitest.Variables{"PUBLISH_XYZZY_PLUGH": "secret", "PUBLISH_INCLUD": "zlib"}, []string{"PUBLISH_INCLUD: unknown variable, did you mean PUBLISH_INCLUDE?", "PUBLISH_XYZZY_PLUGH: unknown variable. "}},
		{clitest.Variables{"PUBLISH_DRY_RUN": "1", "PUBLISH_SOCKET": "/run/x.sock", "PUBLISHER_TOKEN": "x", "MY_PUBLISH_DRYRUN": "1"}, nil},
	} {
		to := t.TempDir() + "/mirror"
		for _, args := range [][]string{{source, "file://" + to}, {"exec", source, "file://" + to, "--", "touch", to + ".built"}} {
			code, _, errs := execute(t, row.env, args...)
			if want := row.want != nil; want != (code == cli.ExitUsage) || !want && code != cli.ExitDone {
				t.Errorf("%v: exit code %d: %s", row.env, code, errs)
			}
			for _, w := range row.want {
				if !strings.Contains(errs, w) {
					t.Errorf("%v: want %q: %s", row.env, w, errs)
				}
			}
			if strings.Contains(errs, "secret") {
				t.Errorf("the error shows a value: %s", errs)
			}
			if done, _ := filepath.Glob(to + "*"); len(done) > 0 && row.want != nil {
				t.Errorf("%v: something was done: %v", row.env, done)
			}
		}
	}
}

// What is said beside other mistakes has another exit code alone.
func TestPlacesAreJudgedBesideOtherMistakes(t *testing.T) {
	source := clitest.Spack(t, "v3-unsigned")
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "x")
	for _, row := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"--index", "foo", "/nowhere", "out"}, cli.ExitUsage, []string{`--index "foo"`, "SOURCE /nowhere is not there"}},
		{[]string{"/nowhere", "out"}, cli.ExitSource, []string{"/nowhere"}},
		{[]string{"--index", "foo", source, file}, cli.ExitUsage, []string{`--index "foo"`, "is a file: want a directory"}},
		{[]string{"--publish-keys", "false", source, "out"}, cli.ExitUsage, []string{"as in --publish-keys=false"}},
		{[]string{"import", source, "x.tar"}, cli.ExitUsage, []string{"is a directory, and not a file that publish export wrote: are the arguments swapped?"}},
	} {
		code, _, stderr := execute(t, nil, row.args...)
		for _, want := range row.want {
			if code != row.code || !strings.Contains(stderr, want) {
				t.Errorf("publish %q: exit code %d, want %d and %q\n%s", row.args, code, row.code, want, stderr)
			}
		}
	}
}

func TestAFileOfAnotherNameIsNotRead(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "publish.yml", "source: a\ndestination: b\n")
	if code, _, stderr := execute(t, nil); code != cli.ExitUsage || !strings.Contains(stderr, "publish.yml is not read, publish.yaml is") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// A variable that publish obeys is not to mean nothing to the command after it.
func TestOtherCommandsObeySharedVariables(t *testing.T) {
	source := clitest.Spack(t, "v3-unsigned")
	for _, row := range []struct {
		env  clitest.Variables
		args []string
		code int
		want string
	}{
		{clitest.Variables{"PUBLISH_DRY_RUN": "1"}, []string{"copy", source, "{to}"}, cli.ExitDone, "dry run: nothing is written"},
		{clitest.Variables{"PUBLISH_DRY_RUN": "maybe"}, []string{"copy", source, "{to}"}, cli.ExitUsage, "PUBLISH_DRY_RUN: must be true or false"},
		{clitest.Variables{"PUBLISH_ENDPOINT_URL": "x:9"}, []string{"ls", "s3://bucket"}, cli.ExitUsage, `endpoint "x:9"`},
		{clitest.Variables{"PUBLISH_ENDPOINT_URL": "x:9"}, []string{"ls", "--endpoint-url", "y:9", "s3://bucket"}, cli.ExitUsage, `endpoint "y:9"`},
		{clitest.Variables{"PUBLISH_TIMEOUT": "-1s"}, []string{"verify", source}, cli.ExitUsage, "PUBLISH_TIMEOUT: must be a duration of 0 or more"},
		{clitest.Variables{"PUBLISH_TIMEOUT": "-1s"}, []string{source, "{to}"}, cli.ExitUsage, "PUBLISH_TIMEOUT: must be a duration of 0 or more"},
		{nil, []string{"verify", "--timeout", "-1s", source}, cli.ExitUsage, "must be a duration of 0 or more, such as 30m"},
		{clitest.Variables{"PUBLISH_REQUIRE_SIGNED": "true"}, []string{"copy", source, "{to}"}, cli.ExitSource, "not signed"},
		{clitest.Variables{"PUBLISH_TRUSTED_KEYS": "none.pub"}, []string{"verify", source}, cli.ExitUsage, "none.pub"},
		{clitest.Variables{"PUBLISH_VIEW": "v"}, []string{"verify", source}, cli.ExitDone, "no damage"}, // the view that publish adds to
	} {
		to := filepath.Join(t.TempDir(), "to")
		args := slices.Clone(row.args)
		for i, arg := range args {
			args[i] = strings.ReplaceAll(arg, "{to}", to)
		}
		code, stdout, stderr := execute(t, row.env, args...)
		if code != row.code || !strings.Contains(stdout+stderr, row.want) {
			t.Errorf("%v, publish %q: exit code %d, want %d and %s\n%s%s", row.env, row.args, code, row.code, row.want, stdout, stderr)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%v, publish %q has written", row.env, row.args)
		}
	}
}

// A variable that is not set, in a flag of any command, leaves out no restriction and no check.
func TestEmptyFlagsAreRefused(t *testing.T) {
	for _, line := range []string{
		"copy --view= A B", "copy --licenses= A B", "copy --expect-os= A B", "copy --to-view= A B", "export --view= A B.tar", "--view= A B", "--upstream= A B", "--include= A B",
		"--exclude= A B", "--trusted-keys= A B", "verify --view= A", "verify --upstream= A", "ls --view= A", "ls --format= A", "history --view= A", "rollback --view= A",
		"withdraw --reason= A zlib", "prune --inventory= A", "sbom --view= A", "view set --from= A v", "catalog --usage= A", "daemon --config=", "exec --view= -- true",
	} {
		args := strings.Fields(line)
		i := slices.IndexFunc(args, func(arg string) bool { return strings.HasSuffix(arg, "=") })
		flag := strings.TrimSuffix(args[i], "=")
		for _, empty := range []string{"", " "} {
			args[i] = flag + "=" + empty
			code, stdout, stderr := execute(t, nil, args...)
			if code != cli.ExitUsage || !strings.Contains(stderr, flag+": it is empty") && !strings.Contains(stderr, `invalid argument "`+empty+`" for "`+flag) {
				t.Errorf("publish %q: exit code %d\n%s%s", args, code, stdout, stderr)
			}
		}
	}
}

// A misspelt pattern excludes nothing, and a space behind a comma belongs to no name.
func TestPatternsThatMatchNothingAreNamed(t *testing.T) {
	source := clitest.Spack(t, "v3-unsigned")
	for _, row := range []struct {
		env        clitest.Variables
		args       []string
		want, miss string
	}{
		{nil, []string{"--exclude", "slrum"}, "the pattern slrum matches no package, did you mean slurm?", ""},
		{nil, []string{"--include", "slurm,opnmpi"}, "the pattern opnmpi matches no package, did you mean openmpi?", "pattern slurm"},
		{nil, []string{"--exclude", "slurm@26*,/zzzz"}, "the pattern slurm@26* matches no package\n", "did you mean"},
		{clitest.Variables{"PUBLISH_INCLUDE": "slurm, munge"}, nil, "new       munge@", "pattern"},
		{nil, []string{"--exclude", "gcc*,/hyibvwk"}, "would publish", "pattern"},
	} {
		code, stdout, stderr := execute(t, row.env, append(row.args, "--dry-run", source, t.TempDir())...)
		if said := stdout + stderr; code != cli.ExitDone || !strings.Contains(said, row.want) || row.miss != "" && strings.Contains(said, row.miss) {
			t.Errorf("%v %q: exit code %d, want %q and not %q\n%s", row.env, row.args, code, row.want, row.miss, said)
		}
	}
}
