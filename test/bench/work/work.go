// Package work makes what is published in the benchmark: always the same bytes.
//
// Every workload is one or more mirrors of layout v3, as Spack writes them. They are made once
// and stay in a directory, since making them takes longer than sending them.
package work

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/test/bench/sink"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// A Scale divides the number and the size of everything, for tests and for a quick look.
type Scale int

// The scales.
const (
	Full  Scale = 1
	Quick Scale = 8   // some seconds a run
	Tiny  Scale = 500 // some milliseconds
)

func (s Scale) of(n int) int { return max(1, n/int(s)) }

// Dir is where a workload is below the directory of all.
func Dir(base, name string, s Scale) string {
	return filepath.Join(base, fmt.Sprintf("%s-%d", name, s))
}

var makers = map[string]func(dir string, s Scale) error{
	"cache": cache, "big": big, "small": small, "merge": merge, "rebuild": rebuild, "million": million,
	"many": manyOf(spackmirror.V3, 10_000, Crowd), "many-v2": manyOf(spackmirror.V2, 10_000, Crowd), "many-large": manyOf(spackmirror.V3, 100_000, Crowd),
	"many-huge": manyOf(spackmirror.V3, 1_000_000, 0), "past": manyOf(spackmirror.V3, 100_000, generations),
}

// Make makes a workload, unless it is there. The directory appears when it is whole.
func Make(base, name string, s Scale) error {
	dir := Dir(base, name, s)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	make := makers[name]
	if make == nil {
		return fmt.Errorf("no workload is called %q", name)
	}
	begun := dir + ".unfinished"
	if err := os.RemoveAll(begun); err != nil {
		return err
	}
	if err := make(begun, s); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	return os.Rename(begun, dir)
}

// patches make records of an index as large as those of real ones.
const patches = 5

// closure is how many specs of a universe depend on each other.
const closure = 12

// roots are the last of each closure: those that people push.
func roots(n int) []int {
	var all []int
	for i := closure - 1; i < n; i += closure {
		all = append(all, i)
	}
	return all
}

// cache is what a build job of slurm-factory publishes: packages from some KB to 200 MB, and an
// index that names ten times as many.
func cache(dir string, s Scale) error {
	const packages, bytes = 300, 3_000_000_000
	n := max(2, packages/int(math.Sqrt(float64(s))))
	u := spackmirror.Patched(spackmirror.V3, n*closure, 18) // specs of some KB, an index of 4 MB
	sizes := spread(n, 20e3, 200e6/math.Sqrt(float64(s)), bytes/float64(s))
	u.Tarball = func(i int) int { return sizes[i/closure*7919%n] } // not in the order of names
	return u.Write(dir, roots(n*closure))
}

// spread returns n sizes from smallest to largest, about evenly spread over their
// logarithms, that sum up to total.
func spread(n int, smallest, largest, total float64) []int {
	sizes := make([]int, n)
	few, many := 0.1, 10.0 // bend the spread towards large sizes, or towards small ones
	for range 60 {
		bend := (few + many) / 2
		sum := 0.0
		for i := range sizes {
			at := math.Pow((float64(i)+0.5)/float64(n), bend)
			x := smallest * math.Pow(largest/smallest, at)
			sizes[i] = int(x)
			sum += x
		}
		if sum > total {
			few = bend
		} else {
			many = bend
		}
	}
	return sizes
}

// big is one package of 4 GiB.
func big(dir string, s Scale) error {
	u := spackmirror.New(spackmirror.V3, closure)
	u.Tarball = func(int) int { return (4 << 30) / int(s) }
	return u.Write(dir, []int{closure - 1})
}

// small is 20,000 files of 4 KB on average.
func small(dir string, s Scale) error {
	u := spackmirror.New(spackmirror.V3, s.of(20_000/3))
	u.Tarball = spackmirror.Kilobytes(7)
	return u.Write(dir, u.All())
}

