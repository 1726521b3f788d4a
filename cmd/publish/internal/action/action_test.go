package action

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/session/sessiontest"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/task"
)

// golden compares with a file in testdata.
func golden(t testing.TB, name, got string) {
	t.Helper()
	name = filepath.Join("testdata", filepath.FromSlash(name))
	if *update {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		clitest.Write(t, name, got)
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update if got is right):\n%s", name, diff)
	}
}

var fleeting = []struct {
	old *regexp.Regexp
	new string
}{
	{regexp.MustCompile(`\d+\.\d s\b`), "N s"},
	{regexp.MustCompile(`, [0-9.]+ [KMG]?i?B/s`), ", RATE"},
	{regexp.MustCompile(`http(:|&#58;)//127\.0\.0\.1(:|&#58;)\d+`), "http$1//SERVER"},
	{regexp.MustCompile(`\bI[0-9A-Z]{12,}\b`), "INVALIDATION"},
	{regexp.MustCompile(`until="[^"]*"`), `until="TIME"`},
	{regexp.MustCompile(`\d\d:\d\d:\d\d UTC`), "TIME"},
	{regexp.MustCompile(`[^ "(]*/TestAction[^ ")]*`), "DIR"},
	{regexp.MustCompile(`request id: [^,) ]*`), "request id: N"},
	{regexp.MustCompile(`\[?RequestID: [^,\] ]*`), "RequestID: N"},
}

// vague are what differs where a step ends in the middle of many uploads at once.
var vague = []struct {
	old *regexp.Regexp
	new string
}{
	{regexp.MustCompile(`blobs/sha256/../[0-9a-f]{64}`), "blobs/sha256/BLOB"},
	{regexp.MustCompile(`\d+ of 40 objects`), "N of 40 objects"},
	{regexp.MustCompile(`sent \| \d+ objects?, [0-9.]+ (Ki)?B(, RATE)?`), "sent | N objects"},
}

// lasting is a text without what is other in every run.
func lasting(text string) string {
	for _, f := range fleeting {
		text = f.old.ReplaceAllString(text, f.new)
	}
	if strings.Contains(text, "while uploading") {
		for _, v := range vague {
			text = v.old.ReplaceAllString(text, v.new)
		}
	}
	return text
}

