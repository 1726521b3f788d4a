package target

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/dir"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/bucketname"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/web"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// A Store is a mirror as commands use it.
type Store interface {
	mirror.Store
	mirror.Sweeper
}

// A Destination is a place that holds mirrors.
type Destination struct {
	// Prefix is the path of the destination below the root of its bucket, with a leading slash. It is empty for the
	// root.
	Prefix string
	// Parts returns the size above which objects are sent in parts, and the size of a part, for estimates.
	Parts s3.Options
	// Expiry returns after how many days unfinished uploads are discarded, or 0 if they are kept. It is nil for
	// destinations without such uploads.
	Expiry func(context.Context) (days int, err error)

	config   Config
	env      Environment
	bucket   *s3.Bucket // nil for a directory
	mirror   func(path string) Store
	deleter  func(path string) mirror.Deleter
	close    func() error
	aws      func(context.Context) (aws.Config, error)
	requests atomic.Int64
}

// Mirror returns the mirror at a path below the destination.
func (d *Destination) Mirror(path string) Store { return d.mirror(path) }

// Deleter returns the Deleter of the mirror at a path. Only a prune uses it.
func (d *Destination) Deleter(path string) mirror.Deleter { return d.deleter(path) }

// Close closes the destination.
func (d *Destination) Close() error { return d.close() }

// AWSConfig returns the AWS configuration of the destination, for other services.
func (d *Destination) AWSConfig(ctx context.Context) (aws.Config, error) { return d.aws(ctx) }

// Requests returns the number of requests to S3 so far.
func (d *Destination) Requests() int64 { return d.requests.Load() }

// Transport returns a transport for reading as clients do.
func (d *Destination) Transport(ctx context.Context) (*http.Transport, error) {
	return d.config.Transport(ctx, d.env)
}

// Open opens a destination. It makes no request, except to ask AWS for the region of a bucket.
func Open(ctx context.Context, where string, c Config, env Environment) (*Destination, error) {
	d := &Destination{config: c, env: env}
	if _, ok := cutScheme(where, "s3"); ok {
		if err := d.openS3(ctx, where); err != nil {
			return nil, err
		}
		return d, nil
	}
	name, err := destinationDir(where)
	if err != nil {
		return nil, refused(err)
	}
	at, err := dir.Open(name, dir.Options{Log: env.Log})
	if err != nil {
		return nil, err
	}
	d.mirror = func(p string) Store { return at.Mirror(p) }
	d.deleter = func(p string) mirror.Deleter { return at.Mirror(p) }
	d.close = at.Close
	d.aws = func(ctx context.Context) (aws.Config, error) { return c.AWSConfig(ctx, env) }
	return d, nil
}

// OpenReader opens a mirror for reading: s3://bucket[/prefix], file:///directory, or an http or https URL.
func OpenReader(ctx context.Context, where string, c Config, env Environment) (mirror.Reader, func() error, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		t, err := c.Transport(ctx, env)
		if err != nil {
			return nil, nil, err
		}
		w, err := web.Open(where, web.Options{Transport: t, Concurrency: c.S3.Concurrency})
		if err != nil {
			return nil, nil, refused(err)
		}
		return w, func() error { w.Close(); return nil }, nil
	}
	d, err := Open(ctx, where, c, env)
	if err != nil {
		return nil, nil, err
	}
	return d.Mirror(""), d.Close, nil
}

func (d *Destination) openS3(ctx context.Context, where string) error {
	bucket, prefix, err := BucketAndPrefix(where)
	if err != nil {
		return refused(err)
	}
	env := d.env
	env.Observe = func(r s3.Request) {
		d.requests.Add(1)
		if d.env.Observe != nil {
			d.env.Observe(r)
		}
	}
	b, cfg, err := OpenBucket(ctx, bucket, d.config, env)
	if err != nil {
		return err
	}
	if prefix != "" {
		d.Prefix = "/" + prefix
	}
	d.bucket, d.Parts = b, b.Options()
	d.Expiry = func(ctx context.Context) (int, error) { return b.Expiry(ctx, prefix) }
	d.close = func() error { return nil }
	d.aws = func(context.Context) (aws.Config, error) { return cfg, nil }
	d.mirror = func(p string) Store { return b.Mirror(path.Join(prefix, p)) }
	d.deleter = func(p string) mirror.Deleter { return b.Mirror(path.Join(prefix, p)).Deleter() }
	if usual := d.mirror; d.config.Caching != (Caching{}) {
		d.mirror = func(p string) Store { return labelled{usual(p), d.config.Caching} }
	}
	return nil
}

// Listed checks that the destination can be listed, as each run does.
func (d *Destination) Listed(ctx context.Context) error {
	l := buildcache.Layouts()[0]
	for _, err := range d.Mirror("").List(ctx, mirror.Range{Prefix: l.Pointers()}) {
		if err != nil {
			return err
		}
		break
	}
	_, _, err := mirror.Read(ctx, d.Mirror(""), l.IndexNames()[0], buildcache.MaxPointer)
	if errors.Is(err, mirror.ErrNotExist) {
		return nil
	}
	return err
}

// Check returns the errors that Open would return without making a request.
func Check(where string) error {
	if _, ok := cutScheme(where, "s3"); ok {
		_, _, err := BucketAndPrefix(where)
		return err
	}
	_, err := destinationDir(where)
	return err
}

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// Canonical returns a destination as a URL: the path of a directory, absolute or relative, becomes
// file:///directory. URLs stay as they are.
func Canonical(where string) string {
	if where == "" || scheme.MatchString(where) {
		return where
	}
	abs, err := filepath.Abs(where)
	if err != nil {
		return where
	}
	return (&url.URL{Scheme: "file", Path: abs}).String()
}

