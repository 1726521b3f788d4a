package doctor

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// Names are the names of the test objects: stores get their order and encoding wrong.
var Names = []string{"a", "b c+d%41", "x-y", "x/y", "z"}

// Directory holds the other test objects.
const Directory = Object + ".d/"

// examineStore checks whether a destination can hold a mirror, and how publishing works there.
func (d *doctor) examineStore(ctx context.Context, place target.Config, where string) {
	var late clockOffset
	to, err := target.Open(ctx, where, place, d.observed(&late))
	if !d.say("destination", err, "") {
		return
	}
	defer to.Close()
	may := d.say("credentials, and the permission to list", to.Listed(ctx), "")
	d.clock("", late.offset())
	if !may {
		return
	}
	d.keys(ctx, "", to)
	if !d.write {
		d.note("writing", "not tried, because of --no-write")
		return
	}
	s := to.Mirror("")
	d.say("conditional writes", conditional(ctx, s), "")
	var names []string
	if m, ok := s.(*s3.Mirror); ok {
		names, err = furnish(ctx, s)
		if d.say("writing, and reading back", err, "") {
			d.trials(m.Examine(ctx, Directory, names, layout.Revalidate))
		}
	}
	d.cleanUp(ctx, s, append(names, Object))
	d.leftovers(ctx, "", to)
}

// trials prints the results of trials. A missing feature that publishing does not need is not a failure.
func (d *doctor) trials(all []s3.Trial) {
	for _, t := range all {
		if t.Err != nil && t.Without != "" {
			d.note(t.What, fmt.Sprintf("%v. Without it, %s", t.Err, t.Without))
			continue
		}
		d.say(t.What, t.Err, "")
	}
}

// furnish stores the test objects. The content of each is its name.
func furnish(ctx context.Context, s target.Store) ([]string, error) {
	var names []string
	for _, n := range Names {
		name := Directory + n
		names = append(names, name)
		content := []byte(name)
		err := s.Create(ctx, mirror.Upload{Name: name, Content: blob.Bytes(content), Digest: blob.DigestOf(content), Type: "text/plain", CacheControl: layout.Revalidate})
		if err != nil {
			return names, err
		}
		got, _, err := mirror.Read(ctx, s, name, 1<<20)
		if err == nil && string(got) != name {
			err = fmt.Errorf("%s has other content than was stored", name)
		}
		if err != nil {
			return names, err
		}
	}
	return names, nil
}

// cleanUp deletes the test objects, if it may.
func (d *doctor) cleanUp(ctx context.Context, s target.Store, names []string) {
	var deleter mirror.Deleter
	switch m := s.(type) {
	case *s3.Mirror:
		deleter = m.Deleter()
	case mirror.Deleter:
		deleter = m
	default:
		return
	}
	for _, name := range names {
		info, err := s.Stat(ctx, name)
		if err == nil {
			err = deleter.Delete(ctx, name, info.Version)
		}
		if err != nil && !errors.Is(err, mirror.ErrNotExist) {
			d.note("cleaning up", fmt.Sprintf("%s and %s are left behind: %v", Object, path.Clean(Directory), err))
			return
		}
	}
}
