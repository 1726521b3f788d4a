package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// A place is where the scripts of pages run: a directory with a buildcache, and an S3 server with a bucket.
type place struct {
	dir    string
	server *s3server.Server
	path   string // of publish
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{dir: t.TempDir(), server: s3server.Start(t), path: t.TempDir()}
	if err := p.server.CreateBucket("my-cache"); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(p.dir, "buildcache"), os.DirFS("../testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(publish(t), filepath.Join(p.path, "publish")); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a script as a page shows it, with the names of the example replaced by those of the place.
func (p *place) run(t *testing.T, script string) string {
	t.Helper()
	script = strings.NewReplacer(
		"/srv/mirror", filepath.Join(p.dir, "mirror"),
		"http://minio:9000", p.server.Endpoint,
		"AWS_ACCESS_KEY_ID=minioadmin", "AWS_ACCESS_KEY_ID="+p.server.Access,
		"AWS_SECRET_ACCESS_KEY=minioadmin", "AWS_SECRET_ACCESS_KEY="+p.server.Secret,
	).Replace(script)
	cmd := exec.Command("bash", "-euxo", "pipefail", "-c", script)
	cmd.Dir = p.dir
	cmd.Env = append(p.server.Environ(), "AWS_ENDPOINT_URL="+p.server.Endpoint, "PATH="+p.path+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	return string(out)
}

var marked = regexp.MustCompile("(?s)<!-- this runs in a test -->\n```sh\n(.*?)```")

// scripts are those of a page that are marked.
func scripts(t *testing.T, page string, least int) []string {
	t.Helper()
	var all []string
	for _, m := range marked.FindAllStringSubmatch(pages(t)[page], -1) {
		all = append(all, m[1])
	}
	if len(all) < least {
		t.Fatalf("%s has %d scripts", page, len(all))
	}
	return all
}

// The commands that the README shows for a first try work as they stand there.
func TestReadmeRuns(t *testing.T) {
	p := newPlace(t)
	for _, script := range scripts(t, "README.md", 2) {
		p.run(t, script)
	}
}

// The README leads with the problem, says what state the release is in, and fits two screens.
func TestReadmeFitsTwoScreens(t *testing.T) {
	text := pages(t)["README.md"]
	if lines := strings.Count(text, "\n"); lines > 110 {
		t.Errorf("%d lines", lines)
	}
	first, _, _ := strings.Cut(text, "\n- ")
	for _, want := range []string{"update-index", "at the same time", "no Spack, no AWS CLI and no Python"} {
		if !strings.Contains(first, want) {
			t.Errorf("the beginning has no %q", want)
		}
	}
	for _, want := range []string{"**State: ", "install.sh", ".deb", ".rpm", "actions/checkout@", "require-signed: false", "AWS_ACCESS_KEY_ID=minioadmin"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q", want)
		}
	}
}

// A damaged object is repaired by the commands that the page shows.
func TestADamagedObjectIsRepaired(t *testing.T) {
	p := newPlace(t)
	p.run(t, "publish ./buildcache file:///srv/mirror")
	script := scripts(t, "docs/troubleshooting.md", 1)[0]
	blob := filepath.Join(p.dir, "mirror", regexp.MustCompile(`blobs/sha256/\S+`).FindString(script))
	content, err := os.ReadFile(blob)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(blob, content, 0o644); err != nil {
		t.Fatal(err)
	}
	said := p.run(t, script)
	if first, last, found := strings.Cut(said, "damaged, as the findings say"); !found || !strings.Contains(first, filepath.Base(blob)) || !strings.Contains(last, "no damage") {
		t.Errorf("%s", said)
	}
}
