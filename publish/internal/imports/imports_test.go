// Package imports holds the table of who may import whom, as a test.
package imports

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/vantagecompute/slurm-factory-publish/"

// arrows says what each package of the released module may import of it. Arrows go one
// way: words, documents, boundary, implementations, operations, commands. A package that
// is missing here fails the test, so that its place is decided and not found.
var arrows = map[string]string{
	// words
	"publish/blob":     "",
	"publish/spec":     "publish/blob",
	"publish/sha256x2": "",
	"publish/shell":    "",
	"publish/redact":   "",
	"publish/endpoint": "publish/redact",
	"publish/defect":   "",
	"publish/nofile":   "",
	"publish/userfile": "",
	"publish/parallel": "publish/defect publish/nofile",
	"publish/field":    "",
	"publish/alike":    "publish/spec",
	"publish/price":    "",
	"publish/nearest":  "",
	// documents
	"publish/key":      "",
	"publish/manifest": "publish/blob",
	"publish/layout":   "publish/blob publish/spec publish/key",
	"publish/index":    "publish/blob publish/spec publish/defect",
	"publish/indices":  "publish/blob publish/index publish/spec",
	"publish/lockfile": "publish/spec",
	"publish/listing":  "publish/mirror",
	"publish/query":    "",
	// what stands for a package that was withdrawn
	"publish/tombstone": "publish/history publish/manifest",
	// what became of an index: records beside the mirror
	"publish/history": "publish/blob publish/layout publish/mirror publish/parallel publish/spec",
	// the other half of signatures: making them
	"publish/sign":     "publish/key",
	"publish/sign/gpg": "publish/key publish/sign",
	"publish/sign/kms": "publish/unreached publish/sign publish/mirror publish/credentials", // AWS
	// the boundary
	"publish/mirror": "publish/blob",
	// what all that speak to AWS know of it
	"publish/credentials": "publish/mirror",
	// implementations, which know nothing of Spack
	"publish/mirror/s3":                     "publish/unreached publish/endpoint publish/mirror/s3/bucketname publish/field publish/mirror/s3/internal/copies publish/blob publish/mirror publish/credentials publish/redact publish/defect publish/nofile publish/mirror/s3/internal/answer publish/mirror/s3/internal/checksum publish/mirror/s3/internal/listing publish/mirror/s3/internal/put publish/mirror/s3/internal/slots publish/mirror/s3/internal/unfinished publish/mirror/s3/internal/wire",
	"publish/mirror/s3/internal/answer":     "publish/mirror publish/unreached",
	"publish/mirror/s3/bucketname":          "",
	"publish/mirror/s3/internal/checksum":   "publish/blob publish/sha256x2",
	"publish/mirror/s3/internal/copies":     "publish/blob publish/mirror publish/parallel publish/mirror/s3/internal/answer publish/mirror/s3/internal/checksum publish/mirror/s3/internal/slots publish/mirror/s3/internal/unfinished",
	"publish/mirror/s3/internal/listing":    "publish/mirror publish/mirror/s3/internal/answer",
	"publish/mirror/s3/internal/put":        "publish/blob publish/mirror/s3/internal/answer publish/mirror/s3/internal/slots publish/mirror/s3/internal/wire",
	"publish/mirror/s3/internal/slots":      "",
	"publish/mirror/s3/internal/unfinished": "publish/mirror publish/mirror/s3/internal/answer publish/mirror/s3/internal/listing publish/mirror/s3/internal/slots",
	"publish/mirror/s3/internal/wire":       "publish/mirror/s3/internal/answer",
	"publish/mirror/dir":                    "publish/blob publish/mirror",
	"publish/mirror/web":                    "publish/mirror publish/redact",
	"publish/tune":                          "publish/blob publish/mirror publish/defect",
	"publish/session":                       "publish/endpoint publish/field publish/shell publish/userfile publish/mirror publish/session/internal/wire",
	"publish/session/internal/wire":         "",
	"publish/unreached":                     "publish/mirror",
	"publish/cloudfront":                    "publish/mirror publish/credentials publish/unreached",
	"publish/queue":                         "publish/defect",
	// the indexer: it decides when, from a queue. It knows the layouts, and the caller hands it what to do
	"publish/events": "publish/unreached publish/histogram publish/layout publish/mirror publish/credentials publish/redact publish/defect",
	// the daemon: it decides when, and the caller hands it functions that do the work
	"publish/daemon":       "publish/arrival publish/histogram publish/daemon/event publish/daemon/hints publish/queue publish/defect",
	"publish/histogram":    "",
	"publish/arrival":      "",
	"publish/daemon/event": "",
	"publish/daemon/hints": "",
	"publish/daemon/api":   "publish/arrival publish/histogram publish/daemon publish/queue publish/events publish/defect",
	// for tests only
	"publish/publishtest":               "publish/history publish/reindex/lead publish/verify publish/spec publish/source publish/reindex publish/mirror/mirrortest publish/mirror publish/manifest publish/layout publish/key publish/index publish/buildcache publish publish/blob",
	"publish/internal/imports":          "",
	"publish/spec/spectest":             "",
	"publish/sign/signtest":             "publish/sign publish/key/gpgtest",
	"publish/sign/kms/kmstest":          "publish/sign",
	"publish/key/gpgtest":               "",
	"publish/mirror/mirrortest":         "publish/blob publish/mirror",
	"publish/mirror/s3/s3test":          "",
	"publish/cloudfront/cloudfronttest": "",
	"publish/session/sessiontest":       "",
	"publish/events/eventstest":         "publish/events",
	// what a mirror consists of
	"publish/buildcache/unpack": "",
	"publish/roots":             "publish/buildcache publish/mirror",
	"publish/buildcache":        "publish/buildcache/unpack publish/tombstone publish/alike publish/history publish/defect publish/blob publish/spec publish/key publish/manifest publish/layout publish/index publish/mirror publish/nofile publish/parallel publish/indices",
	// whether a pointer is an earlier one
	"publish/putback": "publish/buildcache publish/history publish/mirror publish/tombstone",
	// from one mirror to another
	"publish/archive":  "publish/blob publish/mirror publish/userfile",
	"publish/transfer": "publish/blob publish/mirror",
	// operations, which know no implementation
	"publish/licence":   "publish/buildcache publish/mirror publish/query",
	"publish/upstream":  "publish/buildcache publish/mirror publish/parallel publish/spec",
	"publish/same":      "publish/blob publish/buildcache publish/key publish/mirror publish/parallel publish/spec publish/tombstone",
	"publish/offer":     "publish/buildcache publish/key publish/mirror publish/same publish/sign publish/source",
	"publish/closure":   "publish/buildcache publish/index publish/layout publish/lockfile publish/query publish/spec publish/nearest publish/indices",
	"publish/elsewhere": "publish/inventory publish/alike publish/roots publish/key publish/closure publish/source publish/transfer publish/buildcache publish/blob publish/mirror publish/parallel publish/spec publish/query publish/defect publish/indices",
	"publish/source":    "publish/arrival publish/buildcache publish/blob publish/field publish/key publish/layout publish/lockfile publish/mirror publish/nearest publish/parallel publish/spec publish/tombstone publish/indices",
	"publish/views":     "publish/alike publish/history publish/lockfile publish/withdraw publish/closure publish/reindex publish/reindex/notice publish/buildcache publish/layout publish/mirror publish/spec publish/indices",
	"publish/verify":    "publish/putback publish/buildcache publish/blob publish/index publish/key publish/manifest publish/mirror publish/parallel publish/spec publish/tombstone publish/indices",
	"publish/prune":     "publish/alike publish/history publish/reindex/lead publish/reindex/notice publish/reindex publish/buildcache publish/inventory publish/query publish/blob publish/defect publish/index publish/layout publish/manifest publish/mirror publish/parallel publish/spec publish/indices publish/tombstone",
	"publish/reindex":   "publish/putback publish/alike publish/buildcache/unpack publish/history publish/reindex/lead publish/reindex/notice publish/defect publish/blob publish/buildcache publish/index publish/layout publish/mirror publish/parallel publish/spec publish/reindex/conflict publish/reindex/keyindex publish/indices",
	"publish":           "publish/tombstone publish/putback publish/promotion publish/licence publish/upstream publish/closure publish/same publish/price publish/views publish/history publish/source publish/reindex publish/reindex/lead publish/reindex/notice publish/buildcache publish/blob publish/spec publish/key publish/sign publish/layout publish/mirror publish/defect publish/parallel publish/reindex/keyindex publish/offer",
	"publish/withdraw":  "publish/index publish/putback publish/buildcache publish/history publish/layout publish/mirror publish/reindex publish/reindex/notice publish/spec publish/tombstone publish/reindex/conflict publish/indices",
	"publish/promotion": "publish/blob publish/buildcache publish/history publish/layout publish/mirror publish/parallel publish/spec",
	"publish/rollback":  "publish/defect publish/putback publish/withdraw publish/blob publish/buildcache publish/history publish/index publish/mirror publish/parallel publish/reindex publish/reindex/notice publish/spec publish/indices",
	"publish/keyring":   "publish/same publish/buildcache publish/layout publish/key publish/sign publish/mirror publish/parallel publish/reindex/keyindex",
	"publish/inventory": "publish/buildcache publish/blob publish/spec publish/key publish/layout publish/index publish/query publish/mirror publish/parallel publish/nearest",
	// places: AWS and directories, from one configuration
	"publish/target":    "publish/mirror/s3/bucketname publish/reindex publish/buildcache publish/field publish/layout publish/spec publish/redact publish/mirror publish/mirror/s3 publish/mirror/dir publish/mirror/web publish/session publish/cloudfront",
	"publish/downloads": "publish/spec publish/inventory publish/mirror publish/parallel",
	"publish/sbom":      "publish/inventory publish/licence publish/parallel publish/query publish/mirror",
	// what publishers of one index tell each other
	"publish/reindex/lead": "publish/blob publish/layout publish/mirror publish/defect publish/parallel",
	// which publisher was faster to replace a document
	"publish/reindex/conflict": "publish/mirror publish/reindex/notice",
	// the index of keys
	"publish/reindex/keyindex": "publish/buildcache publish/key publish/mirror publish/reindex/conflict publish/reindex/notice publish/same",
	// what a pruner and publishers tell each other
	"publish/reindex/notice": "publish/reindex/lead publish/blob publish/layout publish/mirror publish/defect",
	"publish/catalog":        "publish/buildcache publish/history publish/key publish/licence publish/downloads publish/blob publish/layout publish/inventory publish/query publish/mirror publish/parallel",
	// commands
	"cmd/publish":                          "cmd/publish/internal/cli/given cmd/publish/internal/cli/resume cmd/publish/internal/cli/once cmd/publish/internal/cli/quantity publish/downloads publish/promotion cmd/publish/internal/pages publish/roots publish/price publish/views publish/closure cmd/publish/internal/keys publish/source publish/reindex publish publish/buildcache publish/field publish/target publish/spec publish/redact publish/layout publish/mirror publish/mirror/s3 publish/session publish/tune cmd/publish/internal/action cmd/publish/internal/browse cmd/publish/internal/wrap cmd/publish/internal/service cmd/publish/internal/cli/escape cmd/publish/internal/cli publish/userfile publish/inventory publish/query publish/lockfile publish/elsewhere publish/transfer publish/archive publish/catalog cmd/publish/internal/doctor cmd/publish/internal/setup cmd/publish/internal/task cmd/publish/internal/help cmd/publish/internal/cli/style cmd/publish/internal/remote cmd/publish/internal/pruning publish/history cmd/publish/internal/past cmd/publish/internal/cli/signing",
	"cmd/publish/internal/cli":             "cmd/publish/internal/cli/resume cmd/publish/internal/cli/once publish/inventory cmd/publish/internal/cli/quantity publish/same publish/licence publish/catalog publish/elsewhere publish/spec publish/layout publish/sign/gpg publish/sign/kms publish/sign publish/source publish/reindex publish publish/buildcache publish/field publish/key publish/target publish/blob publish/redact publish/shell publish/index publish/mirror publish/cloudfront publish/events publish/queue publish/daemon/api publish/defect publish/nofile publish/userfile cmd/publish/internal/cli/escape publish/session publish/daemon publish/mirror/web cmd/publish/internal/help cmd/publish/internal/cli/style cmd/publish/internal/cli/novalue cmd/publish/internal/cli/signals publish/arrival publish/reindex/notice publish/alike cmd/publish/internal/cli/retrying publish/closure publish/nearest publish/reindex/conflict cmd/publish/internal/cli/signing",
	"cmd/publish/internal/task":            "publish/price publish/promotion cmd/publish/internal/pages publish/alike publish publish/buildcache publish/mirror publish/redact publish/reindex publish/source publish/target cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/cli/style publish/defect publish/indices",
	"cmd/publish/internal/action":          "cmd/publish/internal/cli/quantity publish/nearest publish/licence publish/sign/gpg publish/sign/kms cmd/publish/internal/task publish/sign publish/source publish publish/buildcache publish/field publish/target publish/redact publish/shell publish/index publish/key publish/layout publish/mirror publish/session publish/cloudfront publish/defect cmd/publish/internal/cli cmd/publish/internal/action/workflow cmd/publish/internal/action/former publish/reindex/conflict cmd/publish/internal/cli/signing cmd/publish/internal/action/steplog",
	"cmd/publish/internal/service":         "cmd/publish/internal/cli/quantity publish/nearest cmd/publish/internal/pages publish/arrival publish/source publish/reindex publish publish/buildcache publish/field publish/target publish/blob publish/redact publish/mirror publish/mirror/s3 publish/events publish/queue publish/daemon publish/daemon/api publish/defect publish/userfile cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/cli/novalue cmd/publish/internal/cli/retrying cmd/publish/internal/cli/signing",
	"cmd/publish/internal/doctor":          "publish/key publish/keyring publish/blob publish/target publish/layout publish/mirror publish/mirror/s3 publish/session publish/shell publish/events publish/queue publish/daemon/api cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/service",
	"cmd/publish/internal/keys":            "publish/roots publish/buildcache publish/key publish/keyring publish/mirror publish/sign publish/sign/kms publish/target publish/userfile cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/help publish/alike cmd/publish/internal/cli/signing",
	"cmd/publish/internal/pruning":         "cmd/publish/internal/cli/quantity publish/downloads publish/listing publish/redact publish/roots publish/price publish/buildcache publish/lockfile publish/mirror publish/prune publish/query publish/reindex/notice publish/spec publish/target publish/userfile cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/help",
	"cmd/publish/internal/setup":           "publish/cloudfront publish/userfile publish/field publish/redact publish/spec publish/target cmd/publish/internal/cli",
	"cmd/publish/internal/wrap":            "cmd/publish/internal/task publish publish/buildcache publish/mirror publish/target publish/daemon publish/daemon/api publish/queue cmd/publish/internal/cli cmd/publish/internal/service cmd/publish/internal/remote publish/source cmd/publish/internal/cli/escape",
	"cmd/publish/internal/browse":          "cmd/publish/internal/cli/quantity publish/downloads publish/prune publish/history publish/promotion publish/roots publish/layout publish/alike publish/spec publish/lockfile publish/buildcache publish/inventory publish/mirror publish/query publish/redact publish/sbom publish/target publish/userfile publish/field publish/shell cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/help publish/verify publish/withdraw cmd/publish/internal/cli/style publish/nearest publish/indices",
	"cmd/publish/internal/past":            "publish/parallel publish/putback publish/roots publish/field publish/layout publish/buildcache publish/history publish/inventory publish/mirror publish/query publish/redact publish/reindex publish/rollback publish/spec publish/target publish/withdraw cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/help publish/userfile publish/nearest publish/views",
	"cmd/publish/internal/remote":          "publish/alike publish/daemon publish/daemon/api publish/events publish/queue cmd/publish/internal/cli cmd/publish/internal/cli/escape cmd/publish/internal/help cmd/publish/internal/service cmd/publish/internal/cli/style",
	"cmd/publish/internal/cli/clitest":     "",
	"cmd/publish/internal/action/steplog":  "cmd/publish/internal/action/workflow cmd/publish/internal/cli cmd/publish/internal/task publish publish/buildcache publish/mirror/s3 publish/source",
	"cmd/publish/internal/action/workflow": "cmd/publish/internal/cli/escape publish/userfile",
	"cmd/publish/internal/cli/retrying":    "publish/mirror cmd/publish/internal/cli/escape",
	"cmd/publish/internal/cli/escape":      "",
	"cmd/publish/internal/cli/style":       "",
	"cmd/publish/internal/cli/novalue":     "",
	"cmd/publish/internal/cli/quantity":    "",
	"cmd/publish/internal/cli/once":        "",
	"cmd/publish/internal/cli/given":       "cmd/publish/internal/help publish/field publish/redact publish/userfile",
	"cmd/publish/internal/cli/resume":      "",
	"cmd/publish/internal/cli/signals":     "",
	"cmd/publish/internal/cli/signing":     "cmd/publish/internal/help publish publish/buildcache publish/field publish/sign publish/sign/gpg publish/sign/kms publish/userfile",
	"cmd/publish/internal/action/former":   "",
	"cmd/publish/internal/pages":           "publish publish/catalog publish/inventory publish/key publish/mirror publish/target cmd/publish/internal/cli",
	"cmd/publish/internal/help":            "cmd/publish/internal/cli/once cmd/publish/internal/cli/style publish/nearest",
	"cmd/image":                            "",
}

