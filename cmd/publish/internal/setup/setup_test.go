package setup

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
)

// A dialog asks for what is not given, offers what was found, and asks again after a wrong answer.
func TestADialogAsksForWhatIsNotGiven(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.MkdirAll("bc/build_cache", 0o755); err != nil {
		t.Fatal(err)
	}
	found := Found{Source: "bc", Region: "eu-central-1"}
	for _, row := range []struct {
		name  string
		first Settings
		lines []string // the answers
		want  Settings
		says  []string
	}{
		{"all that is found", Settings{}, []string{"", "s3://my-bucket/x", "", "", "", "", "", ""},
			Settings{Source: "bc", Destination: "s3://my-bucket/x", Region: "eu-central-1"}, []string{"SOURCE", "[bc]", "[eu-central-1], - for none"}},
		{"nothing that is found", Settings{}, []string{"other", "s3://my-bucket", "-", "E1", "https://cache.example.org", "", "y", "yes"},
			Settings{Source: "other", Destination: "s3://my-bucket", Distribution: "E1", PublicURL: "https://cache.example.org", RequireSigned: true, Workflow: true}, nil},
		{"a distribution that serves the bucket", Settings{}, []string{"", "s3://my-bucket/x", "", "", "", "", "n", "n"},
			Settings{Source: "bc", Destination: "s3://my-bucket/x", Region: "eu-central-1", Distribution: "E2FOUND", PublicURL: "https://cache.example.org/x"},
			[]string{"[E2FOUND], - for none", "[https://cache.example.org/x], - for none"}},
		{"a directory has no region and no workflow", Settings{}, []string{"", "mirror", "", "", "n"},
			Settings{Source: "bc", Destination: "mirror"}, nil},
		{"wrong answers", Settings{}, []string{"", "", "gs://x", "s3://my-bucket", "", "", "cache.example.org", "https://me:secret@cache.example.org", "-", "nosuch.asc", "", "perhaps", "n", "n"},
			Settings{Source: "bc", Destination: "s3://my-bucket", Region: "eu-central-1"},
			[]string{"it is required", "want s3://bucket[/prefix], file:///directory", "want http://host or https://host", "PUBLISH_PUBLIC_URL in the environment", "nosuch.asc: no such file", "want y or n"}},
		{"what is given is not asked for", Settings{Source: "x", Destination: "s3://my-bucket", Region: "us-east-1", Workflow: true}, []string{"", "", "", "y"},
			Settings{Source: "x", Destination: "s3://my-bucket", Region: "us-east-1", Workflow: true, RequireSigned: true}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := row.first
			got.Found = found
			given := func(name string) bool {
				return map[string]string{"source": row.first.Source, "destination": row.first.Destination, "region": row.first.Region}[name] != "" || name == "workflow" && row.first.Workflow
			}
			var out strings.Builder
			d := Dialog{In: strings.NewReader(strings.Join(row.lines, "\n") + "\n"), Out: &out}
			if strings.HasPrefix(row.name, "a distribution") {
				d.Served = func(_ context.Context, destination, region string) (string, string) {
					if destination != "s3://my-bucket/x" || region != "eu-central-1" {
						t.Errorf("%s in %s is looked for", destination, region)
					}
					return "E2FOUND", "https://cache.example.org/x"
				}
			}
			if err := d.Ask(t.Context(), &got, given); err != nil {
				t.Fatalf("%v: %s", err, out.String())
			}
			got.Found = Found{}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s\n%s", diff, out.String())
			}
			for _, w := range row.says {
				if !strings.Contains(out.String(), w) {
					t.Errorf("no %q: %s", w, out.String())
				}
			}
			if strings.Contains(out.String(), "secret") {
				t.Errorf("a password is shown: %s", out.String())
			}
			if _, more := <-d.lines; more {
				t.Error("an answer was not asked for")
			}
		})
	}
}

// A dialog whose input ends, or that is interrupted while it waits, ends without settings.
func TestADialogEndsWithItsInputAndWithASignal(t *testing.T) {
	d := Dialog{In: strings.NewReader("bc\n"), Out: new(strings.Builder)}
	if err := d.Ask(t.Context(), new(Settings), func(string) bool { return false }); err == nil || !strings.Contains(err.Error(), "no answer") {
		t.Errorf("end of input: %v", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer r.Close()
	ctx, cancel := contextThatEnds(t)
	d = Dialog{In: r, Out: writerFunc(func() { cancel() })} // interrupted once the question is there
	if err := d.Ask(ctx, new(Settings), func(string) bool { return false }); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("interrupted: %v", err)
	}
}

// What is found is found only if it is clear: one mirror, one file of public keys.
func TestOnlyWhatIsClearIsDetected(t *testing.T) {
	t.Chdir(t.TempDir())
	env := clitest.Variables{"AWS_DEFAULT_REGION": "us-west-2"}
	detect := func() Found { return Detect(envOf(env)) }
	if diff := cmp.Diff(Found{Region: "us-west-2"}, detect()); diff != "" {
		t.Errorf("nothing is there:\n%s", diff)
	}
	key, err := os.ReadFile(clitest.Root("test/testdata/keys/one.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"mirrors/noble/v3", "mirrors/noble/blobs", "empty", ".hidden/build_cache", "keys"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	clitest.Write(t, "keys/release.asc", string(key))
	clitest.Write(t, "keys/broken.asc", "no key")
	env["AWS_REGION"] = "eu-central-1"
	if diff := cmp.Diff(Found{Source: "mirrors", Region: "eu-central-1", TrustedKeys: "keys/release.asc"}, detect()); diff != "" {
		t.Errorf("one of each:\n%s", diff)
	}
	if err := os.MkdirAll("second/build_cache", 0o755); err != nil {
		t.Fatal(err)
	}
	clitest.Write(t, "other.pub", string(key))
	if diff := cmp.Diff(Found{Region: "eu-central-1"}, detect()); diff != "" {
		t.Errorf("two of each:\n%s", diff)
	}
}

// A workflow that GitHub would not read, or the action not obey, is refused with all that is wrong.
func TestAWorkflowThatWouldNotWorkIsRefused(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, ".git"), 0o755); err != nil {
		t.Fatal(err)
	}
	below := filepath.Join(top, "a/b")
	if err := os.MkdirAll(below, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		dir  string
		s    Settings
		want string // of the error; empty: it is right
	}{
		{top, Settings{Source: "bc", Destination: "s3://my-bucket"}, ""},
		{top, Settings{Source: ".", Destination: "s3://my-bucket"}, ""},
		{top, Settings{Source: "bc", Destination: "mirror"}, "the action publishes to S3"},
		{top, Settings{Source: "/srv/bc", Destination: "s3://my-bucket"}, "source must be a path below this directory"},
		{top, Settings{Source: "file:///srv/bc", Destination: "s3://my-bucket"}, "source must be a path below this directory"},
		{top, Settings{Source: "../bc", Destination: "s3://my-bucket"}, "source must be a path below this directory"},
		{top, Settings{Source: "bc", Destination: "s3://my-bucket/${{ github.token }}"}, "GitHub would take destination for an expression"},
		{top, Settings{Source: "bc", Destination: "s3://my-bucket", TrustedKeys: userfile.Names{"/a.pub", "/b.pub"}}, "\"/b.pub\": trusted-keys must be a path below"},
		{below, Settings{Source: "bc", Destination: "s3://my-bucket"}, "give the command in ../.."},
	} {
		t.Chdir(row.dir)
		row.s.Workflow = true
		err := row.s.Validate()
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: %v", row.s, err)
		}
	}
}
