// Package manifest reads and writes the manifests of buildcache layout v3.
//
// A manifest is a small document with a fixed name that points at blobs, which are named by their SHA-256.
// All kinds of objects (package, index, key, key index) have manifests of this form.
package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Version is the manifest version of layout v3.
const Version = 3

// A Family is a media type without its version number. Spack increases the numbers (spack PR 53012), so
// readers compare families and copy the type unchanged.
type Family string

// The families of layout v3.
const (
	Tarball  Family = "application/vnd.spack.install"
	Spec     Family = "application/vnd.spack.spec"
	Index    Family = "application/vnd.spack.db"
	KeyIndex Family = "application/vnd.spack.keyindex"
	Key      Family = "application/pgp-keys"
)

// The media types that we write and that exist with one number only.
const (
	KeyIndexType = "application/vnd.spack.keyindex.v1+json"
	KeyType      = "application/pgp-keys"
)

// TarballType is the only media type with which Spack 1.0 to 1.2 find a tarball.
const TarballType = "application/vnd.spack.install.v2.tar+gzip"

// IndexType returns the media type of an index for a version of Spack's database format.
func IndexType(version int) string { return fmt.Sprintf("%s.v%d+json", Index, version) }

// SpecFormat returns the spec format that a media type names; 0 if it names none. Spack compares media types
// literally, so .v05 is not .v5.
func SpecFormat(mediaType string) int {
	m := versioned.FindStringSubmatch(mediaType)
	if m == nil || Family(m[1]) != Spec {
		return 0
	}
	n, _ := strconv.Atoi(m[2]) // the largest int if out of range
	if mediaType != fmt.Sprintf("%s.v%d+json", Spec, n) && n != math.MaxInt {
		return 0
	}
	return n
}

var versioned = regexp.MustCompile(`^(application/vnd\.spack\.[a-z]+)\.v([0-9]+)(?:[.+].*)?$`)

// FamilyOf returns the family that a media type belongs to.
func FamilyOf(mediaType string) Family {
	if m := versioned.FindStringSubmatch(mediaType); m != nil {
		return Family(m[1])
	}
	return Family(mediaType)
}

// A Record points at one blob.
type Record struct {
	Size        int64 // of the blob as stored, in bytes
	MediaType   string
	Compression string // "gzip" or "none"
	Digest      blob.Digest

	text     jsontext.Value // as read, including unknown members
	unusable error
}

// Unusable returns why the blob of a record cannot be found: the record has no SHA-256. A manifest may have
// such records for other versions of Spack.
func (r Record) Unusable() error { return r.unusable }

// A Manifest is the content of a manifest document.
type Manifest struct {
	Records []Record
	// Extra are further top-level members, which Spack ignores. They are written sorted by name.
	Extra map[string]jsontext.Value
}

// An integer is a JSON number without a fraction. Spack's schema also accepts 3.0 as 3.
type integer int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *integer) UnmarshalJSON(text []byte) error {
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return fmt.Errorf("%.40s is no integer", text)
	}
	*n = integer(f)
	return nil
}

type documentRecord struct {
	ContentLength     *integer `json:"contentLength"`
	MediaType         *string  `json:"mediaType"`
	Compression       *string  `json:"compression"`
	ChecksumAlgorithm *string  `json:"checksumAlgorithm"`
	Checksum          *string  `json:"checksum"`
}

// A VersionError means that a manifest has another version.
type VersionError struct{ Got int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("manifest: version is %d, want %d", e.Got, Version)
}

// Parse reads the JSON text of a manifest. The text of a signed manifest is inside its signature (see package
// key).
func Parse(text []byte) (*Manifest, error) {
	var doc map[string]jsontext.Value
	if err := json.Unmarshal(text, &doc, jsontext.AllowDuplicateNames(true)); err != nil { // the last one counts, as in Python
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var version integer
	if err := json.Unmarshal(doc["version"], &version); err != nil {
		return nil, fmt.Errorf("manifest: version: %w", err)
	}
	if version != Version {
		return nil, &VersionError{int(version)}
	}
	var data []jsontext.Value
	if err := json.Unmarshal(doc["data"], &data); err != nil {
		return nil, fmt.Errorf("manifest: data: %w", err)
	}
	m := new(Manifest)
	for i, text := range data {
		var r documentRecord
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("manifest: record %d: %w", i+1, err)
		}
		rec, err := r.record()
		if err != nil {
			return nil, fmt.Errorf("manifest: record %d: %w", i+1, err)
		}
		rec.text = text
		m.Records = append(m.Records, rec)
	}
	delete(doc, "version")
	delete(doc, "data")
	if len(doc) > 0 {
		m.Extra = doc
	}
	return m, nil
}

