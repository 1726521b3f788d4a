package reindex

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/defect"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/reindex/lead"
)

// maxAnnounced is the maximum number of bytes of content that a publisher announces with the names of its
// documents. If the content is larger, the leader reads it from the mirror.
const maxAnnounced = 1 << 20

// announced returns the content that a leader needs to index packages: documents and specs, by name. It is
// nil if the content is too large, or if some of it is not available.
func announced(packages []*buildcache.Package) map[string][]byte {
	var objects []buildcache.Object
	size := int64(0)
	for _, p := range packages {
		if len(p.Document) == 0 {
			return nil
		}
		objects = append(objects, buildcache.DocumentOf(p))
		if i := p.SpecBlob(); i >= 0 {
			objects = append(objects, p.Blobs[i])
		}
	}
	for _, o := range objects {
		if o.Content == nil {
			return nil
		}
		if size += o.Content.Size(); size > maxAnnounced {
			return nil
		}
	}
	contents := make(map[string][]byte)
	for _, o := range objects {
		content, err := blob.ReadAll(o.Content)
		if err != nil {
			return nil // changed or gone: the leader reads the published object
		}
		contents[o.Name] = content
	}
	return contents
}

// An other is an announcement of another publisher.
type other struct {
	id       string
	packages []*buildcache.Package
	whole    bool // packages holds all announced packages
}

// gathers is the maximum number of times that announcements are listed, as long as new ones arrive.
const gathers = 5

// others reads the announcements of other publishers, including those that arrive while it runs. It begins
// when the index has arrived: publishers that began at the same time as the leader need about as long to
// announce. Each package is checked like one found in the mirror: it must be present, complete and trusted. A
// package that fails the check or cannot be read is left to its publisher.
func (c *contest) others(ctx context.Context, s mirror.Store, turn *lead.Turn, arrived <-chan struct{}) []other {
	var before string
	var took []string
	if time.Since(c.was.Stored) < lead.Settled {
		if r := c.me.Receipt(ctx, c.was.Digest()); r != nil {
			before, took = r.Before, r.Took
		}
	}
	<-arrived
	var reads defect.Group
	found := make([][]other, gathers)
	for i := range gathers {
		announced := turn.Others(ctx, before, took)
		if len(announced) == 0 {
			break
		}
		reads.Go(func() (err error) { // while others may announce more
			found[i], err = c.read(ctx, s, announced)
			return err
		})
	}
	reads.Wait() // announcements that cannot be read are left out
	return slices.Concat(found...)
}

// An arrivingReader calls arrived when a document of an index has been received, before it is parsed.
type arrivingReader struct {
	mirror.Reader
	arrived func()
}

func (r *arrivingReader) ReadParts(ctx context.Context, name string, size int64, v mirror.Version, _ func(n int)) ([]byte, error) {
	defer r.arrived()
	return mirror.ReadLarge(ctx, r.Reader, name, size, v, buildcache.MaxIndex)
}

// An announcedReader reads announced objects from the announcement and all others from the mirror.
type announcedReader struct {
	mirror.Reader
	contents map[string][]byte
	seen     *buildcache.Survey
}

// newAnnouncedReader returns a reader of announced packages. If the mirror lists a document with the
// announced content, neither the document nor its blobs are requested: publishers store a document after its
// blobs. The announced spec is checked by its digest in the document.
func newAnnouncedReader(f buildcache.Layout, s mirror.Store, seen *buildcache.Survey, trust buildcache.Trust, from []lead.Announcement) *packageReader {
	r := newPackageReader(f, s, seen, trust)
	contents := make(map[string][]byte)
	for _, a := range from {
		for name, content := range a.Contents {
			if _, ok := f.ParsePackageName(name); !ok {
				contents[name] = content
			} else if seen.Objects[name].MD5 == buildcache.MD5(content) {
				contents[name], r.stored[name] = content, true
			}
		}
	}
	r.from = &announcedReader{s, contents, seen}
	return r
}

func (r *announcedReader) Open(ctx context.Context, name string) (*mirror.Object, error) {
	content, ok := r.contents[name]
	if !ok {
		return r.Reader.Open(ctx, name)
	}
	info := r.seen.Objects[name] // of a document; blobs are not listed
	info.Name, info.Size = name, int64(len(content))
	return &mirror.Object{Info: info, Body: io.NopCloser(bytes.NewReader(content))}, nil
}

// read reads the packages of announcements.
func (c *contest) read(ctx context.Context, s mirror.Store, announced []lead.Announcement) ([]other, error) {
	var names []string
	for _, a := range announced {
		for _, name := range a.Documents {
			if _, ok := c.layout.ParsePackageName(name); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	// If content was announced, the document in the listing proves that its blobs are there.
	unread := slices.ContainsFunc(announced, func(a lead.Announcement) bool { return len(a.Contents) == 0 })
	seen, err := buildcache.SurveyDocuments(ctx, c.layout, s, c.was, names, !unread)
	if err != nil {
		return nil, fmt.Errorf("announced packages: %w", err)
	}
	packages, _, err := newAnnouncedReader(c.layout, s, seen, c.trust, announced).readAll(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("announced packages: %w", err)
	}
	byName := make(map[string]*buildcache.Package)
	for _, p := range packages {
		if _, withdrawn := c.was.Withdrawn[p.Hash]; !withdrawn {
			byName[p.File] = p
		}
	}
	all := make([]other, len(announced))
	for i, a := range announced {
		all[i] = other{id: a.ID, whole: true}
		for _, name := range a.Documents {
			p := byName[name]
			if all[i].whole = all[i].whole && p != nil; p != nil {
				all[i].packages = append(all[i].packages, p)
			}
		}
	}
	return all, nil
}
