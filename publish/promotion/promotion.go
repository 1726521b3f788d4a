// Package promotion keeps evidence of copies between mirrors: the packages, the source, the rules, the identity
// that made the copy, and the time.
//
// A record is stored after all objects that it names and before the index, so an index never offers a promoted
// package without its evidence. Records are plain JSON below Dir. Clients do not read them, and Spack's prune keeps
// them. Records are never replaced. The name of a record follows from its content, so a copy that is interrupted
// and repeated leaves one record.
package promotion

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/history"
	"github.com/vantagecompute/slurm-factory-publish/publish/layout"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Dir is the directory of records, below the root of the mirror.
const Dir = ".promotions/"

// Terms are the rules and mirrors of a copy, and the identity that made it.
type Terms struct {
	From     []string  `json:"from"`                    // source mirrors, in the order of the search
	Endpoint string    `json:"from_endpoint,omitempty"` // URL of the S3 service of the source mirrors; empty: Amazon's, or no S3
	To       string    `json:"to"`
	Rules    Rules     `json:"rules"`
	Identity *Identity `json:"identity,omitempty"` // identity of the requests to the destination
}

// Rules are the conditions that packages had to meet, and the selection of packages.
type Rules struct {
	RequireSigned bool     `json:"require_signed"`
	TrustedKeys   []string `json:"trusted_keys,omitempty"` // fingerprints; empty: any key
	SigningKey    string   `json:"signing_key,omitempty"`  // fingerprint of the key that signed packages during the copy
	Resign        bool     `json:"resign,omitempty"`       // signatures of trusted keys were replaced by those of SigningKey
	OS            []string `json:"expect_os,omitempty"`
	Target        []string `json:"expect_target,omitempty"`
	Licences      string   `json:"licences,omitempty"` // name of the file with the rules for licences
	View          string   `json:"view,omitempty"`     // view of the source that had to offer the packages
	Packages      []string `json:"packages,omitempty"` // requested packages; empty: all
	IfExists      string   `json:"if_exists"`
}

// Any reports whether there is a rule that some packages may not meet.
func (r Rules) Any() bool {
	return r.RequireSigned || r.View != "" || r.Licences != "" || r.SigningKey != "" || len(r.TrustedKeys)+len(r.OS)+len(r.Target) > 0
}

// An Identity is the identity of requests to S3.
type Identity struct {
	Endpoint string `json:"endpoint,omitempty"` // URL of the service; empty: Amazon's
	Account  string `json:"account,omitempty"`
	ARN      string `json:"arn,omitempty"`
}

// A Record is the evidence of one copy into one layout of a mirror.
type Record struct {
	ID     string    `json:"id"`
	Layout string    `json:"layout"`
	Time   time.Time `json:"time"`
	history.Author
	Terms
	IndexBefore string    `json:"index_before,omitempty"` // digest of the index before the packages were merged into it; empty: there was none
	Packages    []Package `json:"packages"`
}

// A Package is the evidence of one package.
type Package struct {
	Name     string `json:"package"`  // name@version/hash
	Document string `json:"document"` // name of its document
	SHA256   string `json:"sha256"`   // of the document
	// SourceSHA256 is the digest of the source's document, if the package was signed again.
	SourceSHA256 string   `json:"source_sha256,omitempty"`
	Blobs        []string `json:"blobs"` // SHA-256 of each object that the document refers to
}

// packageOf returns the evidence of a package. stored is the digest of the stored document.
func packageOf(p *buildcache.Package, stored blob.Digest) Package {
	read := blob.DigestOf(p.Document)
	out := Package{Name: history.PackageName(p.Package, p.Version, p.Hash), Document: p.File, SHA256: stored.String(), Blobs: []string{}}
	if p.Spec != nil {
		out.Name = history.PackageName(p.Spec.Root().Name, p.Spec.Root().Version, p.Hash)
	}
	if read != stored {
		out.SourceSHA256 = read.String()
	}
	for _, b := range p.Blobs {
		if b.Digest.Known() {
			out.Blobs = append(out.Blobs, b.Digest.String())
		}
	}
	return out
}

// Hash returns the hash of the package.
func (p Package) Hash() spec.Hash { return history.HashOf(p.Name) }

// Name returns the name of the object that holds a record.
func Name(id string) string { return Dir + id + ".json" }

var recordName = regexp.MustCompile(`^` + regexp.QuoteMeta(Dir) + `[0-9a-f]{32}\.json$`)

// maxRecord is the maximum size of a record, in bytes: one of 100,000 packages.
const maxRecord = 64 << 20

// A Store is a mirror in which records are written.
type Store interface {
	mirror.Reader
	mirror.Writer
}

