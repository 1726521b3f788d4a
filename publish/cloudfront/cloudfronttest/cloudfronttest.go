// Package cloudfronttest stands in for the API of CloudFront as far as invalidations go.
//
// It is as strict as CloudFront, or stricter: it refuses, limits and identifies requests as CloudFront does. Only
// the signer of a request is not checked. In a synctest bubble it uses the clock of the bubble.
package cloudfronttest

import (
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// The limits of CloudFront: for one distribution, at one time.
const (
	MaxPaths     = 3000
	MaxWildcards = 15
	maxPathBytes = 4000
	maxReference = 128
)

const namespace = "http://cloudfront.amazonaws.com/doc/2020-05-31/"

// A Request is a request that the server received, and its result.
type Request struct {
	Action       string // CreateInvalidation or GetInvalidation
	Distribution string
	Reference    string
	Paths        []string
	ID           string // the invalidation's
	Status       int    // of HTTP; 0 if there was no answer
	Code         string // of the error, if there was one
}

// A Fault is a failure of one request.
type Fault struct {
	Acts   bool   // the server carries out the request nevertheless
	Status int    // of the answer; 0: the connection breaks
	Code   string // of the answer
}

// Refuse is an answer that nothing was done.
func Refuse(status int, code string) Fault { return Fault{Status: status, Code: code} }

// Lose loses the answer: all is done.
func Lose() Fault { return Fault{Acts: true} }

// A Server is an http.Handler. Its fields are set before its first request.
type Server struct {
	// Delay is how long an invalidation is in progress.
	Delay time.Duration
	// Invalidated, if set, is called for each new invalidation before it is answered, one at a time: an edge that
	// drops its cache. It must not call the server.
	Invalidated func(distribution string, paths []string)

	mu            sync.Mutex // guards what follows
	distributions map[string]*distribution
	faults        []Fault
	denied        map[string]bool
	requests      []Request
}

type distribution struct {
	byReference map[string]*invalidation
	byID        map[string]*invalidation
}

type invalidation struct {
	id        string
	reference string
	paths     []string
	created   time.Time
}

// New returns a server with the distributions of the given IDs.
func New(ids ...string) *Server {
	s := &Server{distributions: map[string]*distribution{}, denied: map[string]bool{}}
	for _, id := range ids {
		s.distributions[id] = &distribution{map[string]*invalidation{}, map[string]*invalidation{}}
	}
	return s
}

// Inject has the next requests meet faults, one each.
func (s *Server) Inject(faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, faults...)
}

// Deny refuses an action from now on, such as cloudfront:CreateInvalidation.
func (s *Server) Deny(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[action] = true
}

// Permit permits an action again.
func (s *Server) Permit(action string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.denied, action)
}

// Requests returns all requests so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Invalidations returns the paths of each invalidation of a distribution, in the order in
// which they were made. One that was asked for twice is there once.
func (s *Server) Invalidations(id string) [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.distributions[id]
	if !ok {
		return nil
	}
	var all []*invalidation
	for _, i := range d.byID {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *invalidation) int { return strings.Compare(a.id, b.id) })
	var paths [][]string
	for _, i := range all {
		paths = append(paths, i.paths)
	}
	return paths
}

// Transport answers without any network, within a synctest bubble too.
func (s *Server) Transport() http.RoundTripper { return transport{s} }

type transport struct{ s *Server }

func (t transport) RoundTrip(r *http.Request) (answer *http.Response, err error) {
	defer func() {
		if broken := recover(); broken == http.ErrAbortHandler {
			answer, err = nil, errors.New("connection reset by peer")
		} else if broken != nil {
			panic(broken)
		}
	}()
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	w := httptest.NewRecorder()
	t.s.ServeHTTP(w, r)
	answer = w.Result()
	answer.Request = r
	return answer, nil
}

// Match reports whether a viewer's path is one that an invalidation of pattern is for.
func Match(pattern, path string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, start)
	}
	return pattern == path
}

// A refusal is an error of the API.
type refusal struct {
	status        int
	code, message string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, format string, args ...any) *refusal {
	return &refusal{status, code, fmt.Sprintf(format, args...)}
}

