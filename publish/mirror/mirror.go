// Package mirror is the boundary between publishing and storage.
//
// A mirror holds objects under relative, slash-separated names, as Spack's layouts define them. Each ability is an
// interface of its own, so the signature of a function shows what the function can change. A function that takes a
// Reader cannot write, a function that takes a Writer cannot delete, and neither can overwrite an object that it
// has not read.
//
// Each implementation passes the suite in package mirrortest.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/blob"
)

// Errors that callers branch on. Implementations wrap them and add the message of the storage.
var (
	// ErrNotExist: there is no object of that name.
	ErrNotExist = errors.New("no such object")
	// ErrExist: an object of that name exists and has other content.
	ErrExist = errors.New("another object is already there")
	// ErrConflict: the object has changed since the caller read it.
	ErrConflict = errors.New("changed by another publisher")
	// ErrDenied: the credentials do not permit the request. See DeniedError.
	ErrDenied = errors.New("access denied")
	// ErrCredentials: the credentials are missing, wrong or expired.
	ErrCredentials = errors.New("credentials not accepted")
	// ErrNoBucket: the bucket of the mirror does not exist.
	ErrNoBucket = errors.New("no such bucket")
	// ErrFull: the storage is full.
	ErrFull = errors.New("no space left")
	// ErrFault: the storage violates its protocol. See FaultError.
	ErrFault = errors.New("fault of the storage")
)

// A FaultError describes how the storage violates its protocol, so that its answers cannot be relied on. Retrying
// does not help. It matches ErrFault.
type FaultError struct{ Fault string }

func (e *FaultError) Error() string { return ErrFault.Error() + ": " + e.Fault }

// Is makes errors.Is(err, ErrFault) hold.
func (e *FaultError) Is(target error) bool { return target == ErrFault }

// Faultf returns a FaultError.
func Faultf(format string, args ...any) error { return &FaultError{fmt.Sprintf(format, args...)} }

// A NotS3Error reports that a server other than S3 answered: a proxy, a CDN or a website. It matches ErrFault.
type NotS3Error struct {
	Server string // scheme, host and port
	Status int
	Said   string // the beginning of its answer
}

// SaidByCDN is the text of a NotS3Error whose server is CloudFront.
const SaidByCDN = "this is a CDN: CloudFront"

func (e *NotS3Error) Error() string {
	said := fmt.Sprintf("no S3 answers at %s: %d %s", e.Server, e.Status, http.StatusText(e.Status))
	if e.Said != "" {
		said += fmt.Sprintf(", %q", e.Said)
	}
	return said
}

// Is makes errors.Is(err, ErrFault) hold.
func (e *NotS3Error) Is(target error) bool { return target == ErrFault }

// A SchemeError reports that a server speaks http and was asked for https. Retrying does not help.
type SchemeError struct{ Host string }

func (e *SchemeError) Error() string {
	return fmt.Sprintf("https://%[1]s cannot be reached: this endpoint speaks http: want http://%[1]s", e.Host)
}

// RetryableError returns false: retrying does not help.
func (*SchemeError) RetryableError() bool { return false }

// A DeniedError reports a refused operation. It matches ErrDenied.
type DeniedError struct {
	Action string // the missing permission, as IAM names it: s3:PutObject
	Name   string // the object or prefix
	Detail string // what the storage said
	Err    error  // the cause other than permissions, such as EROFS; may be nil
}

// Unwrap returns the reason.
func (e *DeniedError) Unwrap() error { return e.Err }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s on %s: %s: %s", e.Action, e.Name, ErrDenied, e.Detail)
}

// Is makes errors.Is(err, ErrDenied) hold.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// A RegionError reports that the bucket is in another region than the requested one.
type RegionError struct{ Bucket, Asked, Region string }

func (e *RegionError) Error() string {
	return fmt.Sprintf("bucket %s is in region %s, not in %s", e.Bucket, e.Region, e.Asked)
}

// A Version identifies one state of an object. It differs after every change. Only the mirror that returned it can
// interpret it.
type Version string

// Absent is the version of an object that does not exist.
const Absent Version = ""

// Info describes an object without its content.
type Info struct {
	Name     string
	Size     int64 // bytes
	Version  Version
	Modified time.Time
	MD5      string // hexadecimal; empty if the storage does not report it

	// CRC64NVME is the CRC-64/NVME of the whole object, in base64. Stat returns it if the storage keeps it; a
	// listing does not.
	CRC64NVME string
}

// An Object is an open object. The caller closes Body.
type Object struct {
	Info
	Body io.ReadCloser
}

// A Reader reads objects one by one.
type Reader interface {
	// Open fails with ErrNotExist if there is no such object. A body that ends too early fails with
	// io.ErrUnexpectedEOF.
	Open(ctx context.Context, name string) (*Object, error)
	// Stat returns what Open returns, without the body.
	Stat(ctx context.Context, name string) (Info, error)
}