// write stores a record and returns its name. If an interrupted run has stored the record of the same promotion,
// that record is kept.
func write(ctx context.Context, s Store, r *Record) (name string, err error) {
	r.Author = history.AuthorOf(ctx)
	slices.SortFunc(r.Packages, func(a, b Package) int { return strings.Compare(a.Document, b.Document) })
	r.ID = r.id()
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // our own struct
	}
	name = Name(r.ID)
	err = s.Create(ctx, mirror.Upload{
		Name: name, Content: blob.Bytes(text), Digest: blob.DigestOf(text), Type: "application/json", CacheControl: layout.Revalidate,
	})
	if err != nil && !errors.Is(err, mirror.ErrExist) {
		return "", fmt.Errorf("evidence of the promotion: %w", err)
	}
	return name, nil
}

// Leave stores a record of the packages that were copied into one layout of a mirror, before an index names them.
// stored has the digests of the documents that this run has stored, and before is the digest of the index. Leave
// returns the name of the record; it is empty if there are no packages.
func (t Terms) Leave(ctx context.Context, s Store, layout, before string, packages []*buildcache.Package, stored map[*buildcache.Package]blob.Digest) (name string, err error) {
	r := &Record{Layout: layout, Time: time.Now().UTC().Truncate(time.Second), Terms: t, IndexBefore: before}
	for _, p := range packages {
		d, ok := stored[p]
		if !ok { // an earlier run has stored it
			d = blob.DigestOf(p.Document)
		}
		r.Packages = append(r.Packages, packageOf(p, d))
	}
	if len(r.Packages) == 0 {
		return "", nil
	}
	return write(ctx, s, r)
}

// id returns an ID that depends on everything but the time and the identity, which differ when a run is repeated.
func (r Record) id() string {
	r.Time, r.ID = time.Time{}, ""
	r.Identity = nil
	text, err := json.Marshal(r)
	if err != nil {
		panic(err) // our own struct
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// read reads a record. The error is an *unusableError if the object is not a record.
func read(ctx context.Context, r mirror.Reader, name string) (*Record, error) {
	if !recordName.MatchString(name) {
		return nil, fmt.Errorf("%.100q names no record of a promotion", name)
	}
	text, _, err := mirror.Read(ctx, r, name, maxRecord)
	if err != nil {
		return nil, err
	}
	out := new(Record)
	if err := json.Unmarshal(text, out); err != nil {
		return nil, &unusableError{fmt.Errorf("%s: %w", name, err)}
	}
	if Name(out.ID) != name {
		return nil, &unusableError{fmt.Errorf("%s: it is about %.40q", name, out.ID)}
	}
	return out, nil
}

// An unusableError reports an object that has the name of a record but is not a record.
type unusableError struct{ error }

func (e *unusableError) Unwrap() error { return e.error }

// A Lister is a mirror that Find can search for records.
type Lister interface {
	mirror.Reader
	mirror.Lister
}

// ahead is the number of records that are read in parallel.
const ahead = 32

// Evidence is a record and the package in it.
type Evidence struct {
	*Record
	Package Package
}

// Find returns the newest evidence of each package that has any. It reads records from the newest to the oldest,
// until all packages are found.
func Find(ctx context.Context, m Lister, packages []spec.Hash) (map[spec.Hash]Evidence, error) {
	var all []mirror.Info
	for info, err := range m.List(ctx, mirror.Range{Prefix: Dir}) {
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", Dir, err)
		}
		if recordName.MatchString(info.Name) {
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b mirror.Info) int { return b.Modified.Compare(a.Modified) })
	wanted := make(map[spec.Hash]bool)
	for _, h := range packages {
		wanted[h] = true
	}
	found := make(map[spec.Hash]Evidence)
	for batch := range slices.Chunk(all, ahead) {
		records := make([]*Record, len(batch))
		err := parallel.Each(ctx, ahead, parallel.Positions(batch), func(ctx context.Context, i int) (err error) {
			records[i], err = read(ctx, m, batch[i].Name)
			if _, unusable := errors.AsType[*unusableError](err); unusable {
				records[i], err = new(Record), nil // skip it
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path.Clean(Dir), err)
		}
		for _, r := range records {
			for _, p := range r.Packages {
				if h := p.Hash(); wanted[h] {
					found[h] = Evidence{r, p}
					delete(wanted, h)
				}
			}
		}
		if len(wanted) == 0 {
			break
		}
	}
	return found, nil
}

// String describes the rules for people.
func (r Rules) String() string {
	var all []string
	say := func(is bool, format string, args ...any) {
		if is {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(r.RequireSigned, "signed")
	say(len(r.TrustedKeys) > 0, "by a key of %s", strings.Join(r.TrustedKeys, ", "))
	say(r.Resign, "signed again by %s", r.SigningKey)
	say(r.SigningKey != "" && !r.Resign, "signed by %s where it was not", r.SigningKey)
	say(len(r.OS) > 0, "built for %s", strings.Join(r.OS, ", "))
	say(len(r.Target) > 0, "for the target %s", strings.Join(r.Target, ", "))
	say(r.Licences != "", "with a licence that %s allows", r.Licences)
	say(r.View != "", "in the view %s", r.View)
	return strings.Join(all, "; ")
}
