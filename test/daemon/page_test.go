package daemon

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/browser"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// The page is live with JavaScript, whole without it, and neither loads anything from elsewhere.
func TestThePageInABrowser(t *testing.T) {
	h, _, _ := bucketHost(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	h.extra = "listen: " + address + "\n"
	h.mirror = "    stuck_after: 1s\n    require_signed: false\n"
	h.start()
	u := spackmirror.New(spackmirror.V3, 12)
	drop(t, mirrorOf(t, u, u.Range(0, 6)), h.source)
	h.must("drain", "--wait")
	target, err := url.Parse("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	// After the page itself was answered, more is published: only a live page can show it.
	rest := mirrorOf(t, u, u.All())
	more := sync.OnceFunc(func() {
		drop(t, rest, h.source)
		h.must("drain", "--wait")
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/live" {
			more()
		}
		r.Host = address
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	still := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/page.js" {
			w.Header().Set("Content-Type", "text/javascript")
			return
		}
		r.Host = address
		proxy.ServeHTTP(w, r)
	}))
	defer still.Close()
	if dom, _ := browser.Open(t, still.URL+"/", "--dump-dom"); !strings.Contains(dom, "6 packages") || !strings.Contains(dom, "everything is published") {
		t.Errorf("without its script:\n%s", dom)
	}
	dom, complaints := browser.Open(t, front.URL+"/", browser.Later, "--dump-dom")
	if !strings.Contains(dom, "12 packages") || complaints != "" {
		t.Errorf("with JavaScript: %s\n%s", complaints, dom)
	}
	// Something is wrong, and can be read.
	name := filepath.Join(h.source, "v3/manifests/spec/zlib-0", fmt.Sprintf("zlib-0-9.9-%s.spec.manifest.json", u.Hash(0)))
	if err := os.WriteFile(name, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	h.until("it is stuck", func() bool { h.run("drain"); return len(h.status().Stuck) == 1 })
	dom, _ = browser.Open(t, front.URL+"/", browser.Later, "--dump-dom")
	if !strings.Contains(dom, "do not become complete") || !strings.Contains(dom, filepath.Base(name)) {
		t.Errorf("nothing of what is stuck:\n%s", dom)
	}
	if text := h.must("status"); !strings.Contains(text, "stuck: "+h.status().Mirrors[0].Name) {
		t.Errorf("the status says nothing of it:\n%s", text)
	}
	framed := browser.Framed(t, target)
	browser.Keep(t, framed)
	for _, width := range []int{browser.Narrow, browser.Wide} {
		browser.Fits(t, framed, width)
	}
	// And what is wrong can be called anything, without becoming a part of the page.
	bad := `<img src=x onerror='document.title="taken"'>"><script>document.title='taken'<`
	if err := os.Mkdir(filepath.Join(h.source, "v3/manifests/spec", bad), 0o777); err != nil {
		t.Fatal(err)
	}
	filtered := regexp.MustCompile(`[^A-Za-z0-9_+.-]`).ReplaceAllString(bad, "_")
	name = filepath.Join(h.source, "v3/manifests/spec", bad, fmt.Sprintf("%s-9.9-%s.spec.manifest.json", filtered, u.Hash(1)))
	if err := os.WriteFile(name, []byte("{"), 0o666); err != nil {
		t.Fatal(err)
	}
	h.until("it is stuck, too", func() bool { h.run("drain"); return len(h.status().Stuck) == 2 })
	for _, page := range []string{still.URL, front.URL} { // as it was loaded, and as its script has changed it
		dom, complaints = browser.Open(t, page+"/", browser.Later, "--dump-dom")
		if !strings.Contains(dom, "&lt;img src=x") || strings.Contains(dom, "<img") || strings.Contains(dom, "<title>taken") || complaints != "" {
			t.Errorf("a name is markup: %s\n%s", complaints, dom)
		}
	}
}
