// Package e2e holds the promises that a user of the command line can see. Each is a
// script in testdata, named for the promise, that runs the real binary against a real
// S3 server or a directory. The commands that scripts have are in commands_test.go.
package e2e

import (
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

func TestScripts(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	fixtures, err := filepath.Abs("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	// Scripts say "publish", whatever the file is called that we were told to test.
	path := t.TempDir()
	if err := os.Symlink(bin, filepath.Join(path, "publish")); err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Cmds:                commands,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		ContinueOnError:     true,
		Condition: func(name string) (bool, error) {
			if name == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("no condition is called %q", name)
		},
		Setup: func(e *testscript.Env) error {
			w := newWorld(e.T().(testing.TB), server, bin)
			e.Values[key] = w
			e.Vars = append(e.Vars, server.Environ()...)
			e.Vars = append(e.Vars,
				"PATH="+path+":"+os.Getenv("PATH"),
				"HOME="+e.WorkDir,
				"AWS_ENDPOINT_URL="+w.proxy.URL,
				"AWS_ENDPOINT_URL_CLOUDFRONT="+w.api.URL,
				"DISTRIBUTION="+distribution,
				"CDN="+w.site.URL+"/site", // what is in $S3, behind the edge
				"SERVER="+server.Endpoint,
				"BUCKET="+w.bucket,
				"S3=s3://"+w.bucket+"/site",
				"STORE="+filepath.Join(server.Path(w.bucket), "site"), // what is in $S3, as files
				"FIXTURES="+fixtures,
				"KEYS="+filepath.Join(fixtures, "keys"),
			)
			return nil
		},
	})
}

// A world is what belongs to one script: a bucket behind a proxy, and an edge.
type world struct {
	server *s3server.Server
	proxy  *faultproxy.Proxy
	bin    string
	bucket string

	control   *cloudfronttest.Server
	site, api *httptest.Server // the edge, and its control
}

const distribution = "E2TEST"

func newWorld(t testing.TB, server *s3server.Server, bin string) *world {
	w := &world{server: server, proxy: faultproxy.Start(t, server.Endpoint), bin: bin, bucket: server.Bucket(t)}
	edge := &cdn.Edge{Origin: server.Endpoint + "/" + w.bucket, Transport: server.Signed()}
	w.control = cdn.Control(distribution, edge)
	w.site, w.api = httptest.NewServer(edge), httptest.NewServer(w.control)
	t.Cleanup(w.site.Close)
	t.Cleanup(w.api.Close)
	return w
}

type worldKey struct{}

var key worldKey

func worldOf(ts *testscript.TestScript) *world { return ts.Value(key).(*world) }