// Each way in which a step can end, with its exit code, its outputs, and what its summary and
// its log say.
func TestActionOutcomes(t *testing.T) {
	for _, row := range []struct {
		name    string
		fixture string
		prepare func(t *testing.T, s *stage)
		code    int
		outputs map[string]string
	}{
		{"published", "v3-signed", func(t *testing.T, s *stage) {
			s.with["destination"], s.with["layout-vars"] = "s3://cache/{toolchain}/spack", "toolchain=noble\nslurm=25.11"
			s.with["distribution-id"], s.with["public-url"] = stagedDistribution, s.site.URL+"/noble/spack"
			s.with["trusted-keys"], s.with["expect-os"] = "keys/one.pub", "ubuntu22.04\n"
			if err := os.CopyFS(filepath.Join(s.dir, "keys"), os.DirFS(clitest.Root("test/testdata/keys"))); err != nil {
				t.Fatal(err)
			}
		}, cli.ExitDone, map[string]string{
			"result": "published", "failure-class": "", "specs-found": "11", "specs-published": "11", "specs-skipped": "0", "index-specs": "11",
			"destination": "s3://cache/noble/spack",
		}},
		{"unchanged", "v3-signed", first, cli.ExitDone, map[string]string{
			"result": "unchanged", "specs-found": "11", "specs-published": "0", "specs-skipped": "11", "objects-uploaded": "0", "bytes-uploaded": "0", "index-specs": "11", "published-specs": "[]",
		}},
		{"dry-run", "v3-signed", func(t *testing.T, s *stage) {
			s.with["dry-run"], s.with["distribution-id"] = "true", stagedDistribution
		}, cli.ExitDone, map[string]string{"result": "dry-run", "specs-published": "0", "objects-uploaded": "0", "published-specs": "[]"}},
		{"several-mirrors", "", func(t *testing.T, s *stage) {
			s.source(t, "buildcache/noble/spack", "v3-signed")
			s.source(t, "buildcache/jammy/spack", "v2-signed")
			s.with["destination"] = "s3://cache"
		}, cli.ExitDone, map[string]string{"result": "published", "specs-found": "20", "specs-published": "20", "index-etag": ""}},
		{"nothing-there", "", func(t *testing.T, s *stage) {
			mkdir(t, s.dir, "buildcache")
			s.with["if-no-specs-found"] = "warn"
		}, cli.ExitDone, map[string]string{"result": "unchanged", "specs-found": "0"}},
		{"wrong-inputs", "v3-signed", func(t *testing.T, s *stage) {
			s.with["index"], s.with["destination"], s.with["require-signed"], s.with["dest"] = "merged", "s3://cache/{tool}", "yes", "x"
		}, cli.ExitUsage, map[string]string{"result": "failed", "failure-class": "config"}},
		{"no-permission", "v3-signed", func(t *testing.T, s *stage) {
			delete(s.env, "ACTIONS_ID_TOKEN_REQUEST_URL")
		}, cli.ExitCredentials, map[string]string{"result": "failed", "failure-class": "auth"}},
		{"not-trusted", "v3-signed", func(t *testing.T, s *stage) {
			s.with["auth-max-attempts"] = "1"
			s.cloud.HookSTS(sessiontest.Always(sessiontest.Denied))
		}, cli.ExitCredentials, map[string]string{"result": "failed", "failure-class": "auth"}},
		{"no-source", "", func(t *testing.T, s *stage) { mkdir(t, s.dir, "build-cache/v3") }, cli.ExitSource, map[string]string{"result": "failed", "failure-class": "source"}},
		{"not-signed", "v3-unsigned", nil, cli.ExitSource, map[string]string{"result": "failed", "failure-class": "source", "specs-published": "0"}},
		{"damaged", "v3-signed", damage, cli.ExitSource, map[string]string{"result": "failed", "failure-class": "source", "specs-found": "11", "specs-published": "0"}},
		{"damaged-keep-going", "v3-signed", func(t *testing.T, s *stage) {
			damage(t, s)
			s.with["keep-going"] = "true"
		}, cli.ExitSource, map[string]string{"result": "failed", "failure-class": "source", "specs-found": "11", "specs-published": "3"}},
		{"denied", "v3-signed", func(_ *testing.T, s *stage) {
			s.bucket.Hook(s3test.Always("PutObject", s3test.Refuse(403, "AccessDenied")))
		}, cli.ExitUpload, map[string]string{"result": "failed", "failure-class": "upload", "specs-published": "0", "objects-uploaded": "0"}},
		{"denied-to-list", "v3-signed", func(_ *testing.T, s *stage) {
			s.bucket.Hook(s3test.Always("ListObjectsV2", s3test.Refuse(403, "AccessDenied")))
		}, cli.ExitUpload, map[string]string{"result": "failed", "failure-class": "upload"}},
		{"index-denied", "v3-signed", func(_ *testing.T, s *stage) {
			s.bucket.Hook(func(r *http.Request) s3test.Fault {
				if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/index.manifest.json") {
					return s3test.Refuse(403, "AccessDenied")
				}
				return s3test.None
			})
		}, cli.ExitUpload, map[string]string{"result": "failed", "failure-class": "upload", "specs-published": "0"}},
		{"expired", "v3-signed", func(_ *testing.T, s *stage) {
			n := 0
			s.bucket.Hook(func(r *http.Request) s3test.Fault {
				if n++; n > 12 {
					s.cloud.HookSTS(sessiontest.Always(sessiontest.Denied))
					return s3test.Refuse(400, "ExpiredToken")
				}
				return s3test.None
			})
		}, cli.ExitCredentials, map[string]string{"result": "failed", "failure-class": "auth", "specs-published": "0"}},
		{"not-invalidated", "v3-signed", func(_ *testing.T, s *stage) {
			s.with["distribution-id"] = stagedDistribution
			s.cdn.Deny("cloudfront:CreateInvalidation")
		}, cli.ExitInvalidation, map[string]string{"result": "failed", "failure-class": "invalidation", "specs-published": "11"}},
		{"not-invalidated-warn", "v3-signed", func(_ *testing.T, s *stage) {
			s.with["distribution-id"], s.with["on-invalidation-failure"] = stagedDistribution, "warn"
			s.cdn.Deny("cloudfront:CreateInvalidation")
		}, cli.ExitDone, map[string]string{"result": "published", "failure-class": "", "specs-published": "11", "invalidation-id": ""}},
		{"not-visible", "v3-signed", func(t *testing.T, s *stage) {
			closed := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
			t.Cleanup(closed.Close)
			s.with["public-url"] = closed.URL + "/noble/spack"
		}, cli.ExitVerification, map[string]string{"result": "failed", "failure-class": "verify", "specs-published": "11"}},
		{"timeout", "v3-signed", func(_ *testing.T, s *stage) {
			s.with["timeout"] = "1s"
			s.bucket.Hook(s3test.Always("PutObject", s3test.Hang))
		}, cli.ExitTimeout, map[string]string{"result": "failed", "failure-class": "timeout", "specs-published": "0"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStage(t, row.fixture)
			s.with["report-file"] = "report.json"
			if row.prepare != nil {
				row.prepare(t, s)
			}
			got := s.run(t, t.Context())
			got.ends(t, row.code, row.outputs)
			golden(t, row.name+".md", lasting(got.summary))
			golden(t, row.name+".log", lasting(passing.ReplaceAllString(got.log, "")))
			told(t, got)
		})
	}
}

