// Package manifest reads and writes the manifests of buildcache layout v3.
//
// A manifest is a small document at a fixed name that points at blobs, which are
// named by their own SHA-256. All kinds of object (package, index, key, key index)
// have a manifest of this one form.
package manifest

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Version is the manifest version of layout v3.
const Version = 3

// A Family is a media type without its version number. Spack bumps the numbers
// (spack PR 53012), so readers compare families and copy the type as it is.
type Family string

// The families of layout v3.
const (
	Tarball  Family = "application/vnd.spack.install"
	Spec     Family = "application/vnd.spack.spec"
	Index    Family = "application/vnd.spack.db"
	KeyIndex Family = "application/vnd.spack.keyindex"
	Key      Family = "application/pgp-keys"
)

// The media types that we write, with the numbers of Spack 1.x.
const (
	IndexType    = "application/vnd.spack.db.v8+json"
	KeyIndexType = "application/vnd.spack.keyindex.v1+json"
	KeyType      = "application/pgp-keys"
)

var versioned = regexp.MustCompile(`^(application/vnd\.spack\.[a-z]+)\.v[0-9]+(?:[.+].*)?$`)

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
}

// A Manifest is what a manifest document says.
type Manifest struct {
	Records []Record
	// Extra are further top-level members, which Spack ignores. Names are sorted
	// when it is written.
	Extra map[string]jsontext.Value
}

type documentRecord struct {
	ContentLength     *int64  `json:"contentLength"`
	MediaType         *string `json:"mediaType"`
	Compression       *string `json:"compression"`
	ChecksumAlgorithm *string `json:"checksumAlgorithm"`
	Checksum          *string `json:"checksum"`
}

// Parse reads the JSON text of a manifest; that of a signed one is inside its
// signature (see package key).
func Parse(text []byte) (*Manifest, error) {
	var doc map[string]jsontext.Value
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var version int
	if err := json.Unmarshal(doc["version"], &version); err != nil {
		return nil, fmt.Errorf("manifest: version: %w", err)
	}
	if version != Version {
		return nil, fmt.Errorf("manifest: version is %d, want %d", version, Version)
	}
	var data []documentRecord
	if err := json.Unmarshal(doc["data"], &data); err != nil {
		return nil, fmt.Errorf("manifest: data: %w", err)
	}
	m := new(Manifest)
	for i, r := range data {
		rec, err := r.record()
		if err != nil {
			return nil, fmt.Errorf("manifest: record %d: %w", i+1, err)
		}
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
	case *r.ChecksumAlgorithm != "sha256":
		return Record{}, fmt.Errorf("checksumAlgorithm is %q, want sha256", *r.ChecksumAlgorithm)
	}
	digest, err := blob.ParseDigest(*r.Checksum)
	if err != nil {
		return Record{}, err
	}
	return Record{Size: *r.ContentLength, MediaType: *r.MediaType, Compression: *r.Compression, Digest: digest}, nil
}

// Record returns the first record of a family, as Spack's reader does.
func (m *Manifest) Record(f Family) (Record, error) {
	for _, r := range m.Records {
		if FamilyOf(r.MediaType) == f {
			return r, nil
		}
	}
	return Record{}, fmt.Errorf("manifest: it has no record of type %s", f)
}

// Encode writes m as Spack does: a line for every member, no indentation, no
// final line end. The short lines matter for signing: gpg --clearsign silently cuts
// lines near 20,000 characters.
func (m *Manifest) Encode() ([]byte, error) {
	data := make([]documentRecord, len(m.Records))
	algorithm := "sha256"
	for i, r := range m.Records {
		sum := r.Digest.String()
		data[i] = documentRecord{&r.Size, &r.MediaType, &r.Compression, &algorithm, &sum}
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

// ContentType is the HTTP content type for blobs of a media type.
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