var route = regexp.MustCompile(`^/2020-05-31/distribution/([^/]+)/invalidation(?:/([^/]+))?$`)

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fault, faulty := s.next()
	var is *invalidation
	var logged Request
	var refused error
	if !faulty || fault.Acts {
		is, logged, refused = s.handle(r, body)
	} else {
		logged = describe(r, body)
	}
	if faulty {
		refused = refuse(fault.Status, fault.Code, "injected")
	}
	if is != nil {
		logged.ID = is.id
	}
	logged.Status = statusOf(r)
	var why *refusal
	if errors.As(refused, &why) {
		logged.Status, logged.Code = why.status, why.code
	}
	s.requests = append(s.requests, logged)
	if faulty && fault.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	if why != nil {
		write(w, why.status, errorResponse{Namespace: namespace, Type: "Sender", Code: why.code, Message: why.message, RequestID: newID("")})
		return
	}
	if r.Method == http.MethodPost {
		w.Header().Set("Location", "https://cloudfront.amazonaws.com"+r.URL.Path+"/"+is.id)
	}
	write(w, statusOf(r), s.document(is))
}

func statusOf(r *http.Request) int {
	if r.Method == http.MethodPost {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (s *Server) next() (Fault, bool) {
	if len(s.faults) == 0 {
		return Fault{}, false
	}
	f := s.faults[0]
	s.faults = s.faults[1:]
	return f, true
}

// describe is what a request asks for, as far as it can be told.
func describe(r *http.Request, body []byte) Request {
	to := route.FindStringSubmatch(r.URL.Path)
	if to == nil {
		return Request{Action: r.Method + " " + r.URL.Path}
	}
	asked := Request{Action: "GetInvalidation", Distribution: to[1], ID: to[2]}
	if r.Method == http.MethodPost {
		var b batch
		xml.Unmarshal(body, &b) // what it makes of it will do
		asked.Action, asked.Reference, asked.Paths = "CreateInvalidation", b.CallerReference, b.Paths.Items.Path
	}
	return asked
}

// handle does what a request asks for. The caller holds s.mu.
func (s *Server) handle(r *http.Request, body []byte) (*invalidation, Request, error) {
	asked := describe(r, body)
	to := route.FindStringSubmatch(r.URL.Path)
	creates := r.Method == http.MethodPost && to != nil && to[2] == ""
	gets := r.Method == http.MethodGet && to != nil && to[2] != ""
	if !creates && !gets {
		return nil, asked, refuse(http.StatusNotFound, "UnknownOperationException", "%s %s", r.Method, r.URL.Path)
	}
	if err := s.permits(r, asked); err != nil {
		return nil, asked, err
	}
	d, ok := s.distributions[asked.Distribution]
	if !ok {
		return nil, asked, refuse(http.StatusNotFound, "NoSuchDistribution", "The specified distribution does not exist.")
	}
	if gets {
		is, ok := d.byID[asked.ID]
		if !ok {
			return nil, asked, refuse(http.StatusNotFound, "NoSuchInvalidation", "The specified invalidation does not exist.")
		}
		return is, asked, nil
	}
	is, err := s.create(d, asked.Distribution, body)
	return is, asked, err
}

var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/]+/[0-9]{8}/[a-z0-9-]+/cloudfront/aws4_request, ?SignedHeaders=[a-z0-9;-]+, ?Signature=[0-9a-f]{64}$`)

// permits checks that a request is signed for CloudFront, though not by whom, and permitted.
func (s *Server) permits(r *http.Request, asked Request) error {
	if !signed.MatchString(r.Header.Get("Authorization")) {
		return refuse(http.StatusForbidden, "MissingAuthenticationToken", "Missing Authentication Token")
	}
	if action := "cloudfront:" + asked.Action; s.denied[action] {
		return refuse(http.StatusForbidden, "AccessDenied", "User: arn:aws:sts::111122223333:assumed-role/publisher/session is not authorized "+
			"to perform: %s on resource: arn:aws:cloudfront::111122223333:distribution/%s because no identity-based policy allows the %s action",
			action, asked.Distribution, action)
	}
	return nil
}

type batch struct {
	XMLName xml.Name `xml:"http://cloudfront.amazonaws.com/doc/2020-05-31/ InvalidationBatch"`
	Paths   struct {
		Quantity int
		Items    struct{ Path []string }
	}
	CallerReference string
}

func (s *Server) create(d *distribution, id string, body []byte) (*invalidation, error) {
	b, err := parse(body)
	if err != nil {
		return nil, err
	}
	paths := b.Paths.Items.Path
	if is, ok := d.byReference[b.CallerReference]; ok {
		if !slices.Equal(is.paths, paths) {
			return nil, refuse(http.StatusBadRequest, "InvalidArgument",
				"Your request contains a caller reference that was used for a previous invalidation batch for the same distribution.")
		}
		return is, nil
	}
	if !s.hasRoom(d, paths) {
		return nil, refuse(http.StatusBadRequest, "TooManyInvalidationsInProgress",
			"Processing your request will cause you to exceed the maximum number of in-progress invalidations.")
	}
	is := &invalidation{newID(fmt.Sprintf("I%06d", len(d.byID)+1)), b.CallerReference, paths, time.Now()}
	d.byReference[is.reference], d.byID[is.id] = is, is
	if s.Invalidated != nil {
		s.Invalidated(id, slices.Clone(paths))
	}
	return is, nil
}

func parse(body []byte) (batch, error) {
	var b batch
	if len(body) == 0 {
		return b, refuse(http.StatusBadRequest, "MissingBody", "This operation requires a body.")
	}
	if err := xml.Unmarshal(body, &b); err != nil {
		return b, refuse(http.StatusBadRequest, "MalformedXML", "%v", err)
	}
	paths := b.Paths.Items.Path
	switch {
	case b.Paths.Quantity != len(paths):
		return b, refuse(http.StatusBadRequest, "InconsistentQuantities", "The value of Quantity and the size of Items do not match.")
	case len(paths) == 0:
		return b, refuse(http.StatusBadRequest, "InvalidArgument", "Your request must contain at least one path.")
	case len(paths) > MaxPaths:
		return b, refuse(http.StatusRequestEntityTooLarge, "BatchTooLarge", "Your request contains more than %d paths.", MaxPaths)
	case b.CallerReference == "" || len(b.CallerReference) > maxReference:
		return b, refuse(http.StatusBadRequest, "InvalidArgument", "The caller reference is empty or too long.")
	}
	seen := map[string]bool{}
	for _, p := range paths {
		if !valid(p) || seen[p] {
			return b, refuse(http.StatusBadRequest, "InvalidArgument", "Your request contains one or more invalid invalidation paths.")
		}
		seen[p] = true
	}
	return b, nil
}

var badEscape = regexp.MustCompile(`%([^0-9A-Fa-f]|.[^0-9A-Fa-f]|.?$)`)

// valid reports whether CloudFront takes a path: what RFC 1738 calls unsafe must be encoded.
func valid(path string) bool {
	return strings.HasPrefix(path, "/") && len(path) <= maxPathBytes && !badEscape.MatchString(path) &&
		!strings.ContainsFunc(path, func(c rune) bool {
			return c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>"#{}|\^~[]`+"`", c)
		})
}

