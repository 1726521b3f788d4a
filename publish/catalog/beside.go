package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/downloads"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/inventory"
	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// A beside is the object with everything that a page shows except packages. It is loaded with the page.
type beside struct {
	Views map[string][]int `json:"views"` // rows of each view, as runs codes them
	Keys  []publicKey      `json:"keys"`
	News  []event          `json:"news"` // switches of the indices, newest first
	Files []releaseFile    `json:"files"`
}

// A publicKey is a key that the mirror offers to clients.
type publicKey struct {
	Fingerprint string   `json:"fingerprint"`
	Names       []string `json:"names"`   // user IDs in the key
	Issuers     []string `json:"issuers"` // fingerprints that its signatures may name: of the key and its subkeys
	Trusted     bool     `json:"trusted,omitempty"`
}

// An event is one switch of an index.
type event struct {
	Time    string   `json:"time"`
	Command string   `json:"command"`
	By      string   `json:"by,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Added   []string `json:"added"` // the first maxListed packages
	Removed []string `json:"removed"`
	More    [2]int   `json:"more"` // numbers of further packages added and removed
}

// A releaseFile is a plain file, such as a release tarball.
type releaseFile struct {
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"`
	Day       string `json:"day"`
	Signature bool   `json:"signature"` // NAME.asc exists
	Checksum  bool   `json:"checksum"`  // NAME.sha256 exists
}

// fetched holds the downloads of packages. Of has pairs of numbers: a row, and its downloads.
type fetched struct {
	From string  `json:"from"`
	To   string  `json:"to"`
	Of   []int64 `json:"of"`
}

// Limits on what a page shows except packages.
const (
	maxNews   = 20
	maxListed = 40 // packages of one event
	maxFiles  = 200
)

// around lists the views, keys and plain files of a mirror. The digest changes when any of them changes.
func around(ctx context.Context, l mirror.Lister) (digest string, files []releaseFile, err error) {
	var b strings.Builder
	prefixes := []string{buildcache.View("").Pointers()}
	for _, f := range buildcache.Layouts() {
		_, keys := f.Directories()
		prefixes = append(prefixes, keys)
	}
	for _, prefix := range prefixes {
		for info, err := range l.List(ctx, mirror.Range{Prefix: prefix}) {
			if err != nil {
				return "", nil, fmt.Errorf("catalog: list %s: %w", prefix, err)
			}
			fmt.Fprintf(&b, "%s\x00%d\x00%s\n", info.Name, info.Size, info.Version)
		}
	}
	files, err = releases(ctx, l)
	fmt.Fprintf(&b, "%+v", files)
	return blob.DigestOf([]byte(b.String())).String()[:32], files, err
}

// surround adds views, keys, events, plain files and downloads to the page.
func (t *table) surround(ctx context.Context, s Store, inv *inventory.Inventory, o Options, was *pointer) error {
	t.beside = nil
	var all beside
	var err error
	if t.pointer.Around, all.Files, err = around(ctx, s); err != nil {
		return err
	}
	if all.Views, err = t.views(ctx, s); err != nil {
		return err
	}
	if all.Keys, err = publicKeys(ctx, s, t.pointer.Trusted); err != nil {
		return err
	}
	if all.News, err = news(ctx, s, inv); err != nil {
		return err
	}
	t.pointer.Beside = t.put(all)
	switch {
	case o.Usage != nil:
		t.pointer.Usage = t.put(t.downloads(o.Usage))
	case was != nil && was.Rows <= t.pointer.Rows && !o.Rebuild && !o.reads(was):
		t.pointer.Usage = was.Usage
	}
	return nil
}

// put adds an object for a document, and returns its digest.
func (t *table) put(document any) string {
	content, err := json.Marshal(document)
	if err != nil {
		panic(err) // cannot happen: a document has only texts and numbers
	}
	digest := blob.DigestOf(content)
	t.beside = append(t.beside, mirror.Upload{
		Name: segmentName(digest.String()), Content: blob.Bytes(content), Digest: digest, Type: "application/json", CacheControl: layout.Immutable,
	})
	return digest.String()
}

// views reads the rows of each view.
func (t *table) views(ctx context.Context, s Store) (map[string][]int, error) {
	all := make(map[string][]int)
	names, err := buildcache.Views(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	for _, name := range names {
		inv, err := inventory.Read(ctx, s, name)
		if errors.Is(err, inventory.ErrNoIndex) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("catalog: view %s: %w", name, err)
		}
		var rows []int
		for _, b := range inv.Builds {
			if row, ok := t.rows[b.Hash]; ok {
				rows = append(rows, row)
			}
		}
		all[name] = runs(rows)
	}
	return all, nil
}