// owners says who alone may import what is heavy or dangerous, by its path,
// or by the beginning of it.
var owners = map[string]string{
	// cmd carries an aws.Config from session to s3 and cloudfront, and needs its type for that.
	"github.com/aws/aws-sdk-go-v2/aws":         "publish/mirror/s3/internal/copies publish/credentials publish/mirror/s3 publish/mirror/s3/internal/put publish/mirror/s3/internal/unfinished publish/cloudfront publish/session publish/events publish/sign/kms publish/target cmd/publish/internal/service cmd/publish/internal/action",
	"github.com/aws/":                          "publish/unreached publish/mirror/s3/internal/copies publish/mirror/s3 publish/mirror/s3/internal/answer publish/mirror/s3/internal/listing publish/mirror/s3/internal/put publish/mirror/s3/internal/unfinished publish/mirror/s3/internal/wire publish/cloudfront publish/session publish/events publish/sign/kms",
	"github.com/aws/aws-sdk-go-v2/service/sqs": "publish/events",
	"github.com/aws/smithy-go/time":            "publish/mirror/s3 publish/mirror/s3/internal/put publish/cloudfront publish/session publish/events publish/tune", // to wait
	"github.com/ProtonMail/":                   "publish/key publish/sign publish/sign/signtest publish/publishtest",
	"flag":                                     "cmd/publish cmd/image",
	"github.com/spf13/":                        "cmd/publish/internal/cli/given cmd/publish/internal/cli/signing cmd/publish/internal/cli/once cmd/publish/internal/cli/quantity cmd/publish/internal/past cmd/publish/internal/keys cmd/publish cmd/publish/internal/browse cmd/publish/internal/cli cmd/publish/internal/help cmd/publish/internal/remote cmd/publish/internal/pruning",
	"github.com/goccy/":                        "cmd/publish/internal/service cmd/publish/internal/cli cmd/publish/internal/cli/novalue",
	"github.com/vbauerster/":                   "cmd/publish/internal/task",
	"github.com/sethvargo/":                    "cmd/publish/internal/action/workflow publish/session",
	"github.com/CycloneDX/":                    "publish/sbom",
	"github.com/spdx/":                         "publish/sbom",
	"github.com/package-url/":                  "publish/sbom",
	"modernc.org/":                             "publish/queue",
	"github.com/fsnotify/":                     "publish/daemon/hints",
	"github.com/prometheus/":                   "publish/daemon/api",
	"github.com/coreos/":                       "cmd/publish/internal/service",
	"golang.org/x/sync/errgroup":               "publish/defect", // in whose groups a panic is an error
}

