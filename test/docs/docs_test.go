// Package docs holds the documentation to what the binary does.
package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

const root = "../.."

// pages are the documents, by their paths below root. Those on the infrastructure have tests of
// their own; only their links are looked at here.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for pattern, least := range map[string]int{"*.md": 5, "docs/*.md": 5, "docs/*/*.md": 1} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) < least {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(root, name)
			all[rel] = string(text)
		}
	}
	return all
}

func ofInfra(page string) bool { return strings.HasPrefix(page, "docs/infra") }

func publish(t *testing.T) string {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// A command is a command of the binary, by its words: "publish verify".
type command map[string]bool // its flags: --deep

var (
	flagLine    = regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?(--[a-z-]+)`)
	commandLine = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`)
)

// commands asks the binary for what it knows.
func commands(t *testing.T) map[string]command {
	t.Helper()
	bin := publish(t)
	all := make(map[string]command)
	var ask func(words []string)
	ask = func(words []string) {
		out, err := exec.Command(bin, append(words[1:], "--help")...).Output()
		if err != nil {
			t.Fatalf("%v --help: %v", words, err)
		}
		_, help, _ := strings.Cut(string(out), "Usage:")
		flags := make(command)
		for _, m := range flagLine.FindAllStringSubmatch(help, -1) {
			flags[m[1]] = true
		}
		all[strings.Join(words, " ")] = flags
		for _, m := range commandLine.FindAllStringSubmatch(help, -1) {
			ask(append(slices.Clone(words), m[1]))
		}
	}
	ask([]string{"publish"})
	return all
}

var (
	block  = regexp.MustCompile("(?s)(?:^|\n)```([a-z]*)\n(.*?)```")
	inline = regexp.MustCompile("`([^`\n]+)`")
	flag   = regexp.MustCompile(`^--[a-z][a-z-]*`)
)

// invocations are what a page shows as commands, in blocks and in the text.
func invocations(text string) []string {
	var all []string
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if m[1] != "sh" {
			continue
		}
		for _, line := range strings.Split(strings.ReplaceAll(m[2], "\\\n", " "), "\n") {
			line, _, _ = strings.Cut(line, " #")
			line, _, _ = strings.Cut(line, " | ")
			all = append(all, strings.TrimSpace(line))
		}
	}
	for _, m := range inline.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		all = append(all, m[1])
	}
	return all
}

func TestCommandsAndFlagsExist(t *testing.T) {
	known := commands(t)
	any := make(command)
	for _, flags := range known {
		maps.Copy(any, flags)
	}
	checked := 0
	for page, text := range pages(t) {
		if ofInfra(page) {
			continue
		}
		for _, line := range invocations(text) {
			line, _, _ = strings.Cut(line, " -- ") // what comes then is another program's
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if flag.MatchString(words[0]) && !any[flag.FindString(words[0])] {
				t.Errorf("%s: %s: no command has that flag", page, line)
			}
			if words[0] != "publish" {
				continue
			}
			checked++
			name := "publish"
			for _, w := range words[1:] {
				if _, ok := known[name+" "+w]; ok {
					name += " " + w
				}
			}
			for _, w := range words[1:] {
				if f := flag.FindString(w); f != "" && !known[name][f] {
					t.Errorf("%s: %s: %s has no %s", page, line, name, f)
				}
			}
			if name == "publish" && len(words) == 2 && !strings.HasPrefix(words[1], "-") && regexp.MustCompile(`^[a-z]+$`).MatchString(words[1]) {
				t.Errorf("%s: %s: no such command", page, line)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d commands found", checked)
	}
}

// Each flag is explained on the page of its command, or on the page that this one refers to.
func TestFlagsAreDocumented(t *testing.T) {
	known := commands(t)
	all := pages(t)
	for name, where := range map[string][]string{
		"publish":        {"docs/publish.md"},
		"publish init":   {"docs/publish.md"},
		"publish verify": {"docs/verify.md", "docs/publish.md"},
		"publish sign":   {"docs/signing.md", "docs/publish.md"},

		"publish keys list":   {"docs/signing.md", "docs/publish.md"},
		"publish keys create": {"docs/signing.md", "docs/publish.md"},
		"publish keys add":    {"docs/signing.md", "docs/publish.md"},
		"publish keys rotate": {"docs/signing.md", "docs/publish.md"},
		"publish keys retire": {"docs/signing.md", "docs/publish.md"},

		"publish index":   {"docs/index.md", "docs/publish.md"},
		"publish indexer": {"docs/indexer.md", "docs/publish.md"},
		"publish prune":   {"docs/prune.md", "docs/publish.md"},
		"publish bench":   {"docs/benchmarks/README.md", "docs/publish.md"},
		"publish daemon":  {"docs/daemon.md"},
		"publish push":    {"docs/daemon.md"},
		"publish status":  {"docs/daemon.md"},
		"publish drain":   {"docs/daemon.md"},
		"publish retry":   {"docs/daemon.md"},
		"publish forget":  {"docs/daemon.md"},
		"publish doctor":  {"docs/daemon.md", "docs/stores.md", "docs/publish.md"},
		"publish exec":    {"docs/daemon.md", "docs/publish.md"},
	} {
		for f := range known[name] {
			if f == "--help" {
				continue
			}
			found := slices.ContainsFunc(where, func(page string) bool {
				return regexp.MustCompile("`" + f + "[` ]").MatchString(all[page])
			})
			if !found {
				t.Errorf("%s %s is not in %v", name, f, where)
			}
		}
	}
	for name := range known {
		words := strings.Fields(name)
		shown := func(text string) bool {
			return strings.Contains(text, "\n"+name+" ") || strings.Contains(text, "\n"+name+"\n")
		}
		if len(words) == 2 && !slices.ContainsFunc(slices.Collect(maps.Values(all)), shown) {
			t.Errorf("%s is shown on no page", name)
		}
	}
}

var (
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noAnchor = regexp.MustCompile(`[^\w\- ]`)
)

func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		all = append(all, strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-"))
	}
	return all
}

func TestLinksResolve(t *testing.T) {
	all := pages(t)
	for page, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			name, anchor, _ := strings.Cut(m[1], "#")
			to := page
			if name != "" {
				to = filepath.Join(filepath.Dir(page), name)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[to]), anchor) {
				t.Errorf("%s: link to %s: no such heading", page, m[1])
			}
		}
	}
}