// hasRoom reports whether the paths may be in progress beside those that are.
func (s *Server) hasRoom(d *distribution, paths []string) bool {
	exact, wild := count(paths)
	for _, is := range d.byID {
		if s.status(is) != "Completed" {
			e, w := count(is.paths)
			exact, wild = exact+e, wild+w
		}
	}
	return exact <= MaxPaths && wild <= MaxWildcards
}

func count(paths []string) (exact, wild int) {
	for _, p := range paths {
		if strings.HasSuffix(p, "*") {
			wild++
		} else {
			exact++
		}
	}
	return exact, wild
}

func (s *Server) status(is *invalidation) string {
	if time.Since(is.created) < s.Delay {
		return "InProgress"
	}
	return "Completed"
}

// newID returns an ID that starts with prefix and is the only one.
func newID(prefix string) string { return prefix + rand.Text()[:10] }

type document struct {
	XMLName    xml.Name `xml:"Invalidation"`
	Namespace  string   `xml:"xmlns,attr"`
	ID         string   `xml:"Id"`
	Status     string
	CreateTime string
	Batch      struct {
		Paths struct {
			Quantity int
			Items    struct{ Path []string }
		}
		CallerReference string
	} `xml:"InvalidationBatch"`
}

func (s *Server) document(is *invalidation) document {
	doc := document{Namespace: namespace, ID: is.id, Status: s.status(is), CreateTime: is.created.UTC().Format("2006-01-02T15:04:05.000Z")}
	doc.Batch.CallerReference = is.reference
	doc.Batch.Paths.Quantity, doc.Batch.Paths.Items.Path = len(is.paths), is.paths
	return doc
}

type errorResponse struct {
	XMLName   xml.Name `xml:"ErrorResponse"`
	Namespace string   `xml:"xmlns,attr"`
	Type      string   `xml:"Error>Type"`
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

func write(w http.ResponseWriter, status int, doc any) {
	content, err := xml.Marshal(doc)
	if err != nil {
		panic(err) // the documents are ours
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	w.Write(append([]byte(xml.Header), content...))
}