// reserved are the functions and variables by which a program meets its surroundings:
// only cmd may use them.
var reserved = map[string][]string{
	"os":  {"Getenv", "LookupEnv", "Environ", "ExpandEnv", "Setenv", "Exit", "Args", "Stdin", "Stdout", "Stderr"},
	"fmt": {"Print", "Printf", "Println"},
	"log": {"Print", "Printf", "Println", "Fatal", "Fatalf", "Fatalln"},
}

// A goPackage is what `go list` says of a package. What tests import does not count: it is not
// released.
type goPackage struct {
	ImportPath, Dir  string
	Imports, GoFiles []string
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	if len(packages) < len(arrows) {
		t.Errorf("%d packages, the table has %d", len(packages), len(arrows))
	}
	for _, p := range packages {
		for _, wrong := range wrongImports(p) {
			t.Error(wrong)
		}
		for _, may := range strings.Fields(arrows[strings.TrimPrefix(p.ImportPath, module)]) {
			if !slices.Contains(p.Imports, module+may) {
				t.Errorf("%s may import %s and does not: take the arrow out of the table", p.ImportPath, may)
			}
		}
	}
}

// The table says no where it should.
func TestWrongImportsAreFound(t *testing.T) {
	for _, p := range []goPackage{
		{ImportPath: module + "publish/blob", Imports: []string{module + "publish/spec"}},
		{ImportPath: module + "publish", Imports: []string{module + "publish/mirror/s3"}},
		{ImportPath: module + "publish", Imports: []string{module + "publish/mirror/mirrortest"}},
		{ImportPath: module + "publish/mirror/s3", Imports: []string{module + "publish/session"}},
		{ImportPath: module + "cmd/publish", Imports: []string{"github.com/aws/aws-sdk-go-v2/service/s3"}},
		{ImportPath: module + "cmd/publish", Imports: []string{module + "infra"}},
		{ImportPath: module + "publish/mirror/dir", Imports: []string{"github.com/aws/aws-sdk-go-v2/aws"}},
		{ImportPath: module + "publish/manifest", Imports: []string{"github.com/ProtonMail/go-crypto/openpgp"}},
		{ImportPath: module + "publish/session", Imports: []string{"flag"}},
		{ImportPath: module + "publish/util"},
	} {
		if len(wrongImports(p)) != 1 {
			t.Errorf("%s may import %v: %q", p.ImportPath, p.Imports, wrongImports(p))
		}
	}
}

