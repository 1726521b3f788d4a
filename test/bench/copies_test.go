package bench

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// copiedPackages is how many packages are copied, and away how late each answer is.
const (
	copiedPackages = 1000
	away           = 40 * time.Millisecond
	tarball        = 300 << 10
)

func mirrorOfMany(t *testing.T) string {
	t.Helper()
	u := spackmirror.New(spackmirror.V3, copiedPackages)
	u.Tarball = func(int) int { return tarball }
	dir := filepath.Join(t.TempDir(), "many")
	if err := u.Write(dir, u.All()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A copy of 1,000 packages between two places of one S3 reads no tarball, and takes few requests for each package; the second
// one takes no more than finding out that there is nothing new.
func TestACopyReadsNoTarballs(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	s := s3test.New(s3test.Options{Latency: away})
	defer s.Close()
	env := []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=testtest", "AWS_REGION=us-east-1", "HOME=" + t.TempDir(), "AWS_ENDPOINT_URL=" + s.URL}
	run := func(args ...string) program.Result {
		t.Helper()
		s.ForgetLog()
		r, err := program.Run(env, bin, args...)
		if err != nil || r.Code != 0 {
			t.Fatalf("%v %v", err, r)
		}
		return r
	}
	run(mirrorOfMany(t), "s3://bucket/from")
	first := run("copy", "s3://bucket/from", "s3://bucket/to")
	counts := make(map[string]int)
	for _, e := range s.Log() {
		counts[e.Operation]++
		if body, there := s.Object(e.Key); e.Operation == "GetObject" && strings.Contains(e.Key, "/blobs/") && there && len(body) >= tarball && !strings.HasPrefix(string(body), "{") {
			t.Errorf("%s was read", e.Key)
		}
	}
	t.Logf("%d packages in %v: %v", copiedPackages, first.Took.Round(10*time.Millisecond), counts)
	if counts["CopyObject"] < copiedPackages || len(s.Log()) > 8*copiedPackages {
		t.Errorf("%d requests: %v", len(s.Log()), counts)
	}
	second := run("copy", "s3://bucket/from", "s3://bucket/to")
	of := 0
	for _, e := range s.Log() {
		if strings.HasPrefix(e.Key, "from/") {
			of++
		}
	}
	t.Logf("nothing new: %v, %d requests, %d of them to the source", second.Took.Round(10*time.Millisecond), len(s.Log()), of)
	if of > 5 {
		t.Errorf("the second copy makes %d requests to the source", of)
	}
}

// A mirror of a site is filled from a web server with no more requests at once than --concurrency says, and finds that nothing
// is new by five requests at most.
func TestASiteMirrorAsksLittle(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	const atOnce = 32
	var requests, now, tooMany atomic.Int64
	files := http.FileServer(http.Dir(mirrorOfMany(t)))
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if now.Add(1) > atOnce {
			tooMany.Add(1)
		}
		defer now.Add(-1)
		time.Sleep(away)
		files.ServeHTTP(w, r)
	}))
	defer web.Close()
	site := "file://" + filepath.Join(t.TempDir(), "site")
	for i, most := range []int64{3*copiedPackages + 20, 5} {
		requests.Store(0)
		r, err := program.Run([]string{"HOME=" + t.TempDir()}, bin, "copy", web.URL, site, "--concurrency", strconv.Itoa(atOnce))
		if err != nil || r.Code != 0 {
			t.Fatalf("%v %v", err, r)
		}
		if n := tooMany.Load(); n > 0 {
			t.Errorf("copy %d: %d requests were beside %d others", i+1, n, atOnce)
		}
		t.Logf("copy %d: %v, %d requests", i+1, r.Took.Round(10*time.Millisecond), requests.Load())
		if requests.Load() > most {
			t.Errorf("copy %d makes %d requests, more than %d", i+1, requests.Load(), most)
		}
	}
}
