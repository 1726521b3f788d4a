// Package browser looks at pages with a real browser.
package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Later lets a page be as it is after ten seconds.
const Later = "--virtual-time-budget=10000"

// Open lets headless Chromium open a page, and returns what it writes to its output, such as with
// --dump-dom, and what it complains about. Where it is missing the test is skipped, except where
// nothing may be.
func Open(t *testing.T, page string, more ...string) (out, complaints string) {
	t.Helper()
	bin, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	args := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir=" + t.TempDir(), "--enable-logging=stderr"}, more...)
	cmd := exec.Command(bin, append(args, page)...)
	var shown, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &shown, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	for _, line := range strings.Split(errs.String(), "\n") {
		if strings.Contains(line, "CONSOLE") || strings.Contains(line, "Refused to") {
			complaints += line + "\n"
		}
	}
	return shown.String(), complaints
}

// The widths of a narrow and of a wide screen, in pixels.
const Narrow, Wide = 400, 1280

// frame shows a page at a width: no window of Chromium is as narrow as a telephone. Its title says how wide the content is.
const frame = `<!doctype html><title>not yet</title><style>body { margin: 0 } iframe { border: 0; width: %[1]dpx; height: 1400px }</style>
<iframe src="/"></iframe><script>
const shown = document.querySelector("iframe");
shown.onload = () => { document.title = "content " + shown.contentDocument.documentElement.scrollWidth; };
</script>`

// Framed serves what another server serves, and at /frame/WIDTH its page in a frame. The other one would not permit that.
func Framed(t *testing.T, page *url.URL) *httptest.Server {
	t.Helper()
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(page) },
		ModifyResponse: func(r *http.Response) error { r.Header.Del("Content-Security-Policy"); return nil },
	}
	mux := http.NewServeMux()
	mux.Handle("/", proxy)
	mux.HandleFunc("/frame/{width}", func(w http.ResponseWriter, r *http.Request) {
		width, err := strconv.Atoi(r.PathValue("width"))
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, frame, width)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// Fits fails the test if the content of a page of Framed is wider than a screen.
func Fits(t *testing.T, framed *httptest.Server, width int) {
	t.Helper()
	dom, _ := Open(t, fmt.Sprintf("%s/frame/%d", framed.URL, width), Later, fmt.Sprintf("--window-size=%d,1400", width), "--dump-dom")
	_, title, _ := strings.Cut(dom, "<title>")
	var content int
	if _, err := fmt.Sscanf(title, "content %d", &content); err != nil {
		t.Fatalf("%v: the page was not measured:\n%s", err, dom)
	}
	if content > width {
		t.Errorf("the content is %d px wide, on a screen of %d", content, width)
	}
}

// Keep writes how a page of Framed looks to the file that $SCREENSHOT names, if it names one: to be looked at, and kept in
// docs. Beside it, it writes how it looks on a narrow and on a wide screen: NAME.400.png, NAME.1280.png.
func Keep(t *testing.T, framed *httptest.Server) {
	t.Helper()
	to := os.Getenv("SCREENSHOT")
	if to == "" {
		return
	}
	Open(t, framed.URL+"/", Later, "--screenshot="+to, "--window-size=1100,1000", "--hide-scrollbars")
	for _, width := range []int{Narrow, Wide} {
		name := fmt.Sprintf("%s.%d.png", strings.TrimSuffix(to, ".png"), width)
		Open(t, fmt.Sprintf("%s/frame/%d", framed.URL, width), Later, "--screenshot="+name, fmt.Sprintf("--window-size=%d,1400", width), "--hide-scrollbars")
	}
}
