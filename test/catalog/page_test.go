// Package catalog looks at the page of publish catalog with a real browser.
package catalog

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	code := m.Run()
	closeBrowser()
	program.Clean()
	os.Exit(code)
}

// publish runs the binary.
func publish(t testing.TB, args ...string) string {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

// A site is a mirror with its page on a server that compresses, as CDNs do.
type site struct {
	dir, url string

	mu    sync.Mutex // guards bytes and asked
	bytes int
	asked []string
}

func serve(t testing.TB, dir string) *site {
	t.Helper()
	s := &site{dir: dir}
	files := http.FileServer(http.Dir(dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		if strings.HasPrefix(r.URL.Path, "/catalog/") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		counted := &counter{ResponseWriter: w}
		zw := gzip.NewWriter(counted)
		r.Header.Del("Range")
		files.ServeHTTP(&compressed{ResponseWriter: w, to: zw}, r)
		_ = zw.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bytes += counted.n
		s.asked = append(s.asked, r.URL.Path)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL + "/"
	return s
}

type counter struct {
	http.ResponseWriter
	n int
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += n
	return n, err
}

type compressed struct {
	http.ResponseWriter
	to io.Writer
}

func (c *compressed) WriteHeader(code int) {
	c.Header().Del("Content-Length")
	c.ResponseWriter.WriteHeader(code)
}

func (c *compressed) Write(p []byte) (int, error) { return c.to.Write(p) }

func (s *site) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes, s.asked = 0, nil
}

func (s *site) seen() (int, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes, slices.Clone(s.asked)
}

// fixture is a mirror that real Spack wrote, with its page.
func fixture(t testing.TB, name string) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(dir, os.DirFS("../testdata/"+name)); err != nil {
		t.Fatal(err)
	}
	publish(t, "catalog", "--title", "ACME HPC buildcache", "file://"+dir)
	return serve(t, dir)
}

// A tab is one of a browser, and what it complained about.
type tab struct {
	context.Context
	t *testing.T

	mu         sync.Mutex // guards complaints
	complaints []string
}

// browser is one for all tests, since starting it takes longest.
var browser = sync.OnceValue(func() context.Context {
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		panic(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.ExecPath("chromium"), chromedp.WindowSize(1280, 900), chromedp.UserDataDir(profile))
	ctx, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, stop := chromedp.NewContext(ctx)
	closeBrowser = func() {
		stop()
		stopAllocator()
		_ = os.RemoveAll(profile)
	}
	return ctx
})

var closeBrowser = func() {}

func open(t *testing.T) *tab {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if err := chromedp.Run(browser()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	tab := &tab{Context: ctx, t: t}
	complain := func(text string) {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		tab.complaints = append(tab.complaints, text)
	}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			complain(e.Entry.Text)
		case *runtime.EventConsoleAPICalled:
			complain(fmt.Sprint(e.Args))
		case *runtime.EventExceptionThrown:
			complain(e.ExceptionDetails.Error())
		}
	})
	tab.do(log.Enable(), runtime.Enable(), network.Enable(), network.SetCacheDisabled(true), page.BringToFront())
	return tab
}

func (b *tab) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// at opens an address and waits until the page says what is expected.
func (b *tab) at(url, status string) {
	b.t.Helper()
	b.do(chromedp.Navigate("about:blank"), chromedp.Navigate(url))
	b.says(status)
}

// says waits until the page's status begins with a text.
func (b *tab) says(status string) {
	b.t.Helper()
	var got string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b.do(chromedp.Evaluate(`(document.body.dataset.ready ? '' : 'not ready: ') + document.getElementById('status').textContent`, &got))
		if strings.HasPrefix(got, status) {
			return
		}
	}
	b.t.Fatalf("the page says %q, want %q", got, status)
}

// until waits for a condition. chromedp.Poll would wait for frames, which a tab in the background never gets.
func (b *tab) until(condition string) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		var holds bool
		if b.eval("!!("+condition+")", &holds); holds {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("it does not become true that %s", condition)
		}
	}
}

func (b *tab) eval(script string, into any) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, into, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
}

