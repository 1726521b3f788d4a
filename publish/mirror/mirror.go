// Package mirror is the boundary between what we publish and where it is kept.
//
// A mirror holds objects under names: relative, slash-separated, as Spack's layouts
// say. Every ability is an interface of its own, so that a signature shows what a
// function is able to break. A function that takes a Reader cannot write, one that takes a
// Writer cannot delete, and none can overwrite an object that it has not seen.
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

// Errors that callers branch on. Implementations wrap them, with what the
// storage said.
var (
	// ErrNotExist: there is no object of that name.
	ErrNotExist = errors.New("no such object")
	// ErrExist: an object of that name is there and has other content.
	ErrExist = errors.New("another object is already there")
	// ErrConflict: the object is no longer the version that the caller saw.
	ErrConflict = errors.New("changed by another publisher")
	// ErrDenied: the credentials do not permit it. See DeniedError.
	ErrDenied = errors.New("access denied")
	// ErrCredentials: there are no credentials, or they are wrong or expired.
	ErrCredentials = errors.New("credentials not accepted")
	// ErrNoBucket: the place that should hold the mirror does not exist.
	ErrNoBucket = errors.New("no such bucket")
	// ErrFull: there is no room left.
	ErrFull = errors.New("no space left")
	// ErrFault: the storage breaks the rules of its protocol. See FaultError.
	ErrFault = errors.New("fault of the storage")
)

// A FaultError says how the storage breaks the rules of its protocol, so that its answer
// cannot be relied upon. Repeating the request does not help. It matches ErrFault.
type FaultError struct{ Fault string }

func (e *FaultError) Error() string { return ErrFault.Error() + ": " + e.Fault }

// Is makes errors.Is(err, ErrFault) hold.
func (e *FaultError) Is(target error) bool { return target == ErrFault }

// Faultf returns a FaultError.
func Faultf(format string, args ...any) error { return &FaultError{fmt.Sprintf(format, args...)} }

// A NotS3Error says that a server answers, and not as S3 does: a proxy, a CDN, a website. It matches ErrFault.
type NotS3Error struct {
	Server string // scheme, host and port
	Status int
	Said   string // the beginning of its answer
}

// SaidByCDN is what a NotS3Error says of a CDN that stands where S3 is wanted.
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

// A SchemeError says that a server that was asked by https speaks http. Trying again does not help.
type SchemeError struct{ Host string }

func (e *SchemeError) Error() string {
	return fmt.Sprintf("https://%[1]s cannot be reached: this endpoint speaks http: want http://%[1]s", e.Host)
}

// RetryableError returns false: repeating the request does not help.
func (*SchemeError) RetryableError() bool { return false }

// A DeniedError says which act was refused. It matches ErrDenied.
type DeniedError struct {
	Action string // the permission that is missing, in IAM's words: s3:PutObject
	Name   string // the object or prefix
	Detail string // what the storage said
	Err    error  // why, if that is no matter of rights: EROFS; may be nil
}

// Unwrap returns the reason.
func (e *DeniedError) Unwrap() error { return e.Err }

func (e *DeniedError) Error() string {
	return fmt.Sprintf("%s on %s: %s: %s", e.Action, e.Name, ErrDenied, e.Detail)
}

// Is makes errors.Is(err, ErrDenied) hold.
func (e *DeniedError) Is(target error) bool { return target == ErrDenied }

// A RegionError says that the bucket is in another region than the one asked.
type RegionError struct{ Bucket, Asked, Region string }

func (e *RegionError) Error() string {
	return fmt.Sprintf("bucket %s is in region %s, not in %s", e.Bucket, e.Region, e.Asked)
}

// A Version identifies one state of an object: it is other after every change. Only
// the mirror that gave it out understands it.
type Version string

// Absent is the version of an object that is not there.
const Absent Version = ""

// Info is what a mirror knows of an object without reading it.
type Info struct {
	Name     string
	Size     int64 // bytes
	Version  Version
	Modified time.Time
	MD5      string // hexadecimal; empty where the storage does not say

	// CRC64NVME is that of the whole object, in base64. Stat tells it where the storage
	// keeps it; a listing does not.
	CRC64NVME string
}

// An Object is an open object. The caller closes Body.
type Object struct {
	Info
	Body io.ReadCloser
}

// A Reader reads objects one by one.
type Reader interface {
	// Open fails with ErrNotExist if the object is not there. The body fails
	// with io.ErrUnexpectedEOF rather than end early.
	Open(ctx context.Context, name string) (*Object, error)
	// Stat is Open without the body.
	Stat(ctx context.Context, name string) (Info, error)
}

// A Range is the set of names that start with Prefix, come after After and
// before Until, in byte order. An empty bound does not bind.
type Range struct {
	Prefix, After, Until string
	// Few says that there are few such names, and many behind them that need not be sent.
	Few bool
}

// A Lister lists objects.
type Lister interface {
	// List yields the objects of a range in byte order of their names. It ends
	// after the first error. What is created meanwhile may be missing.
	List(ctx context.Context, r Range) iter.Seq2[Info, error]
}

// An Upload is an object to be stored.
type Upload struct {
	Name         string
	Content      blob.Source
	Digest       blob.Digest // what Content must hash to; the zero Digest promises nothing
	Type         string      // Content-Type
	CacheControl string
	Sent         func(n int64) // if set: n more bytes are on their way; negative when they must be sent again
	// PartSize is how large the parts are, at least, in which a mirror sends the object. 0: the mirror chooses. Fewer parts are
	// fewer requests, and may take longer.
	PartSize int64
	// Fresh says that nothing of the object was sent before, as far as the caller knows: neither the object nor an unfinished upload of
	// it is looked for first.
	Fresh bool
	// Own says that no other writer has this content. If an object is in the way, the mirror need not look whether it is the same: after
	// ErrConflict the object may be this one, stored by an attempt whose answer was lost.
	Own bool
}

