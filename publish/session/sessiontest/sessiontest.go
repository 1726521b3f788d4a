// Package sessiontest provides GitHub's token issuer and AWS's STS for tests.
//
// Both are stricter than the real ones: a token is accepted once, a request must not be signed, and requests that
// should never be sent are recorded in Violations. Sessions can be as short as a test needs. Check and Guard refuse
// requests of sessions that have expired or that exceed their policy, as S3 and CloudFront do. The package uses no
// code of the product and none of the SDK, so that it cannot share a mistake with them.
package sessiontest

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// GitHubIssuer is the issuer of the tokens of github.com.
const GitHubIssuer = "https://token.actions.githubusercontent.com"

// Self as an issuer is the server's own URL, where others find its keys.
const Self = "self"

// Account is the account that the usual role is in.
const Account = "123456789012"

// Options of a server. The zero value is GitHub and AWS as they are.
type Options struct {
	// Job that tokens are made for. The zero Job is a usual one.
	Job Job
	// Issuer that tokens name. "": GitHubIssuer. Self: the URL of the server.
	Issuer string
	// Audiences that the identity provider in the account takes. Nil: sts.amazonaws.com.
	Audiences []string
	// Role that can be assumed. "": arn:aws:iam::123456789012:role/publish.
	Role string
	// Trust is the role's trust policy. "": it takes every token for its audiences.
	Trust string
	// MaxSession is the longest session that the role permits. 0: an hour.
	MaxSession time.Duration
	// SessionLength is how long sessions really are. 0: as long as was asked for.
	SessionLength time.Duration
	// Kept tokens may be used again: they are in a file that may be read before it is rewritten.
	Kept bool
	// Ahead is how far our clock is ahead of the others'.
	Ahead time.Duration
}

// A Server is GitHub's issuer and AWS's STS in one. Its methods are safe for concurrent use.
type Server struct {
	URL string // of both; empty if it listens nowhere

	opts  Options
	trust *policy // nil: everybody
	http  *http.Server
	done  chan struct{}
	// requestToken is what a job shows to be given a token.
	requestToken string

	// mu guards everything below.
	mu         sync.Mutex
	tokenHook  func(n int) Fault
	assumeHook func(n int) Fault
	asked      int
	tried      int
	issued     []Token
	used       map[string]bool // by jti
	sessions   map[string]*Session
	order      []*Session
	refusals   []string
	violations []string
}

// New starts a server that listens at an address such as 127.0.0.1:0 or, to be reached
// from containers, that of a bridge. Close ends it.
func New(address string, o Options) (*Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	s, err := Handler("http://"+listener.Addr().String(), o)
	if err != nil {
		listener.Close()
		return nil, err
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		s.http.Serve(listener)
	}()
	return s, nil
}

// Handler returns a server that listens nowhere, and is reached at url.
func Handler(url string, o Options) (*Server, error) {
	switch o.Issuer {
	case "":
		o.Issuer = GitHubIssuer
	case Self:
		o.Issuer = url
	}
	if o.Audiences == nil {
		o.Audiences = []string{"sts.amazonaws.com"}
	}
	if o.Role == "" {
		o.Role = "arn:aws:iam::" + Account + ":role/publish"
	}
	if o.MaxSession == 0 {
		o.MaxSession = time.Hour
	}
	o.Job.setDefaults()
	s := &Server{URL: url, opts: o, requestToken: "request-" + random(16), used: map[string]bool{}, sessions: map[string]*Session{}}
	if o.Trust != "" {
		p, err := parsePolicy(o.Trust)
		if err != nil {
			return nil, fmt.Errorf("trust policy: %w", err)
		}
		s.trust = p
	}
	return s, nil
}

// Close ends a server that listens.
func (s *Server) Close() {
	if s.http != nil {
		s.http.Close()
		<-s.done
	}
}

// Role is the ARN of the role that can be assumed.
func (s *Server) Role() string { return s.opts.Role }

// Environment is what GitHub gives to a job that may ask for tokens, and where the SDK finds
// this STS.
func (s *Server) Environment() map[string]string {
	j := s.opts.Job
	return map[string]string{
		"GITHUB_ACTIONS":                 "true",
		"GITHUB_EVENT_NAME":              j.Event,
		"GITHUB_REPOSITORY":              j.Repository,
		"GITHUB_REPOSITORY_ID":           j.RepositoryID,
		"GITHUB_REPOSITORY_OWNER_ID":     j.OwnerID,
		"GITHUB_REF":                     j.Ref,
		"GITHUB_RUN_ID":                  "15112233445",
		"GITHUB_RUN_ATTEMPT":             "1",
		"ACTIONS_ID_TOKEN_REQUEST_URL":   s.URL + "/idtoken/15112233445?api-version=2.0",
		"ACTIONS_ID_TOKEN_REQUEST_TOKEN": s.requestToken,
		"AWS_ENDPOINT_URL_STS":           s.URL,
	}
}

// ServeHTTP is the issuer's configuration, its keys and its tokens below GET, and STS below POST.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	switch {
	case r.Method == http.MethodGet && r.URL.Path == "/.well-known/openid-configuration":
		s.configuration(w)
	case r.Method == http.MethodGet && r.URL.Path == "/.well-known/jwks":
		w.Header().Set("Content-Type", "application/json")
		w.Write(keys())
	case r.Method == http.MethodGet && r.URL.Path == "/idtoken/15112233445":
		s.giveToken(w, r)
	case r.Method == http.MethodPost && r.URL.Path == "/":
		s.assume(w, r)
	default:
		s.violate("%s %s: there is nothing of the kind", r.Method, r.URL.Path)
		http.NotFound(w, r)
	}
}

// now is the time by our clock.
func (s *Server) now() time.Time { return time.Now().Add(s.opts.Ahead) }

// HookTokens sets a function that returns the fault of each request for a token, counted from 1. Nil means no
// faults.
func (s *Server) HookTokens(f func(n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokenHook, s.asked = f, 0
}

// HookSTS sets a function that returns the fault of each request to STS, counted from 1. Nil means no faults. The
// token counts as used in any case.
func (s *Server) HookSTS(f func(n int) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.assumeHook, s.tried = f, 0
}

// Tokens are those that were given out, in order.
func (s *Server) Tokens() []Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.issued)
}

// Sessions are those that were begun, in order.
func (s *Server) Sessions() []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Session, 0, len(s.order))
	for _, one := range s.order {
		all = append(all, *one)
	}
	return all
}

// Tried returns the number of requests to STS since the last HookSTS.
func (s *Server) Tried() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tried
}

// Refusals returns the requests that Check did not permit.
func (s *Server) Refusals() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refusals)
}

// Violations returns the requests that should never have been sent.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

func (s *Server) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.violations = append(s.violations, fmt.Sprintf(format, args...))
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