// A Range is the set of names that start with Prefix, come after After and before Until, in byte order. An empty
// After or Until sets no bound.
type Range struct {
	Prefix, After, Until string
	// Few says that the range holds few names and is followed by many others that the storage need not send.
	Few bool
}

// A Lister lists objects.
type Lister interface {
	// List yields the objects of a range in byte order of their names. It ends after the first error. Objects
	// created during the listing may be missing.
	List(ctx context.Context, r Range) iter.Seq2[Info, error]
}

// An Upload is an object to be stored.
type Upload struct {
	Name         string
	Content      blob.Source
	Digest       blob.Digest // what Content must hash to; the zero Digest promises nothing
	Type         string      // Content-Type
	CacheControl string
	Sent         func(n int64) // if set, it is called when n more bytes were sent; n is negative when bytes must be sent again
	// PartSize is the minimum size of the parts in which a mirror sends the object, in bytes. 0 lets the mirror
	// choose. Larger parts take fewer requests, and may take more time.
	PartSize int64
	// Fresh says that, as far as the caller knows, no part of the object was sent before. The mirror then does not
	// look for the object or for an unfinished upload of it first.
	Fresh bool
	// Own says that no other writer has this content. If an object of that name exists, the mirror need not compare
	// it: after ErrConflict it may be this object, stored by an attempt whose answer was lost.
	Own bool
}

// A Writer stores new objects.
type Writer interface {
	// Create stores u.Content under u.Name and returns when it is durable. Readers see the whole object or none. If
	// the content does not have u.Digest, nothing becomes visible and the error is a *blob.MismatchError.
	//
	// If an object with the same content exists, Create succeeds. If an object with other content exists, it stays
	// and the error is ErrExist. After any other error the object may or may not exist. Calling Create again is
	// always safe and sends only what is missing.
	Create(ctx context.Context, u Upload) error
}

// A Swapper replaces objects of a known version.
type Swapper interface {
	// Swap stores u.Content if the object still has the version was, or does not exist if was is Absent, and
	// returns the new version. Readers see the old or the new object. ErrConflict means that the object has changed
	// and nothing was written. If the object already has this content, Swap succeeds. After any other error the
	// object may be the old or the new one: read it again.
	Swap(ctx context.Context, u Upload, was Version) (Version, error)
}

// A Copier is a mirror whose storage copies objects itself, so that their bytes do not pass through this process.
type Copier interface {
	// CopyFrom is Create with the content of an object of another mirror. u.Content is not read; only its size
	// counts. u.Digest must be known. If the storage cannot copy the object or cannot vouch for its content,
	// nothing is stored, the error matches errors.ErrUnsupported, and the caller must read and send the object.
	CopyFrom(ctx context.Context, from Reader, name string, u Upload) error
}

// CopierOf returns the Copier that a mirror is or wraps, or nil.
func CopierOf(m any) Copier { return find[Copier](m) }

// A Streamer is a mirror that reads an upload once, in order, and checks it while storing it. Content with a digest
// can therefore be stored while it arrives from elsewhere.
type Streamer interface{ Streams() }

// StreamerOf returns the Streamer that a mirror is or wraps, or nil.
func StreamerOf(m any) Streamer { return find[Streamer](m) }

// A Prover is a mirror on storage that may ignore the conditions of writes. Storage that ignores them silently
// loses what other publishers write.
type Prover interface {
	// Proof names what must be proved before the version was of an object is replaced. The name depends on the
	// storage alone, so a proof can be remembered. Empty means that nothing needs a proof.
	Proof(was Version) string
	// Prove sends a write that the storage must refuse, and fails with a ConditionError if the storage accepts it.
	// there names a small object that exists, or is nil if none is known.
	Prove(ctx context.Context, was Version, there *Upload) error
}

// ProverOf returns the Prover that a mirror is or wraps, or nil. A wrapper returns the mirror from its method
// Unwrap.
func ProverOf(m any) Prover { return find[Prover](m) }

func find[T any](m any) T {
	for {
		if found, ok := m.(T); ok {
			return found
		}
		wrapper, ok := m.(interface{ Unwrap() any })
		if !ok {
			var none T
			return none
		}
		m = wrapper.Unwrap()
	}
}

// A ConditionError reports that the storage does not obey the condition of a write.
type ConditionError struct {
	Header string // of the condition: If-Match or If-None-Match; empty if the storage did not say which
	Said   string // the answer of the storage; empty if it ignored the condition and wrote
}

