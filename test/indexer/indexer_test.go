// Package indexer runs several indexers on one queue of a bucket into which others push.
package indexer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/manifest"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
)

const distribution = "E2QWRUHAPOMQZL"

// A fleet is several indexers, and what they have in front of them.
type fleet struct {
	*bucket
	bin  string
	env  []string
	args []string
	site string       // the CDN
	slow atomic.Int64 // how long its API takes, in nanoseconds
	told atomic.Int64 // how often it was asked to forget something

	mu    sync.Mutex // guards what follows
	hosts []*program.Process
	paths []string // that it was asked to forget
}

func newFleet(t *testing.T, b *bucket, n int) *fleet {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{bucket: b, bin: bin}
	edge := &cdn.Edge{Origin: machine.url + "/" + b.name, Transport: anybody{}}
	api := cdn.Control(distribution, edge)
	site, control := httptest.NewServer(edge), httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			f.told.Add(1)
			f.forgotten(r)
		}
		time.Sleep(time.Duration(f.slow.Load()))
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(site.Close)
	t.Cleanup(control.Close)
	f.site = site.URL
	f.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ENDPOINT_URL_CLOUDFRONT=" + control.URL}
	f.args = []string{"indexer", "--queue", b.queue, "--endpoint-url", machine.url, "--settle", "1s", "--takeover", "10s", "--distribution-id", distribution, "s3://" + b.name}
	for range n {
		f.start(t)
	}
	t.Cleanup(func() { f.stop(t) })
	return f
}

var forgottenPath = regexp.MustCompile(`<Path>([^<]*)</Path>`)

// forgotten keeps what a request asks CloudFront to forget.
func (f *fleet) forgotten(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range forgottenPath.FindAllStringSubmatch(string(body), -1) {
		f.paths = append(f.paths, m[1])
	}
}

func (f *fleet) start(t *testing.T) {
	t.Helper()
	h, err := program.Begin(f.env, f.bin, f.args...)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = append(f.hosts, h)
}

// kill is kill -9 of one of them.
func (f *fleet) kill(n int) {
	f.mu.Lock()
	h := f.hosts[n%len(f.hosts)]
	f.hosts = slices.DeleteFunc(f.hosts, func(o *program.Process) bool { return o == h })
	f.mu.Unlock()
	h.Kill()
	_, _ = h.Wait()
}

// stop asks all of them to stop, which they do in time and with success.
func (f *fleet) stop(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.hosts {
		began := time.Now()
		h.Stop()
		r, err := h.Wait()
		if took := time.Since(began); err != nil || r.Code != 0 || took > 10*time.Second {
			t.Errorf("an indexer took %v to stop: %v", took, err)
		}
		if t.Failed() {
			t.Log(r)
		}
	}
	f.hosts = nil
}

// pushed is what `spack buildcache push` without --update-index leaves of a fixture: all but the
// indices.
func pushed(t *testing.T, fixture string) map[string][]byte {
	t.Helper()
	root := filepath.Join("../testdata", fixture)
	content := map[string][]byte{}
	err := filepath.WalkDir(root, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(root, file)
		name := filepath.ToSlash(rel)
		if _, ok := layout.ParseV3Key(name); strings.HasPrefix(name, layout.V3Indices) || strings.HasPrefix(name, layout.V3Keys) && !ok ||
			slices.Contains([]string{layout.V2Index, layout.V2IndexHash, layout.V2KeyIndex}, name) {
			return nil
		}
		content[name], err = os.ReadFile(file)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// behind is the mirror that clients find at the CDN.
func (f *fleet) behind(mirror, fixture string) *reader.Mirror {
	u, _ := url.JoinPath(f.site, mirror)
	return client(reader.HTTP(http.DefaultClient, u), fixture)
}

func client(s reader.Source, fixture string) *reader.Mirror {
	if strings.HasPrefix(fixture, "v3") {
		return reader.V3(s)
	}
	return reader.V2(s)
}

func (f *fleet) wantSpacks(t *testing.T, mirrors map[string]string) {
	t.Helper()
	for mirror, fixture := range mirrors {
		want := client(reader.Dir(filepath.Join("../testdata", fixture)), fixture)
		got := f.behind(mirror, fixture)
		if diff := got.Index.Diff(want.Index); len(diff) > 0 || !got.Works() || len(want.Index) == 0 {
			t.Errorf("clients of %q find %v\n%s", mirror, got, strings.Join(diff, "\n"))
		}
		if fmt.Sprint(got.Keys) != fmt.Sprint(want.Keys) {
			t.Errorf("clients of %q find the keys %v, want %v", mirror, got.Keys, want.Keys)
		}
		r, err := program.Run(f.env, f.bin, "verify", "--deep", "--endpoint-url", machine.url, "s3://"+path.Join(f.name, mirror))
		if err != nil || r.Code != 0 {
			t.Errorf("verify %q: %v\n%s", mirror, err, r)
		}
	}
}

// Pushed by others, object by object in any order, without an index, while three indexers are killed
// and started again and messages come twice: each mirror gets the index that Spack makes of it,
// its keys, and clients behind the CDN see that. So they do after Spack has put back an older index.
func TestWhateverIsPushedIsIndexed(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "cache", 10), 3)
	mirrors := map[string]string{"noble/spack": "v3-signed", "slurm/25.11/13.4.0/buildcache": "v2-signed", "": "v3-unsigned", "a b+c/ü": "v3-signed"}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for ctx.Err() == nil {
			time.Sleep(time.Second + rand.N(2*time.Second))
			f.kill(rand.IntN(3))
			f.start(t)
		}
	})
	f.push(t, mirrors)
	cancel()
	chaos.Wait()
	f.await(t, f.queue, "0+0", 3*time.Minute)
	if dead := f.messages(t, f.dead); dead != "0+0" {
		t.Errorf("%s messages are dead", dead)
	}
	f.wantSpacks(t, mirrors)

	// Spack, which saw nothing, has been slow.
	for mirror, fixture := range mirrors {
		for _, o := range emptyIndex(t, fixture) {
			if err := f.put(t.Context(), path.Join(mirror, o.name), o.content); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.behind(mirror, fixture); len(got.Index) > 0 {
			t.Errorf("clients of %q are not told of what Spack wrote: %v", mirror, got)
		}
	}
	f.await(t, f.queue, "0+0", time.Minute)
	f.wantSpacks(t, mirrors)
}

