package crash

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// entries are what is in a file of publish export.
func entries(file string) (map[string][sha256.Size]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := make(map[string][sha256.Size]byte)
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(h.Name, ".history/") { // which says when
			all[h.Name] = sha256.Sum256(content)
		}
	}
}

// An export that is killed, refused or cut off at any request leaves no file under the name that it was given, and the next one writes what an
// undisturbed one writes.
func TestAnExportIsDisturbedAtEveryRequest(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	server := s3server.Start(t)
	w := &world{server: server, bin: bin, bucket: "exported"}
	if err := server.CreateBucket(w.bucket); err != nil {
		t.Fatal(err)
	}
	w.must(t, write(t, universe(spackmirror.V3), withLarge), w.destination())
	dir := t.TempDir()
	proxy := faultproxy.Start(t, server.Endpoint)
	whole := filepath.Join(dir, "whole.tar")
	if r, err := program.Run(w.env(proxy.URL), bin, "export", w.destination(), whole); err != nil || r.Code != 0 {
		t.Fatalf("undisturbed: %v, %v", err, r)
	}
	requests := len(proxy.Log())
	want, err := entries(whole)
	if err != nil || len(want) < 6 || requests < 6 {
		t.Fatalf("%d entries, %d requests, %v", len(want), requests, err)
	}
	var all sync.WaitGroup
	for k := 1; k <= requests; k++ {
		for i, f := range faults {
			if left(k, i) || f.waits { // a read that stalls is what the other commands wait for as well
				continue
			}
			all.Go(func() {
				busy <- struct{}{}
				defer func() { <-busy }()
				exportDisturbed(t, w, filepath.Join(dir, fmt.Sprintf("%d-%s.tar", k, strings.ReplaceAll(f.name, " ", "-"))), k, f, want)
			})
		}
	}
	all.Wait()
	t.Logf("%d requests", requests)
}

func exportDisturbed(t *testing.T, w *world, file string, k int, f fault, want map[string][sha256.Size]byte) {
	wrong := func(format string, args ...any) {
		t.Errorf("request %d %s: %s", k, f.name, fmt.Sprintf(format, args...))
	}
	proxy := faultproxy.Start(t, w.server.Endpoint)
	defer proxy.Close()
	c := campaign{scenario: scenario{args: func(w *world) []string { return []string{"export", w.destination(), file} }}}
	r, err := c.run(w, proxy, k, f)
	if err != nil {
		wrong("%v", err)
		return
	}
	got, err := entries(file)
	switch {
	case r.Code == 0 && (err != nil || !maps.Equal(got, want)):
		wrong("said that it is done, and wrote %d entries: %v", len(got), err)
	case r.Code != 0 && !errors.Is(err, fs.ErrNotExist):
		wrong("%s: left a file: %v\n%v", hit(proxy.Log(), k), err, r)
	case r.Code != 0 && f.survived:
		wrong("%s: did not get over it\n%v", hit(proxy.Log(), k), r)
	}
	again, err := program.Run(w.env(w.server.Endpoint), w.bin, "export", w.destination(), file)
	if err != nil || again.Code != 0 {
		wrong("second run: %v, %v", err, again)
		return
	}
	if got, err := entries(file); err != nil || !maps.Equal(got, want) {
		wrong("the second run wrote %d entries: %v", len(got), err)
	}
	if _, err := os.Stat(file + ".partial"); !errors.Is(err, fs.ErrNotExist) {
		wrong("what was not finished is left over: %v", err)
	}
}

// An import into a directory and an export of one, killed at any time: readers find a whole mirror or none, and no file that is not whole. The next run
// completes either.
func TestArchivesAreKilledAtAnyTime(t *testing.T) {
	bin, err := program.Publish()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"HOME=" + t.TempDir()}
	run := func(args ...string) time.Duration {
		t.Helper()
		r, err := program.Run(env, bin, args...)
		if err != nil || r.Code != 0 {
			t.Fatalf("%v: %v, %v", args, err, r)
		}
		return r.Took
	}
	u := universe(spackmirror.V3)
	dir := t.TempDir()
	from := "file://" + write(t, u, u.All())
	whole := filepath.Join(dir, "whole.tar")
	exporting := run("export", from, whole)
	want, err := entries(whole)
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "model")
	importing := run("import", whole, "file://"+model)
	rounds := 24
	if testing.Short() {
		rounds = 6
	}
	killed := func(after time.Duration, args ...string) {
		t.Helper()
		p, err := program.Begin(env, bin, args...)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(after)
		p.Kill()
		_, _ = p.Wait()
	}
	for i := range rounds {
		part := func(of time.Duration) time.Duration { return of * time.Duration(i) / time.Duration(rounds) }
		file, to := filepath.Join(dir, fmt.Sprintf("%d.tar", i)), filepath.Join(dir, fmt.Sprint(i))
		killed(part(exporting), "export", from, file)
		if got, err := entries(file); !errors.Is(err, fs.ErrNotExist) && (err != nil || !maps.Equal(got, want)) {
			t.Errorf("export killed after %v: a file of %d entries, %v", part(exporting), len(got), err)
		}
		run("export", from, file)
		if got, err := entries(file); err != nil || !maps.Equal(got, want) {
			t.Errorf("export after it was killed: %d entries, %v", len(got), err)
		}
		killed(part(importing), "import", whole, "file://"+to)
		if m := reader.V3(reader.Dir(to)); len(m.Broken) > 0 && len(m.Specs) > 0 {
			t.Errorf("import killed after %v: %v", part(importing), m.Broken)
		}
		run("import", whole, "file://"+to)
		if m, n := reader.V3(reader.Dir(to)), reader.V3(reader.Dir(model)); !m.Works() || !maps.Equal(m.Specs, n.Specs) || len(m.Specs) != u.Len() {
			t.Errorf("import after it was killed: %v", m)
		}
	}
}
