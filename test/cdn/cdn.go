// Package cdn stands in for CloudFront: a cache in front of an origin that keeps what
// the origin's headers allow, keeps errors for ten seconds, and forgets what is
// invalidated.
//
// It is stricter than it need be: like an edge with a minimum TTL of 0 it honours
// s-maxage over max-age, and what has neither it keeps for a day. Nothing that a publisher
// forgets to invalidate becomes fresh by luck.
package cdn

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
)

// CloudFront's defaults.
const (
	errorTTL   = 10 * time.Second
	defaultTTL = 24 * time.Hour
)

// An Edge is one caching server.
type Edge struct {
	// Origin is the URL below which the objects are; a path is appended to it.
	Origin string
	// Transport reaches the origin. An edge with origin access control signs.
	Transport http.RoundTripper
	// Now is the clock; nil stands for time.Now.
	Now func() time.Time

	// mu guards what follows. It is not held while the origin is asked.
	mu      sync.Mutex
	cache   map[string]*entry // by path and query
	flushed int               // counts invalidations: an answer begun before the last one is not kept
	hits    int
	misses  int
}

type entry struct {
	status  int
	header  http.Header
	body    []byte
	fetched time.Time
	ttl     time.Duration
}

// ServeHTTP answers from the cache, or from the origin.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, "read only", http.StatusMethodNotAllowed)
		return
	}
	cached, state := e.cached(r)
	if cached == nil {
		fetched, err := e.fetch(r)
		if err != nil {
			fetched = &entry{status: http.StatusBadGateway, header: http.Header{}, body: []byte(err.Error())}
		}
		cached = fetched
	}
	maps.Copy(w.Header(), cached.header)
	w.Header().Set("X-Cache", state+" from cloudfront")
	if age := e.now().Sub(cached.fetched); state == "Hit" {
		w.Header().Set("Age", strconv.Itoa(int(age.Seconds())))
	}
	if tag := cached.header.Get("Etag"); tag != "" && tag == r.Header.Get("If-None-Match") {
		w.Header().Del("Content-Length")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(cached.status)
	if r.Method == http.MethodGet {
		w.Write(cached.body)
	}
}

// cached returns what the cache holds for r, if that is fresh.
func (e *Edge) cached(r *http.Request) (c *entry, state string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c = e.cache[r.URL.RequestURI()]
	if c != nil && e.now().Sub(c.fetched) < c.ttl {
		e.hits++
		return c, "Hit"
	}
	e.misses++
	if c != nil {
		return nil, "RefreshHit"
	}
	return nil, "Miss"
}

// fetch asks the origin and keeps the answer for as long as it may.
func (e *Edge) fetch(r *http.Request) (*entry, error) {
	begun, flushed := e.now(), e.invalidations()
	// Also a HEAD is answered from a whole object, so that either fills the cache.
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, e.Origin+r.URL.RequestURI(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.Transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	got := &entry{resp.StatusCode, resp.Header, body, begun, ttl(resp)}
	got.header.Set("Content-Length", strconv.Itoa(len(body)))
	e.mu.Lock()
	defer e.mu.Unlock()
	if got.ttl > 0 && flushed == e.flushed {
		if e.cache == nil {
			e.cache = map[string]*entry{}
		}
		e.cache[r.URL.RequestURI()] = got
	}
	return got, nil
}

// ttl is how long an answer may be kept.
func ttl(resp *http.Response) time.Duration {
	if resp.StatusCode >= 400 {
		return errorTTL
	}
	age := map[string]string{}
	for directive := range strings.SplitSeq(resp.Header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		age[name] = value
	}
	for _, never := range []string{"no-store", "no-cache", "private"} {
		if _, ok := age[never]; ok {
			return 0
		}
	}
	for _, name := range []string{"s-maxage", "max-age"} {
		if seconds, err := strconv.Atoi(age[name]); err == nil {
			return time.Duration(seconds) * time.Second
		}
	}
	return defaultTTL
}

// Invalidate forgets the paths, which begin with a slash, are percent-encoded, and
// may end with a wildcard.
func (e *Edge) Invalidate(paths ...string) error {
	for _, p := range paths {
		if !strings.HasPrefix(p, "/") {
			return errors.New("invalidate " + strconv.Quote(p) + ": a path begins with a slash")
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.flushed++
	for key := range e.cache {
		for _, p := range paths {
			if matches(p, key) {
				delete(e.cache, key)
			}
		}
	}
	return nil
}

// Control is CloudFront's API of a distribution that serves what e does.
func Control(distribution string, e *Edge) *cloudfronttest.Server {
	s := cloudfronttest.New(distribution)
	s.Invalidated = func(_ string, paths []string) {
		if err := e.Invalidate(paths...); err != nil {
			panic(err) // the server takes no such path
		}
	}
	return s
}

func matches(pattern, key string) bool {
	if prefix, wild := strings.CutSuffix(decoded(pattern), "*"); wild {
		return strings.HasPrefix(decoded(key), prefix)
	}
	return decoded(pattern) == decoded(key)
}

// decoded makes different spellings of a path one.
func decoded(path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// Counts returns how many requests the cache answered and how many the origin did.
func (e *Edge) Counts() (hits, misses int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hits, e.misses
}

func (e *Edge) invalidations() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flushed
}

func (e *Edge) now() time.Time {
	if e.Now != nil {
		return e.Now()
	}
	return time.Now()
}