func (b *tab) text(selector string) string {
	b.t.Helper()
	var text string
	b.eval(fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent).join(' | ')`, selector), &text)
	return text
}

// quiet fails if the browser had anything to complain about.
func (b *tab) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.complaints {
		b.t.Errorf("the browser complains: %s", c)
	}
}

// press presses a key without the text that it makes where the page takes the key for itself.
func press(key string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error { return input.DispatchKeyEvent(input.KeyRawDown).WithKey(key).Do(ctx) })
}

// Search, facets, addresses, history and the keyboard, on mirrors of both layouts.
func TestThePageFindsPackages(t *testing.T) {
	for name, hash := range map[string]string{"v3-signed": "uba5li5", "v2-signed": "bdt7eb3"} {
		s := fixture(t, name)
		b := open(t)
		b.at(s.url, map[string]string{"v3-signed": "11 packages, 11 builds", "v2-signed": "9 packages, 9 builds"}[name])
		b.do(press("/"), chromedp.KeyEvent("slurm"))
		b.says("1 package, 1 build")
		b.do(chromedp.KeyEvent(kb.ArrowDown), chromedp.KeyEvent(kb.Enter))
		b.says("1 build of slurm")
		if got := b.text("td"); !strings.Contains(got, "/"+hash) || !strings.Contains(got, "24-11-6-1") {
			t.Errorf("%s: %s", name, got)
		}
		b.do(chromedp.NavigateBack())
		b.says("1 package, 1 build")
		b.at(s.url+"#/?q=%25gcc%4013%20%5Ehwloc", "")
		want := map[string]string{"v3-signed": "openmpi | pmix | slurm", "v2-signed": "pmix | slurm"}[name]
		b.says(fmt.Sprintf("%d packages", strings.Count(want, "|")+1))
		if got := b.text(".results h2 a"); got != want {
			t.Errorf("%s: ^hwloc: %s, want %s", name, got, want)
		}
		b.at(s.url+"#/?target=zen4", "Nothing found.")
		b.at(s.url+"#/?runs=zen4&q=hwloc", "1 package, 1 build")
		b.at(s.url+"#/?runs=x86_64_v2", "Nothing found.")
		b.at(s.url+"#/p/slurm/"+hash, "1 build of slurm")
		if got := b.text("pre"); !strings.Contains(got, "spack install --cache-only /"+hash) {
			t.Errorf("%s: %s", name, got)
		}
		if got := b.text("h3"); !strings.Contains(got, "Depends on") {
			t.Errorf("%s: %s", name, got)
		}
		b.at(s.url+"#/p/hwloc", "1 build of hwloc")
		if got := b.text("h3"); !strings.Contains(got, "Needed by") {
			t.Errorf("%s: %s", name, got)
		}
		for _, odd := range []string{"#/p/%E0%A4%A", "#/p/__proto__", "#/?q=%00", "#/?q=%2B%2B%2B", "#//", "#/p/" + strings.Repeat("x", 500)} {
			b.at(s.url+odd, "")
		}
		b.at(s.url+"#/use", "How to use")
		if got := b.text("pre"); !strings.Contains(got, "spack mirror add cache "+strings.TrimSuffix(s.url, "/")) {
			t.Errorf("%s: %s", name, got)
		}
		b.quiet()
	}
}

// What there is beside packages: views, whose keys are trusted, licences, downloads, what changed, release files; and the page of a tree, that for what
// is missing and robots.txt.
func TestThePageShowsWhatIsBesidePackages(t *testing.T) {
	tree := t.TempDir()
	dir := filepath.Join(tree, "noble", "spack")
	publish(t, "--view", "site/login", "../testdata/v3-signed", "file://"+dir)
	for name, text := range map[string]string{"slurm-25.11.tar.gz": "x", "slurm-25.11.tar.gz.asc": "s", "other.tar.gz": "y"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	usage := filepath.Join(t.TempDir(), "usage.json")
	var report struct {
		Mirrors []struct{ Packages []struct{ Hash, Name string } }
	}
	if err := json.Unmarshal([]byte(publish(t, "ls", "--json", "file://"+dir, "zlib")), &report); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`{"version":1,"from":"2026-11-01","to":"2026-11-28","packages":[{"name":"zlib","hash":%q,"downloads":412}]}`, report.Mirrors[0].Packages[0].Hash)
	if err := os.WriteFile(usage, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	publish(t, "catalog", "--title", "ACME <HPC>", "--trusted-keys", "../testdata/keys/one.pub", "--usage", usage, "--licenses", "file://"+tree)
	s := serve(t, tree)
	b := open(t)
	at := s.url + "noble/spack/index.html"
	b.at(at+"#/?view=site%2Flogin", "11 packages")
	if got := b.text("legend"); !strings.Contains(got, "View") || !strings.Contains(got, "Signature") {
		t.Error(got)
	}
	b.at(at+"#/?view=none", "Nothing found.")
	b.at(at+"#/p/zlib/"+report.Mirrors[0].Packages[0].Hash, "1 build of zlib")
	for _, want := range []string{"which this cache publishes; the signature is good and by a trusted key", "412 downloads", "In the views site/login"} {
		if got := b.text("section p"); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	b.at(at+"#/new", "The latest packages")
	if got := b.text(".news"); !strings.Contains(got, "11 packages added") || !strings.Contains(got, "publish") {
		t.Errorf("what changed: %s", got)
	}
	b.at(at+"#/files", "2 files")
	if got := b.text("td"); !strings.Contains(got, "slurm-25.11.tar.gz") || !strings.Contains(got, "signature") || !strings.Contains(got, "not signed") {
		t.Error(got)
	}
	b.at(at+"#/use", "How to use")
	if got := b.text("pre"); !strings.Contains(got, "spack mirror add --name site/login cache") {
		t.Error(got)
	}
	for _, page := range []string{"index.html", "404.html"} {
		b.do(chromedp.Navigate(s.url + page))
		var refused string
		b.eval(`(() => { try { const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); } catch (e) {} return window.ran ? 'ran' : ''; })()`, &refused)
		if refused != "" {
			t.Errorf("%s runs scripts", page)
		}
	}
	b.do(chromedp.Navigate(s.url + "index.html"))
	if got := b.text("h1") + b.text("td"); !strings.Contains(got, "ACME <HPC>") || !strings.Contains(got, "noble/spack | 11 | 11") {
		t.Errorf("the tree: %s", got)
	}
	if text, err := os.ReadFile(filepath.Join(tree, "robots.txt")); err != nil || !strings.Contains(string(text), "Disallow: /*/blobs/") {
		t.Errorf("%v: %s", err, text)
	}
	if again := publish(t, "catalog", "--usage", usage, "file://"+tree); !strings.Contains(again, "index.html: 11 packages, is up to date") {
		t.Errorf("again: %s", again)
	}
}

// A facet is in the address, and keeps the focus.
func TestFacets(t *testing.T) {
	s := fixture(t, "v3-signed")
	b := open(t)
	b.at(s.url, "11 packages")
	b.until(`(document.querySelector('input[data-focus="os ubuntu22.04"]').focus(), true)`)
	b.do(chromedp.KeyEvent(" "))
	var focused, hash string
	b.says("11 packages")
	b.until(`location.hash.includes('os=ubuntu22.04') && document.activeElement.dataset.focus === 'os ubuntu22.04'`)
	b.eval(`location.hash`, &hash)
	b.eval(`document.activeElement.dataset.focus || ''`, &focused)
	if focused != "os ubuntu22.04" || !strings.Contains(hash, "os=ubuntu22.04") {
		t.Errorf("%q has the focus, the address is %q", focused, hash)
	}
	b.until(`(document.getElementById("theme").focus(), true)`)
	b.do(chromedp.KeyEvent(" "), chromedp.KeyEvent(" "))
	if got := b.text("#theme"); got != "Theme: dark" {
		t.Error(got)
	}
	b.quiet()
}

// The page's versions compare as Spack's: by the recording that publish/query is held to.
func TestVersionsInThePage(t *testing.T) {
	text, err := os.ReadFile("../../publish/query/testdata/satisfies.json")
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Versions, Standard []string
		Order              string
		Ranges             []struct{ Range, Holds, Error string }
	}
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	given, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	s := fixture(t, "v3-signed")
	b := open(t)
	b.at(s.url, "11 packages")
	var wrong []string
	b.eval(`(() => { const r = `+string(given)+`, c = window.catalog, wrong = [];
		const standard = r.Standard.map(c.parseVersion), versions = r.Versions.map(c.parseVersion);
		standard.forEach((v, i) => standard.forEach((w, j) => { const want = '<=>'.indexOf(r.Order[i * standard.length + j]) - 1; if (c.compareVersions(v, w) !== want) wrong.push(r.Standard[i] + ' and ' + r.Standard[j]); }));
		for (const row of r.Ranges) if (!row.Error) { const held = c.parseRanges(row.Range); versions.forEach((v, i) => { if (c.holds(held, v) !== (row.Holds[i] === '1')) wrong.push(r.Versions[i] + ' in ' + row.Range); }); }
		return wrong; })()`, &wrong)
	if len(wrong) > 0 || len(r.Ranges) < 200 {
		t.Errorf("%d wrong, such as %q", len(wrong), wrong[:min(20, len(wrong))])
	}
}

// The page finds what publish ls finds.
func TestThePageAgreesWithTheCommand(t *testing.T) {
	s := fixture(t, "v3-signed")
	b := open(t)
	b.at(s.url, "11 packages")
	for _, q := range []string{
		"", "slurm", "@1", "@2:", "@:2.11", "@1.3.1,5.0.6", "@=2.11.1", "+shared", "~gtk", "+pmix", "build_system=generic", "sysconfdir=/etc/slurm", "%gcc", "%gcc@13", "%gcc@:12", "%gcc@11", "%clang", "%zlib", "^zlib", "^zlib@1.3:",
		"^openssl@3 %gcc@13", "^hwloc@2: ^munge", "^hwloc %gcc", "^hwloc %gcc@11", "os=ubuntu22.04", "os=rocky9", "target=x86_64_v3", "target=x86_64_v2:", "target=:x86_64_v4", "target=x86_64_v2:zen4", "target=zen4:", "target=aarch64:", "^nosuch", "^glibc", "^gmake", "%gmake", "/uba", "/uba5li5", "slurm+pmix%gcc@13^hwloc@2.11:os=ubuntu22.04",
		"^zlib+shared", "^zlib~shared", "^gcc-runtime target=x86_64_v3",
	} {
		want := strings.Fields(publish(t, append([]string{"ls", "file://" + s.dir, "--format", "{hash}"}, q)...))
		var got []string
		encoded, _ := json.Marshal(q)
		b.eval(`window.catalog.search(`+string(encoded)+`)`, &got)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q: the page finds %v, the command %v", q, got, want)
		}
	}
	b.quiet()
}

// Names do nothing but be shown, the policy holds, and a damaged part is refused.
func TestHostilePages(t *testing.T) {
	s := fixture(t, "v3-signed")
	segments, err := filepath.Glob(filepath.Join(s.dir, "catalog", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	b := open(t)
	b.at(s.url, "11 packages")
	var refused string
	b.eval(`(() => { try { document.body.innerHTML = '<b>x</b>'; return 'taken'; } catch (e) { return e.name; } })()`, &refused)
	if refused != "TypeError" {
		t.Errorf("innerHTML: %s", refused)
	}
	for _, file := range segments {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(text, ' '), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b = open(t)
	b.do(chromedp.Navigate(s.url))
	b.until(`document.getElementById('status').textContent.startsWith('A part of the catalogue')`)
}

// axe finds nothing to complain about, on each page, wide and narrow, light and dark.
func TestThePageIsAccessible(t *testing.T) {
	const axe = "node_modules/axe-core/axe.min.js"
	if _, err := os.Stat(axe); err != nil {
		if out, err := exec.Command("npm", "ci", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
			t.Fatalf("npm ci: %v\n%s", err, out)
		}
	}
	source, err := os.ReadFile(axe)
	if err != nil {
		t.Fatal(err)
	}
	s := fixture(t, "v3-signed")
	if err := os.WriteFile(filepath.Join(s.dir, "slurm-factory-25.11-ubuntu22.04-x86_64_v3-with-a-long-name.tar.gz"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	publish(t, "view", "set", "file://"+s.dir, "site/login", "slurm")
	publish(t, "catalog", "--trusted-keys", "../testdata/keys/one.pub", "file://"+s.dir)
	b := open(t)
	for _, width := range []int64{1280, 400} {
		for _, scheme := range []string{"light", "dark"} {
			b.do(emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500), emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			for _, at := range []string{"", "#/?q=hwloc", "#/?q=nosuch", "#/?q=%2B%2B", "#/p/slurm", "#/p/slurm/uba5li5", "#/p/nosuch", "#/new", "#/files", "#/use"} {
				b.at(s.url+at, "")
				b.until(`document.querySelector('#view').childElementCount > 0`)
				if found := b.axe(string(source)); len(found) > 0 {
					t.Errorf("%d px, %s, %s: %v", width, scheme, at, found)
				}
				var wide bool
				if b.eval(`document.documentElement.scrollWidth > innerWidth`, &wide); wide {
					t.Errorf("%d px: %s is wider than the window", width, at)
				}
			}
		}
	}
	b.quiet()
}

// axe runs in a world of its own, in which the page's policy does not hold for it.
func (b *tab) axe(source string) (found []string) {
	b.t.Helper()
	b.do(chromedp.ActionFunc(func(ctx context.Context) error {
		tree, err := page.GetFrameTree().Do(ctx)
		if err != nil {
			return err
		}
		world, err := page.CreateIsolatedWorld(tree.Frame.ID).WithWorldName("axe").Do(ctx)
		if err != nil {
			return err
		}
		if _, wrong, err := runtime.Evaluate(source + ";0").WithContextID(world).Do(ctx); err != nil || wrong != nil {
			return fmt.Errorf("axe: %v, %v", err, wrong)
		}
		result, wrong, err := runtime.Evaluate(`axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.target).join(' ')))`).
			WithContextID(world).WithAwaitPromise(true).WithReturnByValue(true).Do(ctx)
		if err != nil || wrong != nil {
			return fmt.Errorf("axe: %v, %v", err, wrong)
		}
		return json.Unmarshal(result.Value, &found)
	}))
	return found
}

// Ten thousand packages are ready in a second, and the first visit is small. Times are those of a quiet machine; the test
// allows for a busy one.
func TestTenThousandPackages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mirror")
	u := spackmirror.Patched(spackmirror.V3, 10_000, 2)
	if err := u.Write(dir, u.All()); err != nil {
		t.Fatal(err)
	}
	publish(t, "catalog", "file://"+dir)
	s := serve(t, dir)
	b := open(t)
	s.reset()
	b.at(s.url, "8,000 packages, 10,000 builds")
	size, asked := s.seen()
	for _, path := range asked {
		if path != "/" && !strings.HasPrefix(path, "/catalog/") {
			t.Errorf("the page asks for %s", path)
		}
	}
	var ready, paint float64
	b.eval(`performance.getEntriesByName('ready')[0].startTime`, &ready)
	b.eval(`performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0`, &paint)
	var times []float64
	var took float64
	for _, q := range []string{"z", "zlib", "zlib-1", "openssl@2:", "os=ubuntu22.04", "target=x86_64_v3:", "nosuch", "py-numpy@3.1", "%gcc", "^glibc", "+shared", "slurm@5 ^glibc"} {
		best := math.Inf(1) // of several times: what the machine does besides is not the page's
		for range 5 {
			b.eval(fmt.Sprintf(`(async () => { performance.clearMeasures(); location.hash = '#/?q=' + encodeURIComponent(%q + (location.hash.endsWith('%%20') ? '' : ' ')); for (let i = 0; i < 500 && !performance.getEntriesByName('handler').length; i++) await new Promise(r => setTimeout(r, 5)); return performance.getEntriesByName('handler')[0].duration; })()`, q), &took)
			best = min(best, took)
		}
		times = append(times, best)
	}
	slices.Sort(times)
	p95 := times[len(times)*95/100]
	t.Logf("first visit %d KB gzip in %d requests, first paint %.0f ms, search ready %.0f ms, handler p50 %.1f ms, p95 %.1f ms", size/1000, len(asked), paint, ready, times[len(times)/2], p95)
	if size > 250_000 {
		t.Errorf("the first visit takes %d bytes", size)
	}
	const busy = 6 // how many times slower than on a quiet machine it may be
	if paint > 500*busy || ready > 1000*busy || p95 > 50*busy {
		t.Errorf("first paint %.0f ms, search ready %.0f ms, handler p95 %.1f ms", paint, ready, p95)
	}
	b.quiet()
}
