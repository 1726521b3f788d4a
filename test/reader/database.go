package reader

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// A Database is a parsed index: its records by hash.
type Database map[string]Record

// A Record is what an index says of a spec.
type Record struct {
	// Spec is the node as parsed JSON, without the field "direct" of edges: of two valid
	// indices of one mirror one may have it.
	Spec         map[string]any
	RefCount     int
	InBuildcache bool
	node         node
}

// A node is what names follow from.
type node struct {
	Name    string
	Version string
	Hash    string
	Arch    struct {
		Platform string
		OS       string `json:"platform_os"`
		Target   json.RawMessage
	}
	Compiler     *compiler
	Annotations  struct{ Compiler string }
	External     json.RawMessage
	Dependencies []struct{ Name, Hash string }
}

type compiler struct{ Name, Version string }

// fields are all that Spack accepts in a record: with another one the whole index is
// corrupt to it.
var fields = []string{"spec", "path", "installed", "ref_count", "explicit", "installation_time", "deprecated_for", "in_buildcache", "origin"}

// versions are those that Spack reads.
var versions = []string{"6", "7", "8"}

// parseDatabase parses an index as Spack does.
func parseDatabase(content []byte) (Database, error) {
	var doc struct {
		Database struct {
			Version  string
			Installs map[string]map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		return nil, err
	}
	if !slices.Contains(versions, doc.Database.Version) {
		return nil, fmt.Errorf("index of version %q", doc.Database.Version)
	}
	db := Database{}
	for hash, fields := range doc.Database.Installs {
		r, err := parseRecord(fields)
		if err == nil && r.node.Hash != hash {
			err = fmt.Errorf("its spec has the hash %q", r.node.Hash)
		}
		if err != nil {
			return nil, fmt.Errorf("record %s: %w", hash, err)
		}
		db[hash] = r
	}
	return db, nil
}

func parseRecord(record map[string]json.RawMessage) (Record, error) {
	for name := range record {
		if !slices.Contains(fields, name) {
			return Record{}, fmt.Errorf("unknown field %q", name)
		}
	}
	var r Record
	for _, f := range []struct {
		name string
		into any
	}{
		{"spec", &r.Spec}, {"spec", &r.node}, {"ref_count", &r.RefCount}, {"in_buildcache", &r.InBuildcache},
	} {
		if err := json.Unmarshal(record[f.name], f.into); err != nil {
			return Record{}, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	dropDirect(r.Spec)
	return r, nil
}

func dropDirect(spec map[string]any) {
	edges, _ := spec["dependencies"].([]any)
	for _, e := range edges {
		if edge, ok := e.(map[string]any); ok {
			if parameters, ok := edge["parameters"].(map[string]any); ok {
				delete(parameters, "direct")
			}
		}
	}
}

// check reports edges that lead nowhere and counts that are wrong.
func (w *walk) check(name string, db Database) {
	counts := map[string]int{}
	for _, hash := range db.hashes() {
		seen := map[string]bool{}
		for _, d := range db[hash].node.Dependencies {
			if _, ok := db[d.Hash]; !ok {
				w.broken(name, "%s depends on %s/%s, which has no record", hash, d.Name, d.Hash)
			}
			if !seen[d.Hash] {
				counts[d.Hash]++
			}
			seen[d.Hash] = true
		}
	}
	for _, hash := range db.hashes() {
		if got, want := db[hash].RefCount, counts[hash]; got != want {
			w.odd(name, "%s has ref_count %d, %d records refer to it", hash, got, want)
		}
	}
}

func (db Database) hashes() []string {
	hashes := make([]string, 0, len(db))
	for h := range db {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	return hashes
}

// Diff says in what db differs from want; it is empty if they mean the same to Spack.
func (db Database) Diff(want Database) []string {
	var diff []string
	for _, hash := range want.hashes() {
		got, ok := db[hash]
		w := want[hash]
		switch {
		case !ok:
			diff = append(diff, fmt.Sprintf("%s (%s) is missing", hash, w.node.Name))
		case got.InBuildcache != w.InBuildcache || got.RefCount != w.RefCount:
			diff = append(diff, fmt.Sprintf("%s (%s): in_buildcache %v, ref_count %d; want %v, %d", hash, w.node.Name,
				got.InBuildcache, got.RefCount, w.InBuildcache, w.RefCount))
		case !reflect.DeepEqual(got.Spec, w.Spec):
			diff = append(diff, fmt.Sprintf("%s (%s): spec %s, want %s", hash, w.node.Name, compact(got.Spec), compact(w.Spec)))
		}
	}
	for _, hash := range db.hashes() {
		if _, ok := want[hash]; !ok {
			diff = append(diff, fmt.Sprintf("%s (%s) is not wanted", hash, db[hash].node.Name))
		}
	}
	return diff
}

// Union returns the records of both, as update-index would make them of a mirror that
// holds what a and b hold.
func Union(a, b Database) Database {
	u := Database{}
	for _, db := range []Database{a, b} {
		for hash, r := range db {
			r.InBuildcache = r.InBuildcache || u[hash].InBuildcache
			r.RefCount = 0
			u[hash] = r
		}
	}
	for _, r := range u {
		seen := map[string]bool{}
		for _, d := range r.node.Dependencies {
			if to, ok := u[d.Hash]; ok && !seen[d.Hash] {
				to.RefCount++
				u[d.Hash] = to
			}
			seen[d.Hash] = true
		}
	}
	return u
}

func compact(v any) []byte {
	var b bytes.Buffer
	json.NewEncoder(&b).Encode(v)
	return bytes.TrimSpace(b.Bytes())
}