func TestOnlyCommandsMeetTheirSurroundings(t *testing.T) {
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "cmd/") {
			continue
		}
		for _, file := range p.GoFiles {
			for _, use := range reservedUses(t, filepath.Join(p.Dir, file)) {
				if name == "publish/session" && file == "missing.go" && strings.HasSuffix(use, "os.Getenv") {
					continue // half of an access key, which the SDK reads and does not tell
				}
				t.Errorf("%s: %s: only cmd may", name, use)
			}
		}
	}
}

func wrongImports(p goPackage) []string {
	name := strings.TrimPrefix(p.ImportPath, module)
	allowed, known := arrows[name]
	if !known {
		return []string{name + " has no place in the table of imports"}
	}
	var wrong []string
	for _, path := range p.Imports {
		if ours, ok := strings.CutPrefix(path, module); ok {
			if !slices.Contains(strings.Fields(allowed), ours) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: the table of imports has no such arrow", name, ours))
			}
		} else if may := owner(path); may != nil && !slices.Contains(may, name) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s: only %v may", name, path, may))
		}
	}
	return wrong
}

// owner returns who may import path; nil: everybody.
func owner(path string) []string {
	if who, ok := owners[path]; ok {
		return strings.Fields(who)
	}
	for prefix, who := range owners {
		if strings.HasSuffix(prefix, "/") && strings.HasPrefix(path, prefix) {
			return strings.Fields(who)
		}
	}
	return nil
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...")
	cmd.Dir = "../../.."
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var packages []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

func reservedUses(t *testing.T, file string) []string {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var uses []string
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := s.X.(*ast.Ident); ok && slices.Contains(reserved[x.Name], s.Sel.Name) {
			uses = append(uses, fmt.Sprintf("%s:%d uses %s.%s", filepath.Base(file), set.Position(s.Pos()).Line, x.Name, s.Sel.Name))
		}
		return true
	})
	return uses
}

