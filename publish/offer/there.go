package offer

import (
	"context"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/same"
)

// judgeKey reports whether a key of the destination may be offered to clients. With trusted keys, its name
// must be that of a trusted key, and its file must hold only that key.
func (d *decision) judgeKey(ctx context.Context, f key.Fingerprint) (bool, error) {
	trust := d.Trust
	if trust.Keys == nil {
		return true, nil
	}
	if !trust.Keys.Holds(f) {
		return false, nil // the plan reports it
	}
	trusted, err := trust.KeyObjects(d.Layout, f)
	if err != nil {
		return false, err
	}
	info := d.Seen.Objects[d.Layout.KeyName(f)]
	known := [][]buildcache.Object{trusted}
	for _, k := range d.Source.Keys {
		if k.Fingerprint == f {
			known = append(known, k.Objects)
		}
	}
	for _, objects := range known {
		if equal, err := same.Listed(info, objects[len(objects)-1]); err != nil || equal {
			return equal, err
		}
	}
	if trust.Checked.Has(d.Path, info) {
		return true, nil
	}
	if _, err := d.Layout.ReadKey(ctx, d.Store, f); err != nil {
		d.spoilt = append(d.spoilt, f)
		d.distrust(info.Name, "this key is offered to clients, but: "+err.Error()+": put it right with publish keys add")
		return false, ctx.Err()
	}
	trust.Checked.Add(d.Path, info)
	return true, nil
}

// judgeKeyIndex reports an index of keys if the mirror has no keys. Otherwise planKeyIndex compares and
// repairs it.
func (d *decision) judgeKeyIndex() error {
	objects, err := d.Layout.KeyIndex(nil)
	if err != nil || d.Trust.Keys == nil || len(d.Seen.Keys(d.Layout)) > 0 {
		return err
	}
	empty := objects[len(objects)-1]
	info, there := d.Seen.Objects[empty.Name]
	equal, err := same.Listed(info, empty)
	if there && err == nil && !equal {
		d.distrust(empty.Name, "it offers keys to clients, and none of them is trusted: run publish index --trusted-keys")
	}
	return err
}

// distrust reports an untrusted object that clients are offered.
func (d *decision) distrust(name, why string) {
	d.out.Untrusted = append(d.out.Untrusted, name)
	d.warn(name, why)
}