// Path returns the directory that a source names: a path, or a URL file:///directory.
func Path(source string) (string, error) {
	rest, ok := cutScheme(source, "file")
	if !ok {
		if err := notForShells(source); err != nil {
			return "", fmt.Errorf("source %w", err)
		}
		return source, nil
	}
	dir, err := directoryOf("file://" + rest)
	if err != nil {
		return "", fmt.Errorf("source %w", err)
	}
	return dir, nil
}

// directoryOf parses a destination that is a directory. As in Spack, %20 is a space there.
func directoryOf(where string) (string, error) {
	if err := notForShells(where); err != nil {
		return "", fmt.Errorf("destination %w", err)
	}
	where = Canonical(where)
	if err := bucketname.CheckARN(where); err != nil {
		return "", fmt.Errorf("destination %q: %w", where, err)
	}
	u, err := redact.Parse(where)
	switch {
	case err != nil:
		return "", fmt.Errorf("destination: %w", err)
	case u.Scheme == "file" && u.Opaque != "": // file:here
		return "", fmt.Errorf("destination %q: did you mean %s?", redact.URL(where), redact.URL(u.Opaque))
	case (u.Scheme == "s3" || u.Scheme == "file") && !strings.Contains(where, "://"):
		root := map[string]string{"s3": "://", "file": ":///"}[u.Scheme]
		return "", fmt.Errorf("destination %q: did you mean %s?", redact.URL(where), redact.URL(u.Scheme+root+strings.TrimLeft(where[len(u.Scheme)+1:], "/")))
	case u.Scheme != "file":
		return "", fmt.Errorf("destination %q: want s3://bucket[/prefix], file:///directory or the path of a directory", redact.URL(where))
	case u.User != nil:
		return "", fmt.Errorf("destination %q: a directory has no user and no password: want file:///directory", redact.URL(where))
	case strings.ContainsAny(where, "?#"):
		return "", fmt.Errorf("destination %q: write %%3F for ? and %%23 for # in the name of a directory", redact.URL(where))
	case !spec.Readable(u.Path):
		return "", fmt.Errorf("destination %q: the name of a directory must be UTF-8, without control characters", where)
	case u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path):
		return "", fmt.Errorf("destination %s: want an absolute path, file:///directory", redact.URL(where))
	}
	return u.Path, nil
}

// destinationDir parses a destination that is a directory or does not exist yet.
func destinationDir(where string) (string, error) {
	name, err := directoryOf(where)
	if info, statErr := os.Stat(name); err == nil && statErr == nil && !info.IsDir() {
		err = fmt.Errorf("destination %s is a file: want a directory", where)
	}
	return name, err
}

var (
	shellWord = regexp.MustCompile(`^(~[^/]*|\$\w+|\$\{\w+\})(/|$)`)
	noColon   = regexp.MustCompile(`(?i)^(s3|file|https?)//`)
)

// notForShells refuses directory names in which a shell was expected to replace something, which it does not do in
// files or between quotes, and URLs without their colon.
func notForShells(name string) error {
	if m := shellWord.FindString(name); m != "" {
		return fmt.Errorf("%q: only a shell knows what %s stands for: give the whole path, or ./%s if the directory is called so", name, strings.TrimSuffix(m, "/"), name)
	}
	if m := noColon.FindString(name); m != "" {
		meant := strings.TrimSuffix(m, "//") + "://" + name[len(m):]
		if strings.EqualFold(m, "file//") {
			meant = "file:///" + strings.TrimLeft(name[len(m):], "/")
		}
		return fmt.Errorf("%q: did you mean %s?", redact.URL(name), redact.URL(meant))
	}
	return nil
}

// BucketAndPrefix splits a destination in S3. It decodes nothing, like Spack and the AWS CLI: %20 is three
// characters.
func BucketAndPrefix(where string) (bucket, prefix string, err error) {
	wrong := func(why string) (string, string, error) {
		return "", "", fmt.Errorf("destination %s: %s", redact.URL(where), why)
	}
	rest, ok := cutScheme(where, "s3")
	if short, s3 := strings.CutPrefix(where, "s3:"); s3 && !ok && !redact.Has(where) {
		return wrong("did you mean s3://" + strings.TrimLeft(short, "/") + "?")
	}
	if redact.Has(where) || !ok {
		return wrong("want s3://bucket or s3://bucket/prefix")
	}
	if err := bucketname.CheckARN(rest); err != nil {
		return wrong(err.Error())
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.TrimRight(prefix, "/")
	switch {
	case bucket == "":
		return wrong("want s3://bucket or s3://bucket/prefix")
	case strings.ContainsAny(rest, "?#"):
		return wrong("a prefix cannot have ? or #: Spack takes what follows for something else")
	case !spec.Readable(rest):
		return wrong("it must be UTF-8, without control characters")
	case prefix != "" && path.Clean("/"+prefix) != "/"+prefix: // also a leading slash
		return wrong("the prefix must not have //, . or .. in it: want " + redact.URL("s3://"+bucket+path.Clean("/"+prefix)))
	}
	if err := bucketname.Check(bucket); err != nil {
		return wrong(err.Error())
	}
	return bucket, prefix, nil
}

// cutScheme returns the part after the scheme of a URL. The scheme may be in upper case.
func cutScheme(where, scheme string) (rest string, ok bool) {
	before, rest, ok := strings.Cut(where, "://")
	return rest, ok && strings.EqualFold(before, scheme)
}
