package views

import (
	"fmt"
	"slices"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/closure"
	"github.com/vantagecompute/slurm-factory-publish/publish/lockfile"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// complete checks that the mirror holds the packages that lock files name as roots, in its index or beside it.
// Other packages that it lacks are left out with a warning.
func (p *Plan) complete(c *closure.Catalogue, locks []*lockfile.Lock, unlisted []*buildcache.Package) error {
	has := make(map[spec.Hash]bool)
	for _, q := range unlisted {
		has[q.Hash] = true
	}
	for _, lock := range locks {
		needed := lock.Needed(false)
		if len(needed) == 0 {
			return fmt.Errorf("%w: the lock file holds none", ErrNothing)
		}
		roots := make(map[*lockfile.Node]bool)
		for _, n := range lock.Roots() {
			roots[n] = true
		}
		for _, n := range needed {
			lacks := !c.Offers(n.Hash) && !has[n.Hash]
			switch {
			case lacks && roots[n]:
				return fmt.Errorf("%w: the lock file names %s", ErrLacking, n.ID())
			case lacks:
				p.warn(document(&spec.Node{Name: n.Name, Version: n.Version, Hash: n.Hash}), "the lock file names "+n.ID()+", and the mirror does not hold it: it is left out")
			}
		}
	}
	return nil
}

// knownOf checks that the view, or the mirror, offers a package of a lock file.
func (p *Plan) knownOf(view *closure.Catalogue, mirror func() (*closure.Catalogue, error), lock *lockfile.Lock) error {
	in := func(c *closure.Catalogue) bool {
		return slices.ContainsFunc(lock.All(), func(n *lockfile.Node) bool { return c.Offers(n.Hash) })
	}
	if in(view) {
		return nil
	}
	if all, err := mirror(); err != nil || all != nil && in(all) {
		return err
	}
	return fmt.Errorf("%w: neither the view %s nor the mirror offers anything of the lock file", ErrNothing, p.View)
}
