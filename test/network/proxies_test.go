// Package network holds what is promised of the way to other hosts.
package network

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const (
	distribution = "E2QWRUHAPOMQZL"
	source       = "../testdata/v3-unsigned"
)

// proxyAddress is the one from which the proxies ask, and nothing else does: ports are used again.
const proxyAddress = "127.0.0.2"

// names of the hosts that the program asks. The certificate of httptest is for them.
var names = []string{"s3.example.com", "sts.example.com", "cloudfront.example.com", "cdn.example.com"}

// A world is one server under all the names, and a proxy.
type world struct {
	services map[string]http.Handler
	server   *httptest.Server
	proxy    *httptest.Server
	guarded  *httptest.Server // a proxy that is asked over TLS, with a password

	mu   sync.Mutex                 // guards what follows
	ways map[string]map[string]bool // by name of the host: "proxy", "direct"
}

func newWorld(t *testing.T) (w *world, sts *sessiontest.Server) {
	t.Helper()
	storage := s3test.Handler(s3test.Options{})
	sts, err := sessiontest.Handler("https://sts.example.com", sessiontest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w = &world{services: map[string]http.Handler{
		"s3.example.com": storage, "cdn.example.com": storage, "sts.example.com": sts, "cloudfront.example.com": cloudfronttest.New(distribution),
	}}
	w.server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.server.Close)
	w.proxy = httptest.NewServer(http.HandlerFunc(w.connect))
	t.Cleanup(w.proxy.Close)
	w.guarded = httptest.NewTLSServer(http.HandlerFunc(func(answer http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte("user:secret")) {
			http.Error(answer, "who are you?", http.StatusProxyAuthRequired)
			return
		}
		w.connect(answer, r)
	}))
	t.Cleanup(w.guarded.Close)
	return w, sts
}

// serve notes by which way a request has come.
func (w *world) serve(answer http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	way := "direct"
	if from, _, _ := net.SplitHostPort(r.RemoteAddr); from == proxyAddress {
		way = "proxy"
	}
	w.mu.Lock()
	if w.ways[host] == nil {
		w.ways[host] = map[string]bool{}
	}
	w.ways[host][way] = true
	w.mu.Unlock()
	if s := w.services[host]; s != nil {
		s.ServeHTTP(answer, r)
		return
	}
	http.NotFound(answer, r)
}

// connect makes a tunnel to the server, whatever its name.
func (w *world) connect(answer http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		http.Error(answer, "want CONNECT", http.StatusMethodNotAllowed)
		return
	}
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(proxyAddress)}}
	to, err := from.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		http.Error(answer, err.Error(), http.StatusBadGateway)
		return
	}
	defer to.Close()
	client, _, err := http.NewResponseController(answer).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	var g sync.WaitGroup
	g.Go(func() { io.Copy(to, client); to.Close() })
	io.Copy(client, to)
	client.Close()
	g.Wait()
}

// url is that of one of the names.
func (w *world) url(name string) string { return "https://" + name + ":" + port(w.server) }

func port(s *httptest.Server) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// began forgets what was asked.
func (w *world) began() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ways = map[string]map[string]bool{}
}

// One set of variables decides for everything that is asked which way it is asked.
func TestOneSetOfProxies(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	w, sts := newWorld(t)
	files := t.TempDir()
	hosts := write(t, files, "hosts", "127.0.0.1 localhost proxy.example.com "+strings.Join(names, " ")+"\n")
	bundle := write(t, files, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.server.Certificate().Raw})))

	through := func(more ...string) []string { return append(more, "HTTPS_PROXY="+w.proxy.URL) }
	rows := map[string]struct {
		env    []string
		direct []string // the others are asked through the proxy
	}{
		"no proxy":                     {nil, names},
		"HTTPS_PROXY":                  {through(), nil},
		"https_proxy":                  {[]string{"https_proxy=" + w.proxy.URL}, nil},
		"a proxy with a password":      {[]string{"HTTPS_PROXY=https://user:secret@proxy.example.com:" + port(w.guarded)}, nil},
		"a proxy for http only":        {[]string{"HTTP_PROXY=" + w.proxy.URL}, names},
		"NO_PROXY with a domain":       {through("NO_PROXY=localhost,.example.com"), names},
		"NO_PROXY with everything":     {through("NO_PROXY=*"), names},
		"NO_PROXY with another domain": {through("NO_PROXY=example.org"), nil},
		"NO_PROXY with S3 and CDN":     {through("NO_PROXY=s3.example.com, cdn.example.com"), []string{"s3.example.com", "cdn.example.com"}},
		"NO_PROXY with STS":            {through("NO_PROXY=sts.example.com"), []string{"sts.example.com"}},
		"NO_PROXY with CloudFront":     {through("NO_PROXY=cloudfront.example.com"), []string{"cloudfront.example.com"}},
		"no_proxy with the port":       {through("no_proxy=" + strings.TrimPrefix(w.url("s3.example.com"), "https://")), []string{"s3.example.com"}},
		"no_proxy with another port":   {through("no_proxy=s3.example.com:1"), nil},
	}
	n := 0
	for what, row := range rows {
		n++
		prefix := fmt.Sprintf("noble-%d", n)
		t.Run(what, func(t *testing.T) {
			w.began()
			env := []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + os.TempDir(), "HOME=" + files, "AWS_REGION=us-east-1", "AWS_CA_BUNDLE=" + bundle,
				"AWS_ENDPOINT_URL_STS=" + w.url("sts.example.com"), "AWS_ENDPOINT_URL_CLOUDFRONT=" + w.url("cloudfront.example.com")}
			env = append(env, row.env...)
			site := w.url("cdn.example.com") + "/bucket/" + prefix
			named(t, hosts, env, bin, "--endpoint-url", w.url("s3.example.com"), "--role-to-assume", "arn:aws:iam::"+sessiontest.Account+":role/publish",
				"--web-identity-token-file", write(t, files, "token", sts.Issue("sts.amazonaws.com").JWT), "--distribution-id", distribution, "--public-url", site, source, "s3://bucket/"+prefix)
			want := map[string]string{}
			for _, name := range names {
				want[name] = "proxy"
			}
			for _, name := range row.direct {
				want[name] = "direct"
			}
			w.check(t, "publish", want)
			w.began()
			named(t, hosts, env, bin, "verify", site)
			w.check(t, "verify", map[string]string{"cdn.example.com": want["cdn.example.com"]})
		})
	}
}

// check compares the ways by which hosts were asked.
func (w *world) check(t *testing.T, act string, want map[string]string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	got := map[string]string{}
	for host, ways := range w.ways {
		got[host] = strings.Join(slices.Sorted(maps.Keys(ways)), " and ")
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: asked %v, want %v", act, got, want)
	}
}

// named runs the program where the file hosts says what the names of hosts lead to.
func named(t *testing.T, hosts string, env []string, bin string, args ...string) {
	t.Helper()
	own := "-m" // a mount that nothing else sees
	if os.Geteuid() != 0 {
		own = "-rm"
	}
	script := `mount --bind "$0" /etc/hosts && exec "$@"`
	r, err := program.Run(env, "unshare", append([]string{own, "sh", "-c", script, hosts, bin}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 0 {
		t.Errorf("%v", r)
	}
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
