//go:build spack

package spack

import (
	"slices"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/test/traffic"
)

// A client with a warm cache lists, installs and removes a package again and again while others publish, withdraw, give again, roll back and
// prune. No command of it fails.
func TestAWarmClientBesideWithdrawalsAndPrunes(t *testing.T) {
	probe := newSpack(t)
	if !probe.v3() {
		t.Skip("what others do is done in layout v3")
	}
	o := traffic.Flags()
	o.Source = testdata + "v3-signed"
	zlib := hashOf(t, probe, o.Source, "zlib")
	commands := 0
	o.Beside = func(dir string, done <-chan struct{}) (wait func()) {
		s := client(t, served(t, dir))
		return func() {
			for !t.Failed() {
				if names := s.listed(t); !slices.Contains(names, "zlib") {
					t.Errorf("listed are %v", names)
				}
				for _, args := range [][]string{{"buildcache", "install", "--otherarch", "/" + zlib}, {"uninstall", "-y", "--all"}} {
					if out, err := s.try(args...); err != nil {
						t.Errorf("%v: %v\n%s", args, err, out)
					}
				}
				if commands += 3; closed(done) {
					return
				}
			}
		}
	}
	traffic.Run(t, o)
	t.Logf("%d commands of Spack", commands)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