// A Writer stores objects that are not there yet.
type Writer interface {
	// Create stores u.Content under u.Name and returns once it is durable. A reader
	// sees the whole object or none. Nothing becomes visible if the content does not
	// have u.Digest: the error is then a *blob.MismatchError.
	//
	// An object with the very same content is success. Any other object of that name
	// stays as it is, and the error is ErrExist. After another error the object may or
	// may not be there; calling Create again is always safe and sends only what is missing.
	Create(ctx context.Context, u Upload) error
}

// A Swapper replaces objects that it has seen.
type Swapper interface {
	// Swap stores u.Content if the object still is the version was (Absent: if there is
	// none) and returns the new version. A reader sees the old or the new object.
	// ErrConflict means that the object has changed, and nothing was written. If
	// the very same content is there already, Swap succeeds. After
	// another error the object may be the old or the new one: read it again.
	Swap(ctx context.Context, u Upload, was Version) (Version, error)
}

// A Copier is a mirror whose storage can copy objects by itself, so that their bytes do not pass through us.
type Copier interface {
	// CopyFrom is Create for the object that another mirror has under a name. u.Content is not read, only its Size
	// counts, and u.Digest must be known. The error matches errors.ErrUnsupported if the storage cannot do
	// it, or cannot vouch for the content: then nothing was stored, and the object must be read and sent.
	CopyFrom(ctx context.Context, from Reader, name string, u Upload) error
}

// CopierOf returns the Copier that a mirror is or wraps; nil: there is none.
func CopierOf(m any) Copier { return find[Copier](m) }

// A Streamer is a mirror that reads what it stores once, in order, and checks it meanwhile: content with a Digest can be stored as it arrives
// from somewhere else.
type Streamer interface{ Streams() }

// StreamerOf returns the Streamer that a mirror is or wraps; nil: there is none.
func StreamerOf(m any) Streamer { return find[Streamer](m) }

// A Prover is a mirror on storage of which it is not known whether it obeys the conditions of writes.
// Storage that ignores them loses what other publishers write, without an error.
type Prover interface {
	// Proof names what must be proved before the version was of an object is replaced. It is the
	// same for all objects and all times, as long as the storage is the same, so a proof can be
	// remembered. Empty: nothing needs to be proved.
	Proof(was Version) string
	// Prove proves it by a write that must be refused, and fails with a ConditionError if it
	// is not. there is a small object that exists; nil: none is known to.
	Prove(ctx context.Context, was Version, there *Upload) error
}

// ProverOf returns the Prover that a mirror is or wraps; nil: there is none. What wraps a mirror
// returns it from its method Unwrap.
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

// A ConditionError says that the storage does not obey the condition of a write.
type ConditionError struct {
	Header string // of the condition: If-Match or If-None-Match. Empty: conditions or checksums, which it did not say
	Said   string // by the storage; empty: it wrote as if there were no condition
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

// A Deleter removes objects. No publishing code is handed one.
type Deleter interface {
	// Delete removes the object if it still is the version was. ErrConflict
	// means that it is not. Deleting what is not there is success.
	Delete(ctx context.Context, name string, was Version) error
}

// MaxBatch is how many objects a BatchDeleter removes at once.
const MaxBatch = 1000

// A BatchDeleter removes many objects in one request.
type BatchDeleter interface {
	// DeleteAll is Delete for at most MaxBatch objects, by their names and versions. It returns the names of those that are
	// no longer the version, which stay. After an error any of them may be gone.
	DeleteAll(ctx context.Context, objects []Info) (changed []string, err error)
}

// DeleteAll removes objects that still are the versions given, in one request if the Deleter can, and returns the names of those
// that are not.
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

// Find looks for an object by listing its name, since a narrow role is denied what is not there. The Info is empty if it is
// not there.
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

// Read returns the whole content of an object, which may have at most limit bytes.
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

// A PartReader reads a large object with several requests at once.
type PartReader interface {
	// ReadParts returns the content of an object that has size bytes and is the version v; Absent is any version. All of it
	// is of one version. arrived is called, concurrently, when n more bytes have arrived; it may be nil. The error is an
	// ErrConflict if the object has another size or version.
	ReadParts(ctx context.Context, name string, size int64, v Version, arrived func(n int)) ([]byte, error)
}

// partReaderOf returns the PartReader that a mirror is or wraps; nil: there is none.
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

// ReadLarge returns the whole content of an object that should have size bytes, in parts where the mirror can. It may be that of
// another version than v, and have another size, up to limit.
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

// A Leftover is an upload that was begun and neither finished nor given up: by a
// publisher that died, or by one that is still at it.
type Leftover struct {
	Name    string // the object that it was to become
	ID      string // tells it from other uploads of the same object
	Started time.Time
}

// A Sweeper finds and discards leftovers.
type Sweeper interface {
	// Leftovers yields the unfinished uploads of objects whose names start with prefix.
	Leftovers(ctx context.Context, prefix string) iter.Seq2[Leftover, error]
	// Discard aborts an upload. A publisher that is still sending it must then check whether the
	// object is there, so discard only uploads of objects that are there already, or that
	// are too old to be live. Discarding an upload that is gone succeeds.
	Discard(ctx context.Context, l Leftover) error
}