type object struct {
	name    string
	content []byte
}

// emptyIndex is what Spack writes of a mirror in which it saw nothing.
func emptyIndex(t *testing.T, fixture string) []object {
	t.Helper()
	if strings.HasPrefix(fixture, "v2") {
		return []object{{layout.V2Index, []byte(`{"database":{"version":"7","installs":{}}}`)}}
	}
	index := []byte(`{"database":{"version":"8","installs":{}}}`)
	rec := manifest.Record{Size: int64(len(index)), MediaType: manifest.IndexType(8), Compression: "none", Digest: blob.DigestOf(index)}
	pointer, err := (&manifest.Manifest{Records: []manifest.Record{rec}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return []object{{layout.V3Blob(rec.Digest), index}, {layout.V3Index, pointer}}
}

// push stores what is pushed to all mirrors, by several at once and in any order, and tells of
// some of it once more.
func (f *fleet) push(t *testing.T, mirrors map[string]string) {
	t.Helper()
	var all []object
	for mirror, fixture := range mirrors {
		_ = f.behind(mirror, fixture) // now the CDN knows that there is nothing
		for name, content := range pushed(t, fixture) {
			all = append(all, object{path.Join(mirror, name), content})
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	todo := make(chan object)
	var pushers sync.WaitGroup
	for range 4 {
		pushers.Go(func() {
			for o := range todo {
				err := f.put(t.Context(), o.name, o.content)
				if err == nil && rand.IntN(4) == 0 {
					err = f.send(t.Context(), fmt.Sprintf(`{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"%s"},"object":{"key":"%s"}}}]}`, f.name, url.QueryEscape(o.name)))
				}
				if err != nil {
					t.Error(err)
				}
				time.Sleep(rand.N(60 * time.Millisecond))
			}
		})
	}
	for _, o := range all {
		todo <- o
	}
	close(todo)
	pushers.Wait()
}

// Messages that say nothing, or nothing of this bucket, are not deleted but end in the dead-letter
// queue, and hold nothing up.
func TestPoisonEndsInTheDeadLetterQueue(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "poisoned", 1), 2)
	for _, body := range []string{"hello", `{"Records":[{"eventSource":"aws:s3","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"another"},"object":{"key":"` + layout.V3Index + `"}}}]}`} {
		if err := f.send(t.Context(), body); err != nil {
			t.Fatal(err)
		}
	}
	content := pushed(t, "v2-unsigned")
	for _, first := range []bool{true, false} { // content before documents: no message comes twice here
		for name, c := range content {
			if strings.HasSuffix(name, ".spack") == first {
				if err := f.put(t.Context(), name, c); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	f.await(t, f.dead, "2+0", 2*time.Minute)
	f.await(t, f.queue, "0+0", time.Minute)
	f.wantSpacks(t, map[string]string{"": "v2-unsigned"})
}

// A message that is worked on for much longer than it takes another host to take over is not taken
// over, though others have nothing to do: the CDN is told once of the package, and once of the new
// index, which is a message of its own.
func TestNobodyTakesOverFromWhoIsAlive(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "slow", 10), 4)
	f.slow.Store(int64(25 * time.Second))
	content := pushed(t, "v3-unsigned")
	var document string
	for name, c := range content {
		if _, ok := layout.ParseV3Spec(name); ok {
			document = name
		} else if err := f.put(t.Context(), name, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.put(t.Context(), document, content[document]); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	f.await(t, f.queue, "0+0", 2*time.Minute)
	if n := f.told.Load(); n != 2 {
		t.Errorf("the CDN was told %d times", n)
	}
}

// A tarball of layout v2 that somebody pushes once more with other bytes, without an index, is told to
// the CDN: exactly its path, and nothing else of it.
func TestTarballsThatAreReplaced(t *testing.T) {
	t.Parallel()
	needMachine(t)
	f := newFleet(t, newBucket(t, "replaced", 10), 2)
	content := pushed(t, "v2-unsigned")
	tarball := ""
	for name, c := range content {
		if strings.HasSuffix(name, ".spack") {
			tarball = name
		}
		if err := f.put(t.Context(), "noble/"+name, c); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Second)
	f.await(t, f.queue, "0+0", time.Minute)
	get := func() string {
		resp, err := http.Get(f.site + "/noble/" + tarball)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	if get() != string(content[tarball]) {
		t.Fatal("clients do not get the tarball")
	}
	f.mu.Lock()
	f.paths = nil
	f.mu.Unlock()
	if err := f.put(t.Context(), "noble/"+tarball, []byte("built anew")); err != nil {
		t.Fatal(err)
	}
	if get() != string(content[tarball]) {
		t.Error("the CDN did not keep the tarball, so nothing is tested")
	}
	time.Sleep(time.Second)
	f.await(t, f.queue, "0+0", time.Minute)
	if got := get(); got != "built anew" {
		t.Errorf("clients get %d bytes of before", len(got))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Equal(f.paths, []string{"/noble/" + tarball}) {
		t.Errorf("forgotten: %q", f.paths)
	}
}

// An idle host asks three times a minute, and each question waits for an answer but the first.
func TestAnIdleHostAsksSeldom(t *testing.T) {
	t.Parallel()
	needMachine(t)
	b := newBucket(t, "idle", 10)
	var mu sync.Mutex
	var waits, others []string
	target, err := url.Parse(machine.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ErrorLog = log.New(io.Discard, "", 0) // who stops does not wait for an answer
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		mu.Lock()
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".ReceiveMessage") {
			waits = append(waits, fmt.Sprint(regexp.MustCompile(`"WaitTimeSeconds":(\d+)`).FindStringSubmatch(string(body))))
		} else {
			others = append(others, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Amz-Target"))
		}
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	b.queue = front.URL + "/" + account + "/idle"
	f := newFleet(t, b, 0)
	dir, err := os.MkdirTemp("", "idle") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f.args = append([]string{f.args[0], "--listen", "127.0.0.1:0", "--socket", dir + "/socket"}, f.args[1:]...)
	f.start(t)
	time.Sleep(50 * time.Second)
	r, err := program.Run(f.env, f.bin, "status", "--json", "--socket", dir+"/socket")
	if err != nil || r.Code != 0 || !strings.Contains(r.Stdout, `"mode": "indexer"`) || !strings.Contains(r.Stdout, `"healthy": true`) || !strings.Contains(r.Stdout, `"mirrors": []`) {
		t.Errorf("publish status: %v\n%s", err, r)
	}
	f.stop(t)
	mu.Lock()
	defer mu.Unlock()
	if len(waits) < 3 || len(waits) > 4 || len(others) > 2 { // the first, and one every 20 s; what S3 says when it is told to notify is deleted
		t.Errorf("questions, waiting %q, and others: %q", waits, others)
	}
	for i, w := range waits {
		if long := strings.Contains(w, ":20"); long != (i > 0) {
			t.Errorf("waits: %q", waits)
		}
	}
}

// What cannot be served is said, with what to do.
func TestIndexerRefuses(t *testing.T) {
	t.Parallel()
	needMachine(t)
	b := newBucket(t, "refusing", 10)
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + t.TempDir(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true"}
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--queue", machine.url + "/" + account + "/none", "s3://refusing"}, "no such queue"},
		{[]string{"--queue", "indexer", "s3://refusing"}, "want its URL"},
		{[]string{"s3://refusing"}, "--queue"},
		{[]string{"--queue", b.queue, "file:///tmp"}, "only S3 sends events to a queue"},
		{[]string{"--queue", b.queue, "--takeover", "1s", "s3://refusing"}, "--takeover"},
		{[]string{"--queue", b.queue, "--settle", "0s", "s3://refusing"}, "--settle"},
		{[]string{"--queue", b.queue, "--listen", "0.0.0.0:9464", "s3://refusing"}, "--listen 0.0.0.0:9464: 0.0.0.0 is not a loopback address"},
	} {
		r, err := program.Run(env, bin, append([]string{"indexer", "--endpoint-url", machine.url}, row.args...)...)
		advised := strings.Contains(r.Stderr, "hint: ") || strings.Contains(r.Stderr, ": want ")
		if err != nil || r.Code != 2 || !strings.Contains(r.Stderr, row.want) || !advised {
			t.Errorf("%v: %v\n%s", row.args, err, r)
		}
	}
}