func (e *ConditionError) Error() string {
	switch {
	case e.Header == "":
		return "the storage does not implement conditional writes (If-None-Match, If-Match) or checksums (x-amz-checksum-sha256): " + e.Said
	case e.Said == "":
		return fmt.Sprintf("the storage ignores the condition %s, so publishers would overwrite each other's packages", e.Header)
	}
	return fmt.Sprintf("the storage does not implement the condition %s, without which publishers would overwrite each other's packages: %s", e.Header, e.Said)
}

// A Deleter removes objects. Publishing code never receives one.
type Deleter interface {
	// Delete removes the object if it still has the version was, and fails with ErrConflict if it has another.
	// Deleting an absent object succeeds.
	Delete(ctx context.Context, name string, was Version) error
}

// MaxBatch is the maximum number of objects that a BatchDeleter removes at once.
const MaxBatch = 1000

// A BatchDeleter removes many objects in one request.
type BatchDeleter interface {
	// DeleteAll is Delete for at most MaxBatch objects, by name and version. It returns the names of the objects
	// that have another version and therefore stay. After an error any of the objects may be gone.
	DeleteAll(ctx context.Context, objects []Info) (changed []string, err error)
}

// DeleteAll removes the objects that still have the given versions, in one request if the Deleter can, and returns
// the names of the others.
func DeleteAll(ctx context.Context, d Deleter, objects []Info) (changed []string, err error) {
	if b, ok := d.(BatchDeleter); ok {
		return b.DeleteAll(ctx, objects)
	}
	for _, o := range objects {
		err := d.Delete(ctx, o.Name, o.Version)
		if errors.Is(err, ErrConflict) {
			changed = append(changed, o.Name)
		} else if err != nil {
			return changed, err
		}
	}
	return changed, nil
}

// Find finds an object by listing its name, because a role with few permissions gets "access denied" for an object
// that does not exist. The Info is empty if there is no such object.
func Find(ctx context.Context, l Lister, name string) (Info, error) {
	for info, err := range l.List(ctx, Range{Prefix: name}) {
		if err != nil {
			return Info{}, err
		}
		if info.Name == name {
			return info, nil
		}
	}
	return Info{}, nil
}

// Read returns the whole content of an object of at most limit bytes.
func Read(ctx context.Context, r Reader, name string, limit int64) ([]byte, Info, error) {
	o, err := r.Open(ctx, name)
	if err != nil {
		return nil, Info{}, err
	}
	defer o.Body.Close()
	if o.Size > limit {
		return nil, o.Info, fmt.Errorf("read %s: it has %d bytes, more than %d", name, o.Size, limit)
	}
	content := make([]byte, o.Size)
	if _, err := io.ReadFull(o.Body, content); err != nil {
		return nil, o.Info, fmt.Errorf("read %s: %w", name, err)
	}
	return content, o.Info, nil
}

// A PartReader reads a large object with several concurrent requests.
type PartReader interface {
	// ReadParts returns the content of an object of size bytes and version v, all from one version; Absent accepts
	// any version. arrived, if not nil, is called concurrently when n more bytes have arrived. If the object has
	// another size or version, the error is an ErrConflict.
	ReadParts(ctx context.Context, name string, size int64, v Version, arrived func(n int)) ([]byte, error)
}

// partReaderOf returns the PartReader that a mirror is or wraps, or nil.
func partReaderOf(m any) PartReader {
	for {
		if p, ok := m.(PartReader); ok {
			return p
		}
		wrapper, ok := m.(interface{ Unwrap() any })
		if !ok {
			return nil
		}
		m = wrapper.Unwrap()
	}
}

// ReadLarge returns the whole content of an object that should have size bytes, in parts if the mirror can. The
// object may meanwhile have another version than v and another size, up to limit.
func ReadLarge(ctx context.Context, r Reader, name string, size int64, v Version, limit int64) ([]byte, error) {
	if p := partReaderOf(r); p != nil && size > 0 && size <= limit {
		content, err := p.ReadParts(ctx, name, size, v, nil)
		if !errors.Is(err, ErrConflict) {
			return content, err
		}
	}
	content, _, err := Read(ctx, r, name, limit)
	return content, err
}

// A Leftover is an unfinished upload: of a publisher that died, or of one that is still sending.
type Leftover struct {
	Name    string // of the object being uploaded
	ID      string // distinguishes uploads of the same object
	Started time.Time
}

// A Sweeper finds and discards leftovers.
type Sweeper interface {
	// Leftovers yields the unfinished uploads of objects whose names start with prefix.
	Leftovers(ctx context.Context, prefix string) iter.Seq2[Leftover, error]
	// Discard aborts an upload. A publisher that is still sending it must then check whether the object exists.
	// Therefore discard only uploads of objects that exist already, or uploads too old to be live. Discarding an
	// upload that is gone succeeds.
	Discard(ctx context.Context, l Leftover) error
}
