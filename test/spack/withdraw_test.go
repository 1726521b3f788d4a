//go:build spack

package spack

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// served is a mirror as clients reach it: over http, with strong ETags.
func served(t *testing.T, mirror string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := filepath.Join(mirror, filepath.FromSlash(r.URL.Path))
		content, err := os.ReadFile(name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(content)))
		http.ServeFile(w, r, name)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A client is a Spack that reads a mirror and trusts its keys.
func client(t *testing.T, url string) *spack {
	t.Helper()
	s := newSpack(t)
	s.write(t, "conf/mirrors.yaml", fmt.Sprintf("mirrors:\n  ours: {url: %q, signed: true}\n", url))
	s.run(t, "buildcache", "keys", "--install", "--trust")
	return s
}

// environment is a directory with the lock file of munge and openssl.
func (s *spack) environment(t *testing.T) string {
	t.Helper()
	lock := "../../publish/lockfile/testdata/v5.lock"
	if s.v3() {
		lock = "../../publish/lockfile/testdata/v6.lock"
	}
	var l struct{ Roots []struct{ Spec string } }
	read(t, lock, &l)
	var specs []string
	for _, r := range l.Roots {
		specs = append(specs, r.Spec)
	}
	dir := t.TempDir()
	content, err := os.ReadFile(lock)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "spack.lock"), content)
	writeFile(t, filepath.Join(dir, "spack.yaml"), fmt.Appendf(nil, "spack:\n  specs: [%s]\n  view: false\n", strings.Join(specs, ", ")))
	return dir
}

func (s *spack) installed(t *testing.T) []string {
	t.Helper()
	return strings.Fields(s.run(t, "find", "--format", "{name}"))
}

// Real Spack gets a withdrawn package on no way, whether it has seen the mirror before or not, and nothing that needs it without it. When
// the withdrawal is undone, it gets it again.
func TestSpackGetsNoWithdrawnPackage(t *testing.T) {
	probe := newSpack(t)
	m := published(t, probe.fixtures()[0])
	url := served(t, m)
	munge, slurm := hashOf(t, probe, m, "munge"), hashOf(t, probe, m, "slurm")
	ways := map[string][]string{
		"buildcache install":             {"buildcache", "install", "--otherarch", "/" + munge},
		"install by hash":                {"install", "--cache-only", "/" + munge},
		"install of a dependent":         {"buildcache", "install", "--otherarch", "/" + slurm},
		"install of a dependent by hash": {"install", "--cache-only", "/" + slurm},
		"install of a lock file":         nil,
	}
	try := func(s *spack, way string) (string, error) {
		if args := ways[way]; args != nil {
			return s.try(args...)
		}
		return s.try("-e", s.environment(t), "install", "--cache-only")
	}

	control := client(t, url)
	if out, err := try(control, "install of a lock file"); err != nil || !slices.Contains(control.installed(t), "munge") {
		t.Fatalf("before anything is withdrawn: %v\n%s", err, out)
	}
	clients := map[string]*spack{"cold": client(t, url), "warm": client(t, url)}
	if !slices.Contains(clients["warm"].listed(t), "munge") {
		t.Fatal("munge is not listed")
	}
	publish(t, "withdraw", "file://"+m, "munge", "--reason", "CVE-2026-1")
	for how, s := range clients {
		for range 2 { // the second command is the one that fails on a copy of the index that is lost
			if names := s.listed(t); slices.Contains(names, "munge") || !slices.Contains(names, "slurm") {
				t.Errorf("%s: listed are %v", how, names)
			}
		}
		for way := range ways {
			out, err := try(s, way)
			if got := s.installed(t); err == nil || slices.Contains(got, "munge") || slices.Contains(got, "slurm") {
				t.Errorf("%s, %s: %v, installed are %v\n%s", way, how, err, got, out)
			}
		}
	}
	publish(t, "withdraw", "file://"+m, "munge", "--undo")
	for how, s := range clients {
		for range 2 {
			if names := s.listed(t); !slices.Contains(names, "munge") {
				t.Errorf("%s: undone, and listed are %v", how, names)
			}
		}
		if out, err := try(s, "buildcache install"); err != nil || !slices.Contains(s.installed(t), "munge") {
			t.Errorf("%s: undone: %v\n%s", how, err, out)
		}
	}
	publish(t, "verify", "--deep", "file://"+m)

	// Neither does Spack's own index bring it back.
	publish(t, "withdraw", "file://"+m, "munge", "--reason", "CVE-2026-1")
	probe.updateIndex(t, m)
	s := client(t, url)
	if names := s.listed(t); slices.Contains(names, "munge") {
		t.Errorf("after update-index: %v", names)
	}
	publish(t, testdata+probe.fixtures()[0], "file://"+m)
	if names := s.listed(t); slices.Contains(names, "munge") {
		t.Errorf("after a publish: %v", names)
	}
}

// Real Spack follows an index that goes back, and forth again, with a warm cache.
func TestSpackFollowsARollback(t *testing.T) {
	probe := newSpack(t)
	m := filepath.Join(t.TempDir(), "mirror")
	publish(t, "--include", "zlib", testdata+probe.fixtures()[0], "file://"+m)
	publish(t, testdata+probe.fixtures()[0], "file://"+m)
	s := client(t, served(t, m))
	for _, to := range []string{"", "1", "2", "1", "2"} {
		if to != "" {
			publish(t, "rollback", "file://"+m, "--to", to)
		}
		for range 2 {
			names := s.listed(t)
			if all := slices.Contains(names, "munge"); all == (to == "1") || !slices.Contains(names, "zlib") {
				t.Errorf("at generation %q: listed are %v", to, names)
			}
		}
		if probe.v3() { // Spack's prune takes nothing that a rollback needs
			probe.run(t, "-c", "config:build_jobs:1", "buildcache", "prune", "file://"+m)
		}
	}
}