// Goroutines are started by a defect.Group, in which a panic is an error, and not the end of the process with the exit
// code of wrong usage. The others are these, which are small or catch it themselves.
func TestGoroutinesContainTheirPanics(t *testing.T) {
	may := map[string]int{
		"cmd/publish/internal/action/action.go":        2, // what renews the log; the job, caught
		"cmd/publish/internal/action/steplog/meter.go": 1,
		"cmd/publish/internal/task/progress.go":        1,
		"cmd/publish/internal/cli/signals/signals.go":  1,
		"cmd/publish/internal/setup/ask.go":            1, // reads from a terminal, which no signal interrupts
		"publish/daemon/api/serve.go":                  1, // net/http, which catches
		"publish/queue/open.go":                        1, // the writer, whose operations are caught
	}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasSuffix(name, "test") || name == "cmd/image" {
			continue
		}
		for _, file := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			ast.Inspect(f, func(node ast.Node) bool {
				if _, ok := node.(*ast.GoStmt); ok {
					n++
				}
				return true
			})
			if at := name + "/" + file; n != may[at] {
				t.Errorf("%s has %d go statements, want %d", at, n, may[at])
			}
		}
	}
}

// What CONTRIBUTING's tables and the map in publish/doc.go name is there. The tables name every package of cmd, and the map every one
// below publish.
func TestTheMapNamesWhatIsThere(t *testing.T) {
	const root = "../../../"
	exists := func(path string) bool {
		_, err := os.Stat(root + path)
		return err == nil
	}
	text, err := os.ReadFile(root + "CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	tables, _, _ := strings.Cut(string(text), "## Promises and their tests")
	paths := regexp.MustCompile("`((?:cmd|publish|test|infra|docs)(?:/[A-Za-z0-9_./-]+)?|action\\.yml)`").FindAllStringSubmatch(tables, -1)
	there := make(map[string]bool)
	for _, path := range paths {
		there[path[1]] = true
		if !exists(path[1]) {
			t.Errorf("CONTRIBUTING names %s, which is not there", path[1])
		}
	}
	for _, p := range listPackages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if strings.HasPrefix(name, "cmd/") && !strings.HasSuffix(name, "test") && !there[name] {
			t.Errorf("CONTRIBUTING does not name %s", name)
		}
	}
	text, err = os.ReadFile(root + "publish/doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for line := range strings.Lines(string(text)) {
		line, ok := strings.CutPrefix(line, "//\t  ")
		if !ok {
			continue
		}
		for name := range strings.FieldsSeq(strings.SplitN(strings.TrimSpace(line), "  ", 2)[0]) {
			named = append(named, name)
			if !slices.ContainsFunc([]string{"publish/", "publish/mirror/"}, func(dir string) bool { return exists(dir + name) }) {
				t.Errorf("publish/doc.go names %s, which is not there", name)
			}
		}
	}
	dirs, err := os.ReadDir(root + "publish")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "internal" && !strings.HasSuffix(d.Name(), "test") && !slices.Contains(named, d.Name()) {
			t.Errorf("publish/doc.go does not name publish/%s", d.Name())
		}
	}
}