// The exit codes that are documented are those of the program, and no others.
func TestExitCodes(t *testing.T) {
	code := exitConstants(t)
	signal := code["ExitSignal"]
	delete(code, "ExitSignal")
	want := map[string]bool{fmt.Sprint(signal + int64(syscall.SIGINT)): true, fmt.Sprint(signal + int64(syscall.SIGTERM)): true, fmt.Sprint(signal + int64(syscall.SIGHUP)): true}
	for _, v := range code {
		want[fmt.Sprint(v)] = true
	}
	got := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+) \|`).FindAllStringSubmatch(pages(t)["docs/exit-codes.md"], -1) {
		got[m[1]] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("documented are %v, the program has %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func exitConstants(t *testing.T) map[string]int64 {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, filepath.Join(root, "cmd/publish/internal/cli/exits.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Decls = slices.DeleteFunc(f.Decls, func(d ast.Decl) bool {
		g, ok := d.(*ast.GenDecl)
		return !ok || g.Tok != token.CONST
	})
	conf := types.Config{Importer: importer.Default(), Error: func(error) {}}
	pkg, _ := conf.Check("exit", set, []*ast.File{f}, nil)
	all := make(map[string]int64)
	for _, name := range pkg.Scope().Names() {
		if c, ok := pkg.Scope().Lookup(name).(*types.Const); ok && strings.HasPrefix(name, "Exit") {
			all[name], _ = constant.Int64Val(c.Val())
		}
	}
	if len(all) < 10 {
		t.Fatalf("constants: %v", all)
	}
	return all
}

// Every member of a report is documented, and every member that is documented is in a report.
func TestReports(t *testing.T) {
	sections := make(map[string]map[string]bool)
	for _, s := range strings.Split(pages(t)["docs/json-report.md"], "\n## ")[1:] {
		name, table, _ := strings.Cut(s, "\n")
		sections[name] = make(map[string]bool)
		for _, line := range strings.Split(table, "\n") {
			if cells := strings.SplitN(line, "|", 3); len(cells) == 3 {
				for _, m := range inline.FindAllStringSubmatch(cells[1], -1) {
					sections[name][m[1]] = true
				}
			}
		}
	}
	seen := make(map[string]map[string]bool)
	report := reporter(t)
	for _, r := range []struct {
		section string
		args    []string
	}{
		{"publish", []string{"--dry-run", "--require-signed", "MIXED", "file://TMP/a"}},
		{"publish", []string{"--files", "*.txt", "MIXED", "file://TMP/b", "--distribution-id", "E1"}},
		{"publish", []string{"--include", "zlib", "--index", "none", "MIXED", "file://TMP/c"}},
		{"publish", []string{"MIXED", "file://TMP/c"}},
		{"publish", []string{"FIXTURES/v3-signed", "file://TMP/e"}},
		{"publish", []string{"--catalog", "--view", "site", "FIXTURES/v3-signed", "file://TMP/w"}},
		{"publish", []string{"--trusted-keys", "FIXTURES/keys/two.pub", "MIXED", "file://TMP/e"}},
		{"publish", []string{"--resign", "--trusted-keys", "FIXTURES/keys/one.pub", "--sign-key", "TMP/key", "FIXTURES/v3-signed", "file://TMP/g"}},
		{"publish", []string{"--files", "*.txt", "--sign-key", "TMP/builder", "MIXED", "file://TMP/r"}},
		{"publish", []string{"--files", "*.txt", "--resign", "--trusted-keys", "TMP/builder.pub", "--sign-key", "TMP/key", "MIXED", "file://TMP/r"}},
		{"publish", []string{"copy", "--require-signed", "FIXTURES/v3-signed", "file://TMP/promoted"}},
		{"publish", []string{"--licenses", "TMP/licenses.yaml", "--licenses-to", "file://TMP/private", "TMP/licensed", "file://TMP/public"}},
		{"publish", []string{"--keep-going", "TMP/d", "file://TMP/f"}},
		{"publish verify", []string{"verify", "file://TMP/b"}},
		{"publish verify", []string{"verify", "--require-signed", "file://TMP/b"}},
		{"publish verify", []string{"verify", "file://TMP/f"}},
		{"publish verify", []string{"verify", "file://TMP/damaged"}},
		{"publish verify", []string{"verify", "file://TMP/broken"}},
		{"publish index", []string{"index", "file://TMP/b"}},
		{"publish index", []string{"index", "--distribution-id", "E1", "file://TMP/d"}},
		{"publish", []string{"MIXED", "S3/i"}},
		{"publish", []string{"copy", "--endpoint-url", "ENDPOINT", "S3/i", "file://TMP/fromS3"}},
		{"publish", []string{"--publish-keys=false", "FIXTURES/v3-signed", "file://TMP/h"}},
		{"publish prune", []string{"prune", "--keep-root", "zlib", "--keep-root", "nothing", "--alone", "file://TMP/e"}},
		{"publish prune", []string{"prune", "--keep-root", "zlib", "--alone", "--yes", "file://TMP/e"}},
		{"publish keys list", []string{"keys", "list", "file://TMP/g"}},
		{"publish keys list", []string{"keys", "list", "file://TMP/h"}},
		{"publish keys list", []string{"keys", "list", "file://TMP/revoked"}},
		{"publish view set", []string{"view", "set", "--distribution-id", "E1", "file://TMP/w", "site", "munge"}},
		{"publish view set", []string{"view", "add", "file://TMP/w", "site", "slurm"}},
		{"publish view set", []string{"view", "add", "file://TMP/viewed", "site", "munge"}},
		{"publish view list", []string{"view", "list", "file://TMP/viewed"}},
	} {
		if seen[r.section] == nil {
			seen[r.section] = make(map[string]bool)
		}
		members("", report(append(r.args, "--json")), seen[r.section])
	}
	if len(sections) != len(seen) {
		t.Errorf("sections %v", slices.Collect(maps.Keys(sections)))
	}
	for name, want := range sections {
		for m := range seen[name] {
			if !want[m] {
				t.Errorf("%s: %s is not documented", name, m)
			}
		}
		for m := range want {
			if !seen[name][m] {
				t.Errorf("%s: %s is documented, and in no report", name, m)
			}
		}
	}
}

// reporter returns what runs the binary and parses what it prints. MIXED in arguments is an
// unsigned mirror with a file beside it, TMP a directory, FIXTURES what Spack wrote.
func reporter(t *testing.T) func(args []string) any {
	t.Helper()
	bin := publish(t)
	tmp := t.TempDir()
	fixtures, err := filepath.Abs("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	mixed := filepath.Join(tmp, "mixed")
	for _, dir := range []string{mixed, filepath.Join(tmp, "d"), filepath.Join(tmp, "damaged"), filepath.Join(tmp, "licensed")} {
		if err := os.CopyFS(dir, os.DirFS("../testdata/v3-unsigned")); err != nil {
			t.Fatal(err)
		}
	}
	publishtest.AddRecipe(t, filepath.Join(tmp, "licensed"), "zlib", "class Zlib(Package):\n    license('Zlib')\n")
	if err := os.WriteFile(filepath.Join(tmp, "licenses.yaml"), []byte("packages: {deny: [munge]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(mixed, "notes.txt"), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "key"), signtest.Private(t, "release", 90*24*time.Hour), 0o600); err != nil {
		t.Fatal(err)
	}
	builder := signtest.Private(t, "builder", 0)
	k, err := sign.ReadKey(builder, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	armored, err := k.Public().Armored()
	if err := errors.Join(err, os.WriteFile(filepath.Join(tmp, "builder"), builder, 0o600), os.WriteFile(filepath.Join(tmp, "builder.pub"), armored, 0o600)); err != nil {
		t.Fatal(err)
	}
	// In d are packages of two generations of Spack, and one of a format that no release knows yet.
	for name, format := range map[string]int{"next": spec.Format6, "later": spec.Format6 + 1} {
		hash := strings.Repeat(name[:1], 32)
		document := fmt.Sprintf(`{"spec":{"_meta":{"version":%d},"nodes":[{"name":"%s","version":"1","hash":"%s"}]}}`, format, name, hash)
		if err := spackmirror.WritePackage(filepath.Join(tmp, "d"), name, "1", hash, format, document); err != nil {
			t.Fatal(err)
		}
	}
	// Rebuilding d changes it. The other one lacks a good object, too.
	for _, dir := range []string{"d", "damaged"} {
		if err := os.Remove(filepath.Join(tmp, dir, "v3/manifests/index/index.manifest.json")); err != nil {
			t.Fatal(err)
		}
	}
	damaged := filepath.Join(tmp, "damaged/blobs/sha256/69/69c1a3c1d53a54135d8e8fdedb79959d8b1ffbbd262f1ca9fd2a0834d2321cc5")
	if err := os.WriteFile(damaged, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(tmp, "broken")
	err = os.CopyFS(broken, os.DirFS("../testdata/v3-view"))
	if err := errors.Join(err, os.WriteFile(filepath.Join(broken, "v3/manifests/index/site/login/index.manifest.json"), []byte("{"), 0o600)); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(tmp, "viewed"))
	offerRevoked(t, bin, filepath.Join(tmp, "revoked"))
	edge := &cdn.Edge{}
	api := httptest.NewServer(cdn.Control("E1", edge))
	t.Cleanup(api.Close)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/ci</Arn><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
	}))
	t.Cleanup(sts.Close)
	server := s3server.Start(t)
	env := append(os.Environ(), server.Environ()...)
	env = append(env, "AWS_ENDPOINT_URL="+server.Endpoint, "AWS_ENDPOINT_URL_CLOUDFRONT="+api.URL, "AWS_ENDPOINT_URL_STS="+sts.URL)
	bucket := server.Bucket(t)
	return func(args []string) any {
		replaced := strings.NewReplacer("MIXED", mixed, "TMP", tmp, "FIXTURES", fixtures, "S3", "s3://"+bucket, "ENDPOINT", server.Endpoint)
		for i := range args {
			args[i] = replaced.Replace(args[i])
		}
		r, err := program.Run(env, bin, args...)
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal([]byte(r.Stdout), &v); err != nil {
			t.Fatalf("%v: %v\n%v", args, err, r)
		}
		return v
	}
}

// offerRevoked makes a mirror that offers a key that was revoked.
func offerRevoked(t *testing.T, bin, dir string) {
	t.Helper()
	home, public := gpgtest.Home(t), filepath.Join(t.TempDir(), "public")
	script := `gpg() { command gpg --homedir "$HOME" --quiet --no-tty --pinentry-mode loopback --passphrase '' "$@"; }