// merge is an index of 100,000 packages (below "there"), and 20 packages to be added to it
// (below "new").
func merge(dir string, s Scale) error {
	n := s.of(100_000)
	u := spackmirror.Patched(spackmirror.V3, n+20, patches)
	u.Tarball = spackmirror.Kilobytes(4)
	if err := u.WriteIndex(filepath.Join(dir, "there"), u.Range(0, n)); err != nil {
		return err
	}
	return u.Write(filepath.Join(dir, "new"), u.Range(n, n+20))
}

// rebuild is a mirror of 10,000 packages.
func rebuild(dir string, s Scale) error {
	u := spackmirror.New(spackmirror.V3, s.of(10_000))
	return u.Write(dir, u.All())
}

// million is a mirror of a million objects (below "there"), most of them in name only; a part of
// it that is large enough for everything to be listed (below "same"); and 20 packages to be added
// to it (below "new").
func million(dir string, s Scale) error {
	n := s.of(1_000_000 / 3)
	same := max(3, n/100)
	u := spackmirror.Patched(spackmirror.V3, n+20, patches)
	there := filepath.Join(dir, "there")
	if err := u.WriteIndex(there, u.Range(0, n)); err != nil {
		return err
	}
	if err := u.Write(filepath.Join(dir, "new"), u.Range(n, n+20)); err != nil {
		return err
	}
	if err := u.Write(filepath.Join(dir, "same"), u.Range(0, same)); err != nil {
		return err
	}
	return names(filepath.Join(there, sink.Names), u, same, n)
}

// names writes the names of the objects of packages first to end.
func names(file string, u *spackmirror.Universe, first, end int) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	for i := first; i < end; i++ {
		name, version := u.Name(i)
		fmt.Fprintf(w, "%d v3/manifests/spec/%s/%s-%s-%s.spec.manifest.json\n", 740, name, name, version, u.Hash(i))
		for _, kind := range []string{"tarball", "spec"} {
			digest := sha256.Sum256([]byte(kind + u.Hash(i)))
			fmt.Fprintf(w, "%d blobs/sha256/%x/%x\n", 1500, digest[:1], digest)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// Crowd is how many publishers there are shares for.
const Crowd = 200

// generations is how many shares there are for a history: each becomes a generation.
const generations = 20

// share is how many packages each of them has.
const share = 5

// manyOf returns the maker of a mirror of n packages, all but the index in name only (below "there"); two packages for it (below
// "first" and "one"); and shares of 5 packages for a crowd of publishers (below "new"), whose hashes are listed in files.
func manyOf(l spackmirror.Layout, n, crowd int) func(dir string, s Scale) error {
	return func(dir string, s Scale) error {
		n, crowd := s.of(n), crowd
		if s == Tiny {
			crowd = min(crowd, 3)
		}
		one := n + 1 + crowd*share
		u := spackmirror.Patched(l, one+1, patches)
		u.Tarball = spackmirror.Kilobytes(4)
		there := filepath.Join(dir, "there")
		if err := u.WriteIndex(there, u.Range(0, n)); err != nil {
			return err
		}
		if l == spackmirror.V3 {
			if err := names(filepath.Join(there, sink.Names), u, 0, n); err != nil {
				return err
			}
		}
		if err := u.Write(filepath.Join(dir, "first"), u.Range(n, n+1)); err != nil {
			return err
		}
		if err := u.Write(filepath.Join(dir, "one"), u.Range(one, one+1)); err != nil {
			return err
		}
		if err := hashes(filepath.Join(dir, "one"), u, one, one+1); err != nil {
			return err
		}
		for i := range crowd {
			from, to := n+1+i*share, filepath.Join(dir, "new", fmt.Sprint(i))
			if err := u.Write(to, u.Range(from, from+share)); err != nil {
				return err
			}
			if err := hashes(to, u, from, from+share); err != nil {
				return err
			}
		}
		return nil
	}
}

// hashes lists what a directory has, in a file beside it.
func hashes(dir string, u *spackmirror.Universe, first, end int) error {
	var list strings.Builder
	for i := first; i < end; i++ {
		fmt.Fprintln(&list, u.Hash(i))
	}
	return os.WriteFile(dir+".hashes", []byte(list.String()), 0o644)
}