func (r documentRecord) record() (Record, error) {
	switch {
	case r.ContentLength == nil, r.MediaType == nil, r.Compression == nil, r.ChecksumAlgorithm == nil, r.Checksum == nil:
		return Record{}, fmt.Errorf("want contentLength, mediaType, compression, checksumAlgorithm and checksum")
	case *r.ContentLength < 0:
		return Record{}, fmt.Errorf("contentLength is %d", *r.ContentLength)
	}
	rec := Record{Size: int64(*r.ContentLength), MediaType: *r.MediaType, Compression: *r.Compression}
	if rec.Digest, rec.unusable = blob.ParseDigest(*r.Checksum); *r.ChecksumAlgorithm != "sha256" {
		rec.unusable = fmt.Errorf("checksumAlgorithm is %q, want sha256", *r.ChecksumAlgorithm)
	}
	return rec, nil
}

// Record returns the only record of a family. Several records are an error: which of them a reader uses
// depends on the media types that it knows.
func (m *Manifest) Record(f Family) (found Record, err error) {
	n := 0
	for _, r := range m.Records {
		if FamilyOf(r.MediaType) == f {
			found = r
			n++
		}
	}
	switch n {
	case 0:
		return Record{}, fmt.Errorf("manifest: it has no record of type %s", f)
	case 1:
		if found.unusable != nil {
			err = fmt.Errorf("manifest: record of type %s: %w", found.MediaType, found.unusable)
		}
		return found, err
	}
	return Record{}, fmt.Errorf("manifest: it has %d records of type %s", n, f)
}

// Typed returns the first record with exactly this media type, which is the one that Spack's reader uses. It
// may be Unusable.
func (m *Manifest) Typed(mediaType string) (Record, bool) {
	i := slices.IndexFunc(m.Records, func(r Record) bool { return r.MediaType == mediaType })
	if i < 0 {
		return Record{}, false
	}
	return m.Records[i], true
}

// Set replaces the record that Typed returns, or appends the new one. All other records keep their text as
// read.
func (m *Manifest) Set(r Record) {
	if i := slices.IndexFunc(m.Records, func(have Record) bool { return have.MediaType == r.MediaType }); i >= 0 {
		m.Records[i] = r
		return
	}
	m.Records = append(m.Records, r)
}

// Clone returns a copy that can be changed.
func (m *Manifest) Clone() *Manifest {
	return &Manifest{Records: slices.Clone(m.Records), Extra: maps.Clone(m.Extra)}
}

// Encode writes m as Spack does: a line for every member, no indentation, no final newline. The short lines
// matter for signing: gpg --clearsign silently cuts lines at about 20,000 characters.
func (m *Manifest) Encode() ([]byte, error) {
	data := make([]any, len(m.Records))
	algorithm := "sha256"
	for i, r := range m.Records {
		if data[i] = r.text; r.text == nil {
			sum, size := r.Digest.String(), integer(r.Size)
			data[i] = documentRecord{&size, &r.MediaType, &r.Compression, &algorithm, &sum}
		}
	}
	var out bytes.Buffer
	enc := jsontext.NewEncoder(&out, jsontext.Multiline(true), jsontext.WithIndent(""), jsontext.SpaceAfterColon(false))
	w := memberWriter{enc: enc}
	w.token(jsontext.BeginObject)
	w.member("version", Version)
	w.member("data", data)
	for _, name := range slices.Sorted(maps.Keys(m.Extra)) {
		w.member(name, m.Extra[name])
	}
	w.token(jsontext.EndObject)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), w.err
}

// A memberWriter writes an object member by member and keeps the first error.
type memberWriter struct {
	enc *jsontext.Encoder
	err error
}

func (w *memberWriter) token(t jsontext.Token) {
	if w.err == nil {
		w.err = w.enc.WriteToken(t)
	}
}

func (w *memberWriter) member(name string, value any) {
	w.token(jsontext.String(name))
	if w.err == nil {
		w.err = json.MarshalEncode(w.enc, value)
	}
}

// ContentType returns the HTTP content type of the record's blob.
func (r Record) ContentType() string {
	switch {
	case FamilyOf(r.MediaType) == Key:
		return "application/pgp-keys"
	case r.Compression == "gzip":
		return "application/gzip"
	case strings.HasSuffix(r.MediaType, "+json"):
		return "application/json"
	}
	return "application/octet-stream"
}
