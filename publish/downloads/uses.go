package downloads

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/spec"
)

// Uses holds the times at which clients last fetched packages, from any number of log files. A successful GET (2xx
// or 304) of the document or the tarball of a package counts as use. Each installation makes these requests, also
// one from a lock file.
type Uses struct {
	// From and Until are the times of the first and the last request of any kind; zero if there is none.
	From, Until time.Time
	last        map[spec.Hash]time.Time
}

// Since returns the packages that were fetched at the given time or later.
func (u *Uses) Since(t time.Time) map[spec.Hash]bool {
	used := make(map[spec.Hash]bool)
	for h, at := range u.last {
		if !at.Before(t) {
			used[h] = true
		}
	}
	return used
}

// Add reads one log file. The error names the line.
func (u *Uses) Add(log io.Reader) error {
	var names []string
	return eachLine(log, func(n int, line string) error {
		if rest, ok := strings.CutPrefix(line, fieldsPrefix); ok {
			names = strings.Fields(rest)
			return nil
		}
		if line == "" || strings.HasPrefix(line, "#") {
			return nil
		}
		q, err := useOf(line, names)
		if err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		u.note(q)
		return nil
	})
}

// A use holds the data of one line of a log while it is added.
type use struct {
	at           time.Time
	method, path string
	status       string
}

var errForm = errors.New("want an access log of CloudFront (text or JSON) or of S3")

func useOf(line string, names []string) (use, error) {
	switch {
	case strings.HasPrefix(line, "{"):
		of, err := jsonFields(line)
		if err != nil {
			return use{}, fmt.Errorf("%w: %w", errForm, err)
		}
		return useOfCloudFront(of)
	case names != nil:
		of, err := textFields(names, line)
		if err != nil {
			return use{}, err
		}
		return useOfCloudFront(of)
	}
	m := anyBucketLine.FindStringSubmatch(line)
	if m == nil {
		return use{}, errForm
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[1])
	u := use{at: at, path: m[3], status: m[4]}
	if m[2] == "REST.GET.OBJECT" || m[2] == "WEBSITE.GET.OBJECT" {
		u.method = "GET"
	}
	return u, err
}

// anyBucketLine matches the beginning of a line of S3's server access log with any operation: REST.GET.OBJECT,
// REST.GET.OBJECT_TAGGING, BATCH.DELETE.OBJECT, S3.EXPIRE.OBJECT, S3.TRANSITION_SIA.OBJECT, SOAP.CreateBucket, or -
// if it is unknown. See bucketLine.
var anyBucketLine = regexp.MustCompile(`^\S+ \S+ \[([^\]]+)\] \S+ \S+ \S+ ((?:[A-Z][A-Z0-9]+\.[\w.]+)|-) (\S+) (?:"(?:[^"\\]|\\.)*"|-) (\d{3}|-)`)

func useOfCloudFront(field fields) (use, error) {
	at, err := time.Parse("2006-01-02 15:04:05", field("date")+" "+field("time"))
	if err != nil {
		return use{}, fmt.Errorf("%w: date and time: %w", errForm, err)
	}
	return use{at: at, method: field("cs-method"), path: field("cs-uri-stem"), status: field("sc-status")}, nil
}

// ofPackage matches the objects of a package that a client fetches: a document or a tarball whose name ends in the
// hash.
var ofPackage = regexp.MustCompile(`-([a-z2-7]{32})\.(?:spec\.manifest\.json|spec\.json(?:\.sig)?|spack)$`)

func (u *Uses) note(q use) {
	if u.From.IsZero() || q.at.Before(u.From) {
		u.From = q.at
	}
	if q.at.After(u.Until) {
		u.Until = q.at
	}
	if q.method != "GET" || !strings.HasPrefix(q.status, "2") && q.status != "304" {
		return
	}
	m := ofPackage.FindStringSubmatch(q.path)
	if m == nil {
		return
	}
	h, err := spec.ParseHash(m[1])
	if err != nil {
		return
	}
	if u.last == nil {
		u.last = make(map[spec.Hash]time.Time)
	}
	if q.at.After(u.last[h]) {
		u.last[h] = q.at
	}
}
