package source_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/arrival"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/mirrortest"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

func inboxOf(t testing.TB, dir string, rules source.Rules) *source.Inbox {
	t.Helper()
	in, err := source.OpenInbox(dir, rules)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func arrivals(t testing.TB, in *source.Inbox, dir string) []string {
	t.Helper()
	var files []string
	for a, err := range in.Arrivals(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, a.File)
	}
	return files
}

func check(t testing.TB, in *source.Inbox, file string) error {
	t.Helper()
	a, err := in.Read(t.Context(), file)
	if err != nil {
		return err
	}
	read := int64(0)
	err = in.Check(t.Context(), file, a.Digest, func(n int64) { read += n })
	if err == nil && (read == 0 || read > a.Bytes) {
		t.Errorf("%s: %d bytes read to check %d", file, read, a.Bytes)
	}
	return err
}

func TestWhatSpackLeftIsComplete(t *testing.T) {
	for _, fixture := range publishtest.Mirrors {
		dir := filepath.Join(t.TempDir(), "tree")
		publishtest.Must(t, os.CopyFS(filepath.Join(dir, "noble/buildcache"), os.DirFS(publishtest.Original(fixture))))
		in := inboxOf(t, dir, source.Rules{})
		files := arrivals(t, in, "")
		src := publishtest.SourceOf(t, dir, source.Selection{})
		if len(files) != len(src.Mirrors[0].Packages) {
			t.Errorf("%s: %d documents, want %d", fixture, len(files), len(src.Mirrors[0].Packages))
		}
		for _, file := range files {
			if err := check(t, in, file); err != nil {
				t.Errorf("%s: %s: %v", fixture, file, err)
			}
		}
		if below := arrivals(t, in, filepath.Dir(files[0])); !slices.Contains(below, files[0]) {
			t.Errorf("%s: below the directory of %s: %v", fixture, files[0], below)
		}
	}
}

// Whatever a file looks like while it is being written, the package is not taken for
// complete, and not given up either.
func TestHalfAPackageIsOnItsWay(t *testing.T) {
	halves := map[string]func(name string) error{
		"missing":        os.Remove,
		"empty":          func(name string) error { return os.Truncate(name, 0) },
		"cut off":        func(name string) error { info, _ := os.Stat(name); return os.Truncate(name, info.Size()-2) },
		"not filled yet": func(name string) error { return scribble(name, -1) },
	}
	for _, fixture := range publishtest.Mirrors {
		for what, half := range halves {
			dir := publishtest.Copied(t, fixture)
			in := inboxOf(t, dir, source.Rules{})
			file := arrivals(t, in, "")[0]
			var doc *buildcache.Package
			for _, p := range publishtest.SourceOf(t, dir, source.Selection{Documents: []string{file}}).Mirrors[0].Packages {
				doc = p
			}
			for i, name := range append([]string{file}, objectNames(doc.Blobs)...) {
				whole := publishtest.MustRead(t, filepath.Join(dir, name))
				publishtest.Must(t, half(filepath.Join(dir, name)))
				err := check(t, in, file)
				var refused *arrival.RefusedError
				if err == nil || errors.As(err, &refused) || i == 0 && what == "missing" && !errors.Is(err, arrival.ErrGone) {
					t.Errorf("%s: %s of %s: %v", fixture, what, name, err)
				}
				publishtest.Must(t, os.WriteFile(filepath.Join(dir, name), whole, 0o644))
				if err := check(t, in, file); err != nil {
					t.Errorf("%s: %s whole again: %v", fixture, name, err)
				}
			}
		}
	}
}

// scribble changes the last byte of a file.
func scribble(name string, at int) error {
	content, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	content[len(content)+at] ^= 0xff
	return os.WriteFile(name, content, 0o644)
}

func objectNames(objects []buildcache.Object) []string {
	var names []string
	for _, o := range objects {
		names = append(names, o.Name)
	}
	return names
}

func TestRulesOfAnInbox(t *testing.T) {
	for _, row := range []struct {
		fixture string
		rules   source.Rules
		want    error // nil: refused
		reason  string
	}{
		{"v3-unsigned", source.Rules{Trust: buildcache.Trust{RequireSigned: true}}, nil, "not signed"},
		{"v3-signed", source.Rules{Selection: source.Selection{OS: []string{"beos"}}}, nil, "beos"},
		{"v3-signed", source.Rules{Selection: source.Selection{Layout: "v2"}}, arrival.ErrNotSelected, ""},
		{"v2-signed", source.Rules{Selection: source.Selection{Include: []string{"no-such-package"}}}, arrival.ErrNotSelected, ""},
	} {
		dir := publishtest.Copied(t, row.fixture)
		in := inboxOf(t, dir, row.rules)
		err := check(t, in, arrivals(t, in, "")[0])
		var refused *arrival.RefusedError
		if row.want != nil && !errors.Is(err, row.want) || row.want == nil && (!errors.As(err, &refused) || !strings.Contains(err.Error(), row.reason)) {
			t.Errorf("%s: %v", row.fixture, err)
		}
	}
}

