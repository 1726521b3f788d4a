package sessions

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/session"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const distribution = "E2TEST"

// A world is an account whose bucket and distribution are for sessions only.
type world struct {
	sts    *sessiontest.Server
	bucket string
	s3     string
	cdn    string
	env    []string
	bin    string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	sts, err := sessiontest.Handler("https://sts.example", sessiontest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	before, err := Before(server, sts)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{sts: sts, bin: bin, bucket: server.Bucket(t)}
	edge := &cdn.Edge{Origin: server.Endpoint + "/" + w.bucket, Transport: server.Signed()}
	site, guarded, control := httptest.NewServer(edge), httptest.NewServer(before), httptest.NewServer(sts.Guard(cdn.Control(distribution, edge)))
	t.Cleanup(site.Close)
	t.Cleanup(guarded.Close)
	t.Cleanup(control.Close)
	w.s3, w.cdn = guarded.URL, site.URL
	w.env = append(server.Environ(), "AWS_ENDPOINT_URL="+guarded.URL, "AWS_ENDPOINT_URL_CLOUDFRONT="+control.URL, "HOME="+t.TempDir())
	return w
}

// publish runs the binary in a session that may do what its scope is.
func (w *world) publish(t *testing.T, scope session.Scope, args ...string) program.Result {
	t.Helper()
	scope.Bucket, scope.Account = w.bucket, sessiontest.Account
	is, err := w.sts.Begin(session.SessionPolicy(scope))
	if err != nil {
		t.Fatal(err)
	}
	env := append(w.env, "AWS_ACCESS_KEY_ID="+is.AccessKey, "AWS_SECRET_ACCESS_KEY="+is.SecretKey, "AWS_SESSION_TOKEN="+is.Token)
	r, err := program.Run(env, w.bin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// What the policy permits is all that a publisher needs, from the first run, for which
// nothing is there, to the last: and S3 does not even tell it what is not there.
func TestTheNarrowPolicyIsEnough(t *testing.T) {
	for _, layout := range []string{"v3", "v2"} {
		t.Run(layout, func(t *testing.T) {
			w := newWorld(t)
			publish := session.Scope{Prefix: "noble/spack", Distribution: distribution}
			look := session.Scope{Prefix: "noble/spack", ReadOnly: true}
			where := "s3://" + w.bucket + "/noble/spack"
			signed, unsigned := fixture(t, layout+"-signed"), fixture(t, layout+"-unsigned")
			cdn := []string{"--distribution-id", distribution, "--wait-for-invalidation", "--public-url", w.cdn + "/noble/spack"}
			for _, run := range []struct {
				scope session.Scope
				args  []string
				says  string
			}{
				{look, []string{"--dry-run", unsigned, where}, "new"},
				{publish, append([]string{unsigned, where}, cdn...), "published"},
				{publish, append([]string{unsigned, where}, cdn...), "nothing to do"},
				{look, []string{"--dry-run", signed, where}, ""},
				{publish, append([]string{"--if-exists", "skip", signed, where}, cdn...), ""},
				{publish, []string{"index", where}, ""},
				{look, []string{"verify", "--deep", where}, ""},
			} {
				r := w.publish(t, run.scope, run.args...)
				if r.Code != 0 || !strings.Contains(r.Stdout+r.Stderr, run.says) {
					t.Errorf("%v\nrefused: %s", r, strings.Join(w.sts.Refusals(), "\n"))
				}
			}
			for _, refused := range w.sts.Refusals() {
				t.Error("refused:", refused)
			}
		})
	}
}

// A neighbour's mirror is out of reach, and so is anything that changes for who looks.
func TestTheNarrowPolicyIsNoMore(t *testing.T) {
	w := newWorld(t)
	source := fixture(t, "v3-unsigned")
	for name, run := range map[string]struct {
		scope session.Scope
		where string
	}{
		"the neighbour":           {session.Scope{Prefix: "noble/spack"}, "/noble/spack2"},
		"the one above":           {session.Scope{Prefix: "noble/spack"}, "/noble"},
		"who looks and publishes": {session.Scope{Prefix: "noble/spack", ReadOnly: true}, "/noble/spack"},
	} {
		r := w.publish(t, run.scope, source, "s3://"+w.bucket+run.where)
		if r.Code != 5 || !strings.Contains(r.Stderr, "no session policy allows") {
			t.Errorf("%s: %v", name, r)
		}
	}
}