gpg --batch --quick-generate-key revoked ed25519 sign never
printf 'y\n0\n\ny\n' | gpg --command-fd 0 --armor --gen-revoke revoked | gpg --batch --import
gpg --batch --armor --export >"$0"`
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", script, public)
	cmd.Env = append(os.Environ(), "HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"../testdata/v3-unsigned", "file://" + dir}, {"keys", "add", "--public-key", public, "file://" + dir}} {
		if r, err := program.Run(os.Environ(), bin, args...); err != nil || r.Code != 0 {
			t.Fatalf("%v: %v %v", args, err, r)
		}
	}
}

// damage makes a mirror with a view that cannot be read, and an index that offers what is not there.
func damage(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS("../testdata/v3-view")); err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob(filepath.Join(dir, "v3/manifests/spec/zlib/*"))
	if err != nil || len(documents) == 0 {
		t.Fatalf("documents of zlib: %v, %v", documents, err)
	}
	for _, name := range documents {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "v3/manifests/index/site/login/index.manifest.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// members collects the paths of all members that hold something.
func members(path string, v any, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for name, x := range v {
			if path == "" && name == "routed" { // a report in a report
				into[path+name] = true
				continue
			}
			if path == "mirrors[].counts." {
				name = "STATUS"
			}
			members(path+name+".", x, into)
		}
	case []any:
		for _, x := range v {
			members(strings.TrimSuffix(path, ".")+"[].", x, into)
		}
	case nil:
	default:
		into[strings.TrimSuffix(path, ".")] = true
	}
}