func TestWhatChangesInAnInbox(t *testing.T) {
	dir := publishtest.Copied(t, "v3-unsigned")
	in := inboxOf(t, dir, source.Rules{})
	marks := func() map[string]string {
		all := make(map[string]string)
		for a, err := range in.Arrivals(t.Context(), "") {
			publishtest.Must(t, err)
			all[a.File] = a.Mark
		}
		return all
	}
	before := marks()
	file := arrivals(t, in, "")[0]
	a, err := in.Read(t.Context(), file)
	publishtest.Must(t, err)
	other := append(publishtest.MustRead(t, filepath.Join(dir, file)), '\n')
	publishtest.Must(t, os.WriteFile(filepath.Join(dir, file+".tmp"), other, 0o644))
	publishtest.Must(t, os.Rename(filepath.Join(dir, file+".tmp"), filepath.Join(dir, file)))
	for name, mark := range marks() {
		if (mark == before[name]) == (name == file) {
			t.Errorf("%s: mark %q, was %q", name, mark, before[name])
		}
	}
	if err := in.Check(t.Context(), file, a.Digest, func(int64) {}); !errors.Is(err, arrival.ErrAnother) {
		t.Error(err)
	}
	publishtest.Must(t, os.Truncate(filepath.Join(dir, file), 10))
	if err := in.Check(t.Context(), file, a.Digest, func(int64) {}); !errors.Is(err, arrival.ErrAnother) {
		t.Error("cut off after it was read:", err)
	}
	publishtest.Must(t, os.Remove(filepath.Join(dir, file)))
	if err := in.Check(t.Context(), file, a.Digest, func(int64) {}); !errors.Is(err, arrival.ErrGone) {
		t.Error(err)
	}
}

// Nothing outside of an inbox is read, whatever it is asked for.
func TestAnInboxHasWalls(t *testing.T) {
	outside := publishtest.Copied(t, "v3-unsigned")
	dir := filepath.Join(t.TempDir(), "in")
	publishtest.Must(t, os.MkdirAll(filepath.Join(dir, "blobs"), 0o777))
	publishtest.Must(t, os.Symlink(filepath.Join(outside, "v3"), filepath.Join(dir, "v3")))
	in := inboxOf(t, dir, source.Rules{})
	file := arrivals(t, inboxOf(t, outside, source.Rules{}), "")[0]
	for _, name := range []string{file, "../" + filepath.Base(outside) + "/" + file, "/" + file, outside + "/" + file} {
		if _, err := in.Read(t.Context(), name); err == nil {
			t.Errorf("%s was read", name)
		}
	}
	for _, name := range []string{"v3/layout.json", "blobs/sha256/aa/bb", "", ".", "v3/manifests/spec/x\n/x-1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.spec.manifest.json"} {
		if _, err := in.Read(t.Context(), name); !errors.Is(err, arrival.ErrNoDocument) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What is named is published, and nothing else of its mirror is looked at.
func TestPublishingDocumentsByName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tree")
	for _, fixture := range publishtest.Mirrors {
		publishtest.Must(t, os.CopyFS(filepath.Join(dir, fixture), os.DirFS(publishtest.Original(fixture))))
	}
	var some []string
	for _, fixture := range []string{"v3-signed", "v2-unsigned"} {
		some = append(some, arrivals(t, inboxOf(t, dir, source.Rules{}), fixture)[0])
	}
	src := publishtest.SourceOf(t, dir, source.Selection{Documents: append(some, some[0], "v3-view/no-document")})
	if len(src.Mirrors) != 2 || len(src.Findings) != 1 {
		t.Fatalf("mirrors %v, findings %v", src.Mirrors, src.Findings)
	}
	store := make(map[string]*mirrortest.Mem)
	plan, err := publish.NewPlan(t.Context(), src, func(path string) mirror.Store {
		if store[path] == nil {
			store[path] = publishtest.EmptyMirror(t)
		}
		return store[path]
	}, publish.Options{KeepGoing: true})
	publishtest.Must(t, err)
	out, err := plan.Apply(t.Context(), publishtest.Ignored{})
	var found *buildcache.FindingsError
	if !errors.As(err, &found) {
		t.Error(err)
	}
	for _, m := range out.Mirrors {
		if got := fmt.Sprint(m.Path, len(m.Packages), m.Index.After); got != m.Path+" 1 1" && got != m.Path+"1 1" {
			t.Errorf("mirror, packages and packages in the index: %s", got)
		}
	}
}