// runs codes rows as pairs of numbers: how many rows to skip, and how many rows then follow.
func runs(rows []int) []int {
	slices.Sort(rows)
	out := []int{}
	end := 0
	for i, row := range rows {
		if i > 0 && row == end {
			out[len(out)-1]++
		} else {
			out = append(out, row-end, 1)
		}
		end = row + 1
	}
	return out
}

// publicKeys reads the keys that the mirror offers to clients. It skips keys and key indices that cannot be read;
// publish verify reports them.
func publicKeys(ctx context.Context, r mirror.Reader, trusted []string) ([]publicKey, error) {
	all := []publicKey{}
	for _, f := range buildcache.Layouts() {
		prints, _, err := f.ReadKeyIndex(ctx, r)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue
		}
		prints = slices.DeleteFunc(prints, func(f key.Fingerprint) bool {
			return slices.ContainsFunc(all, func(k publicKey) bool { return k.Fingerprint == string(f) })
		})
		keys, err := buildcache.ReadKeys(ctx, f, r, prints)
		if err != nil {
			return nil, err
		}
		for _, p := range keys {
			all = append(all, describe(p, trusted))
		}
	}
	return all, ctx.Err()
}

func describe(p *key.Public, trusted []string) publicKey {
	k := publicKey{Fingerprint: string(p.Fingerprint()), Names: append([]string{}, p.UserIDs()...)}
	for _, f := range p.Fingerprints() {
		k.Issuers = append(k.Issuers, string(f))
	}
	k.Trusted = slices.Contains(trusted, k.Fingerprint)
	return k
}

// news reads the latest switches of the indices. A history that cannot be read is skipped.
func news(ctx context.Context, r mirror.Reader, inv *inventory.Inventory) ([]event, error) {
	all := []event{}
	for _, f := range buildcache.Layouts() {
		if !slices.Contains(inv.Layouts, f.Name()) {
			continue
		}
		p, err := f.ReadPointer(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("catalog: %w", err)
		}
		n := 0
		_ = history.Chain(ctx, r, p.Head(f), func(e history.Entry) bool {
			if !e.Foreign && !e.Lost {
				all = append(all, eventOf(e.Record))
			}
			n++
			return n < maxNews
		})
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	slices.SortStableFunc(all, func(a, b event) int { return strings.Compare(b.Time, a.Time) })
	return all[:min(maxNews, len(all))], nil
}

func eventOf(r history.Record) event {
	first := func(names []string) []string { return append([]string{}, names[:min(maxListed, len(names))]...) }
	e := event{Time: r.Time.UTC().Format("2006-01-02T15:04Z"), Command: r.Command, By: r.By, Reason: r.Reason, Added: first(r.Added), Removed: first(r.Removed)}
	e.More = [2]int{len(r.Added) - len(e.Added), len(r.Removed) - len(e.Removed)}
	return e
}

// ours are the prefixes of the names of objects that are not plain files, sorted.
var ours = []string{".history/", ".promotions/", ".publishers/", "blobs/", "build_cache/", Parts, "v3/"}

// releases lists plain files. It does not list the objects of the mirror itself.
func releases(ctx context.Context, l mirror.Lister) ([]releaseFile, error) {
	files := []releaseFile{}
	there := make(map[string]mirror.Info)
	after := ""
	for _, prefix := range append(slices.Clone(ours), "") {
		for info, err := range l.List(ctx, mirror.Range{After: after, Until: prefix}) {
			if err != nil {
				return nil, fmt.Errorf("catalog: list: %w", err)
			}
			if len(there) > 20*maxFiles {
				break // too many: there may be mirrors below this one
			}
			there[info.Name] = info
		}
		after = strings.TrimSuffix(prefix, "/") + "0" // the byte after the slash
	}
	for name, info := range there {
		if !isRelease(name) {
			continue
		}
		_, signature := there[name+".asc"]
		_, checksum := there[name+".sha256"]
		files = append(files, releaseFile{name, info.Size, info.Modified.UTC().Format("2006-01-02"), signature, checksum})
	}
	slices.SortFunc(files, func(a, b releaseFile) int { return strings.Compare(b.Day+b.Name, a.Day+a.Name) })
	return files[:min(maxFiles, len(files))], nil
}

func isRelease(name string) bool {
	for _, inside := range ours {
		if strings.Contains(name, "/"+inside) {
			return false // it belongs to a mirror below this one
		}
	}
	for _, suffix := range []string{".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2", ".zip", ".sif", ".rpm", ".deb"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

func (t *table) downloads(r *downloads.Report) fetched {
	d := fetched{From: r.From, To: r.To, Of: []int64{}}
	for _, p := range r.Packages {
		if row, ok := t.rows[p.Hash]; ok && p.Downloads > 0 {
			d.Of = append(d.Of, int64(row), p.Downloads)
		}
	}
	return d
}
