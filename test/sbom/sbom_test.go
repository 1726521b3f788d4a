// Package sbom holds the bills of materials of the binary to the schemas of SPDX 2.3 and CycloneDX 1.6.
package sbom

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	program.Clean()
	os.Exit(code)
}

// schemas compiles those of both standards. CycloneDX's come with the module that writes its documents; SPDX's
// is testdata/spdx-2.3.schema.json, from https://github.com/spdx/spdx-spec (CC-BY-3.0).
func schemas(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	cyclonedx := filepath.Join(strings.TrimSpace(string(out)), "schema")
	compiler := jsonschema.NewCompiler()
	add := func(url, file string) {
		t.Helper()
		text, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer text.Close()
		doc, err := jsonschema.UnmarshalJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := compiler.AddResource(url, doc); err != nil {
			t.Fatal(err)
		}
	}
	add("http://cyclonedx.org/schema/bom-1.6.schema.json", filepath.Join(cyclonedx, "bom-1.6.schema.json"))
	add("http://cyclonedx.org/schema/spdx.schema.json", filepath.Join(cyclonedx, "spdx.schema.json"))
	add("http://cyclonedx.org/schema/jsf-0.82.schema.json", filepath.Join(cyclonedx, "jsf-0.82.schemax.json"))
	add("http://spdx.org/rdf/terms/2.3", "testdata/spdx-2.3.schema.json")
	all := make(map[string]*jsonschema.Schema)
	for format, url := range map[string]string{"cyclonedx": "http://cyclonedx.org/schema/bom-1.6.schema.json", "spdx": "http://spdx.org/rdf/terms/2.3"} {
		compiler.AssertFormat()
		if all[format], err = compiler.Compile(url); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func run(t *testing.T, args ...string) string {
	t.Helper()
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return string(out)
}

func fixture(t *testing.T, name string) string {
	t.Helper()
	at, err := filepath.Abs("../testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Every document is valid, of either layout, for packages, views and whole caches, and twice the same.
func TestBillsOfMaterialsAreValid(t *testing.T) {
	all := schemas(t)
	for _, row := range [][]string{
		{"v3-signed"}, {"v2-signed"}, {"v3-migrated"}, {"v3-signed", "slurm"}, {"v3-view", "--view", "site/login"},
		{"v3-signed", "--deptypes", "all", "--supplier", "ACME HPC (site)", "--public-url", "https://cache.example.org/noble spack", "openmpi"},
	} {
		for format, schema := range all {
			args := append([]string{"sbom", "--format", format, "file://" + fixture(t, row[0])}, row[1:]...)
			text := run(t, args...)
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Errorf("%v: %v", args, err)
			}
			if again := run(t, args...); again != text {
				t.Errorf("%v: two documents of the same packages differ", args)
			}
		}
	}
}

// The schemas reject what is wrong, so that the test above says something.
func TestSchemasReject(t *testing.T) {
	for format, schema := range schemas(t) {
		text := run(t, "sbom", "--format", format, "file://"+fixture(t, "v3-signed"), "zlib")
		for _, bad := range []string{
			strings.ReplaceAll(strings.ReplaceAll(text, "SHA256", "SHA-255"), `"SHA-256"`, `"SHA255"`),
			strings.ReplaceAll(text, `"name"`, `"nmae"`),
		} {
			doc, err := jsonschema.UnmarshalJSON(strings.NewReader(bad))
			if err != nil || bad == text {
				t.Fatal(err)
			}
			if schema.Validate(doc) == nil {
				t.Errorf("%s: accepted:\n%s", format, bad)
			}
		}
	}
}

type cyclonedxBOM struct {
	Components []struct {
		Ref    string `json:"bom-ref"`
		Name   string
		Scope  string
		PURL   string
		Hashes []struct{ Alg, Content string }
	}
	Dependencies []struct {
		Ref       string
		DependsOn []string
	}
}

// Each package has the checksum of its tarball, and what it depends on.
func TestBillsOfMaterialsAreRight(t *testing.T) {
	for _, name := range []string{"v3-signed", "v2-signed"} {
		at := fixture(t, name)
		sums := make(map[string]bool)
		err := filepath.WalkDir(at, func(file string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				content, err := os.ReadFile(file)
				sums[fmt.Sprintf("%x", sha256.Sum256(content))] = true
				return err
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var bom cyclonedxBOM
		if err := json.Unmarshal([]byte(run(t, "sbom", "--format", "cyclonedx", "--deptypes", "all", "file://"+at, "slurm")), &bom); err != nil {
			t.Fatal(err)
		}
		names, scopes := make(map[string]string), make(map[string]string)
		for _, c := range bom.Components {
			names[c.Ref] = c.Name
			if scopes[c.Name] != "required" { // gcc was built with another zlib
				scopes[c.Name] = c.Scope
			}
			if c.Name == "glibc" || c.Name == "gmake" { // external, and not pushed
				continue
			}
			if len(c.Hashes) == 1 && sums[c.Hashes[0].Content] && strings.Contains(c.PURL, "checksum=sha256:"+c.Hashes[0].Content) {
				continue
			}
			if !strings.Contains(c.PURL, "spack_hash="+c.Ref) || len(c.Hashes) > 0 {
				t.Errorf("%s: %+v", name, c)
			}
		}
		if scopes["zlib"] != "required" || scopes["gmake"] == "required" && name == "v2-signed" || scopes["gcc"] == "required" {
			t.Errorf("%s: %v", name, scopes)
		}
		for _, d := range bom.Dependencies {
			if names[d.Ref] != "slurm" {
				continue
			}
			var on []string
			for _, ref := range d.DependsOn {
				on = append(on, names[ref])
			}
			for _, want := range []string{"hwloc", "munge", "openssl", "pmix", "zlib"} {
				if !slices.Contains(on, want) {
					t.Errorf("%s: slurm depends on %v", name, on)
				}
			}
		}
	}
}

// In SPDX what only builds a package is a build dependency, and what it runs with is part of it.
func TestRelationshipsInSPDX(t *testing.T) {
	var doc struct {
		Relationships []struct{ SpdxElementID, RelatedSpdxElement, RelationshipType string }
	}
	if err := json.Unmarshal([]byte(run(t, "sbom", "--deptypes", "all", "file://"+fixture(t, "v3-signed"), "slurm")), &doc); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range doc.Relationships {
		a, _, _ := strings.Cut(strings.TrimPrefix(r.SpdxElementID, "SPDXRef-"), "-")
		b, _, _ := strings.Cut(strings.TrimPrefix(r.RelatedSpdxElement, "SPDXRef-"), "-")
		all = append(all, a+" "+r.RelationshipType+" "+b)
	}
	for _, want := range []string{"DOCUMENT DESCRIBES slurm", "slurm DEPENDS_ON zlib", "compiler BUILD_DEPENDENCY_OF slurm", "gcc BUILD_DEPENDENCY_OF slurm"} {
		if !slices.Contains(all, want) {
			t.Errorf("%s is not among %v", want, all)
		}
	}
	if slices.Contains(all, "DOCUMENT DESCRIBES zlib") {
		t.Error("zlib was not asked for")
	}
}
