package spec_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A verdict is what real versions of Spack did with a document: test/testdata/README.md.
type verdict struct {
	Change   string
	Document string
	Spack    map[string]struct{ Document, Index string }
}

func (v verdict) reads(version string) bool {
	s := v.Spack[version]
	return s.Document == "reads" && s.Index == "reads"
}

func verdicts(t testing.TB, file string) []verdict {
	t.Helper()
	f, err := os.Open(testdata + "/reader/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var all []verdict
	for dec := json.NewDecoder(zr); ; {
		var v verdict
		if err := dec.Decode(&v); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, v)
	}
}

// rootOf is what a spec must be about to keep the name of its manifest.
func rootOf(t *testing.T, all []verdict, format int) string {
	t.Helper()
	s, err := spec.Parse([]byte(all[len(all)-1].Document), format)
	if err != nil {
		t.Fatalf("the unchanged document: %v", err)
	}
	return s.Root().ID() + string(s.Root().Hash)
}

// What Spack cannot read is refused, and what it reads is not, except for the kinds of the table in
// docs/contract.md: each row of the oracle that is refused although Spack reads it is named here.
func TestContractIsThatOfSpacksReaders(t *testing.T) {
	for _, c := range []struct {
		file    string
		format  int
		readers []string
	}{{"v5.jsonl.gz", spec.Format5, []string{"1.2"}}, {"v4.jsonl.gz", spec.Format4, []string{"0.23", "1.2"}}} {
		all := verdicts(t, c.file)
		root := rootOf(t, all, c.format)
		for _, v := range all {
			reads := true
			for _, version := range c.readers {
				reads = reads && v.reads(version)
			}
			s, err := spec.Parse([]byte(v.Document), c.format)
			switch {
			case err == nil && !reads && s.Root().ID()+string(s.Root().Hash) == root:
				t.Errorf("%s %s: accepted, and Spack says %v", c.file, v.Change, v.Spack)
			case err != nil && reads && !neverWritten(v.Change):
				t.Errorf("%s %s: Spack reads it, refused: %v", c.file, v.Change, err)
			}
		}
	}
}

// neverWritten reports whether a change puts a value into a place where Spack never writes one
// like it: of another type, or with control characters in what people are shown.
func neverWritten(change string) bool {
	member, value, ok := strings.Cut(change, " = ")
	if !ok {
		return change == "second node with the same hash and another version" || strings.HasPrefix(change, "parameters nested ") ||
			strings.HasPrefix(change, "parameters integer of ")
	}
	var v any
	if json.Unmarshal([]byte(value), &v) != nil {
		return false
	}
	_, text := v.(string)
	_, boolean := v.(bool)
	_, number := v.(float64)
	_, object := v.(map[string]any)
	switch {
	case member == "_meta.version":
		return !number || strings.Contains(value, ".")
	case member == "hash" || member == "+versions": // not the hash or the version of the manifest
		return true
	case member == "+external":
		path, _ := v.(map[string]any)
		_, attributes := path["extra_attributes"].(map[string]any)
		return !object || path["path"] == 5.0 || path["extra_attributes"] != nil && !attributes
	case strings.HasSuffix(member, "deptypes"), strings.HasSuffix(member, "virtuals"), strings.HasSuffix(member, "flags"), member == "parameters.ldlibs",
		member == "+patches", member == "+propagate", member == "+abstract":
		return !strings.HasPrefix(value, "[") || !allText(v)
	case strings.HasPrefix(member, "parameters."):
		return !text && !boolean && !allText(v)
	case member == "annotations.original_specfile_version":
		return !number || strings.ContainsAny(value, ".eE")
	case member == "+concrete":
		return !boolean
	case member == "arch.target" || member == "arch.platform_os" || member == "name" || member == "version":
		return !text || strings.Contains(value, `\u0001`)
	case strings.HasPrefix(member, "+") && member != "+package_hash":
		return false // members that no reader knows
	case member == "dependencies.0", member == "dependencies", member == "parameters", member == "arch", member == "annotations", member == "compiler":
		return false
	}
	return !text
}

func allText(v any) bool {
	list, ok := v.([]any)
	for _, e := range list {
		if _, text := e.(string); !text {
			return false
		}
	}
	return ok
}