// passing matches lines that another run need not have: masks, and how far an upload is, which is said every 15 seconds.
var passing = regexp.MustCompile(`(?m)^(::add-mask::.*|\d+/\d+ objects · .* · ETA .*)\n`)

// told checks that the report and the outputs say the same, and that none of these is missing.
func told(t *testing.T, got stepped) {
	t.Helper()
	f, _ := readActionFile(t)
	for _, item := range f.Outputs {
		if _, ok := got.outputs[item.Key.(string)]; !ok {
			t.Errorf("output %s is not set", item.Key)
		}
	}
	if len(got.outputs) != len(f.Outputs) {
		t.Errorf("%d outputs, action.yml has %d", len(got.outputs), len(f.Outputs))
	}
	var r task.Report
	if err := json.Unmarshal([]byte(got.report), &r); err != nil {
		t.Fatalf("report: %v: %s", err, got.report)
	}
	if r.Result != got.outputs["result"] || r.ExitCode != got.code {
		t.Errorf("the report says %s, %d; the outputs %s", r.Result, r.ExitCode, got.outputs["result"])
	}
}

func mkdir(t testing.TB, parts ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(parts...), 0o755); err != nil {
		t.Fatal(err)
	}
}

// first has the step done once already.
func first(t *testing.T, s *stage) {
	s.with["report-file"] = ""
	s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "published"})
	s.with["report-file"] = "report.json"
}

// damage inverts a bit in the tarball of zlib.
func damage(t *testing.T, s *stage) {
	t.Helper()
	mirror := filepath.Join(s.dir, "buildcache")
	found, err := filepath.Glob(filepath.Join(mirror, "v3/manifests/spec/zlib/*.json"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	document, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	digest := regexp.MustCompile(`(?s)tar\+gzip.*?"checksum": ?"([0-9a-f]{64})"`).FindSubmatch(document)
	name := filepath.Join(mirror, "blobs/sha256", string(digest[1][:2]), string(digest[1]))
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	clitest.Write(t, name, string(content))
}

// Cancelled in the middle of an upload, a step ends at once, says how far it came, and the
// next one goes on from there.
func TestActionIsCancelled(t *testing.T) {
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		s := newStage(t, "v3-signed")
		s.with["report-file"] = "report.json"
		ctx, cancel := context.WithCancelCause(t.Context())
		sent := 0
		cancelled := sync.OnceFunc(func() { cancel(cli.SignalError{Signal: signal}) })
		s.bucket.Hook(func(r *http.Request) s3test.Fault {
			if s3test.Operation(r) != "PutObject" {
				return s3test.None
			}
			if sent++; sent <= 5 {
				return s3test.None
			}
			time.AfterFunc(time.Second, cancelled) // the answers to the others have come by then
			return s3test.Stall
		})
		began := time.Now()
		got := s.run(t, ctx)
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("%v: it took %v to stop", signal, took)
		}
		got.ends(t, code, map[string]string{"result": "cancelled", "failure-class": "", "objects-uploaded": "5", "specs-published": "0", "specs-found": "11"})
		told(t, got)
		golden(t, "cancelled.md", lasting(strings.ReplaceAll(got.summary, signal.String(), "SIGNAL")))
		s.bucket.Hook(nil)
		before := s.bucket.Count("PutObject")
		s.with["report-file"] = ""
		s.run(t, t.Context()).ends(t, cli.ExitDone, map[string]string{"result": "published", "specs-published": "11"})
		if sent := s.bucket.Count("PutObject") - before; sent >= 38 {
			t.Errorf("%v: %d requests to go on with, want fewer than for all", signal, sent)
		}
	}
}

// The page for those who install, to which the summary refers, is there.
func TestTheSummaryRefersToAPageThatIsThere(t *testing.T) {
	name, ok := strings.CutPrefix(clientsPage, docs)
	if _, err := os.Stat(clitest.Root("docs/" + name)); err != nil || !ok {
		t.Errorf("%s: %v", clientsPage, err)
	}
}
