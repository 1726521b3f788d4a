package sessiontest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Job is what tokens tell about.
type Job struct {
	Repository   string // "": vantagecompute/slurm-factory
	RepositoryID string // "": 912345678
	OwnerID      string // "": 81234567
	Ref          string // "": refs/heads/main
	Environment  string // "": none
	Event        string // "": workflow_dispatch
	// Immutable subjects carry the numbers of owner and repository.
	Immutable bool
	// Subject that a template made. "": the usual one.
	Subject string
	// Claims beside the usual ones, or instead of them.
	Claims map[string]any
}

func (j *Job) setDefaults() {
	for _, f := range []struct {
		field *string
		usual string
	}{
		{&j.Repository, "vantagecompute/slurm-factory"},
		{&j.RepositoryID, "912345678"},
		{&j.OwnerID, "81234567"},
		{&j.Ref, "refs/heads/main"},
		{&j.Event, "workflow_dispatch"},
	} {
		if *f.field == "" {
			*f.field = f.usual
		}
	}
}

// subject is as GitHub makes it when no template says otherwise.
func (j Job) subject() string {
	if j.Subject != "" {
		return j.Subject
	}
	owner, name, _ := strings.Cut(j.Repository, "/")
	if j.Immutable {
		owner, name = owner+"@"+j.OwnerID, name+"@"+j.RepositoryID
	}
	run := "ref:" + j.Ref
	switch {
	case j.Environment != "":
		run = "environment:" + strings.ReplaceAll(j.Environment, ":", "%3A")
	case j.Event == "pull_request":
		run = "pull_request"
	}
	return "repo:" + owner + "/" + name + ":" + run
}

// claims are all that GitHub writes into a token.
func (j Job) claims() map[string]any {
	owner, _, _ := strings.Cut(j.Repository, "/")
	workflow := j.Repository + "/.github/workflows/publish.yml@" + j.Ref
	c := map[string]any{
		"sub":                   j.subject(),
		"repository":            j.Repository,
		"repository_id":         j.RepositoryID,
		"repository_owner":      owner,
		"repository_owner_id":   j.OwnerID,
		"repository_visibility": "public",
		"ref":                   j.Ref,
		"ref_type":              "branch",
		"ref_protected":         "true",
		"sha":                   "d44589f1c0ffee00d44589f1c0ffee00d44589f1",
		"event_name":            j.Event,
		"workflow":              "publish",
		"workflow_ref":          workflow,
		"workflow_sha":          "d44589f1c0ffee00d44589f1c0ffee00d44589f1",
		"job_workflow_ref":      workflow,
		"job_workflow_sha":      "d44589f1c0ffee00d44589f1c0ffee00d44589f1",
		"run_id":                "15112233445",
		"run_number":            "7",
		"run_attempt":           "1",
		"actor":                 "octocat",
		"actor_id":              "583231",
		"base_ref":              "",
		"head_ref":              "",
		"runner_environment":    "github-hosted",
	}
	if j.Environment != "" {
		c["environment"] = j.Environment
	}
	maps.Copy(c, j.Claims)
	return c
}

// A Token is one that was given out.
type Token struct {
	JWT     string
	ID      string // its jti
	Expires time.Time
}

// Tokens of GitHub live for five minutes, and are valid since ten minutes ago.
const (
	tokenLife = 5 * time.Minute
	tokenPast = 10 * time.Minute
)

// giveToken answers a job as GitHub does.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	fault := None
	if s.tokenHook != nil {
		fault = s.tokenHook(s.asked)
	}
	s.mu.Unlock()
	if fault.happens(w, r) {
		return
	}
	audience := r.URL.Query().Get("audience")
	switch {
	case r.Header.Get("Authorization") != "Bearer "+s.requestToken:
		http.Error(w, `{"message":"Bad credentials"}`, http.StatusUnauthorized)
		return
	case r.URL.Query().Get("api-version") != "2.0":
		s.violate("a request for a token without what its URL had: %s", r.URL.RawQuery)
	case audience == "":
		s.violate("a request for a token for nobody")
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"value": s.Issue(audience).JWT, "count": 1})
}

// Issue makes a token, as if a job had asked for it.
func (s *Server) Issue(audience string) Token {
	now := s.now()
	t := Token{ID: random(16), Expires: now.Add(tokenLife).Truncate(time.Second)}
	claims := s.opts.Job.claims()
	claims["iss"], claims["aud"], claims["jti"] = s.opts.Issuer, audience, t.ID
	claims["iat"], claims["nbf"], claims["exp"] = now.Unix(), now.Add(-tokenPast).Unix(), t.Expires.Unix()
	maps.Copy(claims, s.opts.Job.Claims)
	t.JWT = sign(claims)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issued = append(s.issued, t)
	return t
}

const keyID = "cc413527173d5a05976018659d74aa1dc8395fb1"

// signingKey is the same for all issuers of a process: making one takes long.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func sign(claims map[string]any) string {
	text := encode(map[string]string{"typ": "JWT", "alg": "RS256", "kid": keyID, "x5t": "zEE1JxdVoFl2AYZZ10qh3Ig5X7E"}) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(nil, signingKey(), crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (s *Server) configuration(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"issuer":                                s.opts.Issuer,
		"jwks_uri":                              s.URL + "/.well-known/jwks",
		"subject_types_supported":               []string{"public", "pairwise"},
		"response_types_supported":              []string{"id_token"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
		"scopes_supported":                      []string{"openid"},
		"claims_supported":                      []string{"sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "repository", "repository_id"},
	})
}

type jwk struct {
	Kty string `json:"kty"`
	Alg string `json:"alg"`
	Use string `json:"use"`
	Kid string `json:"kid"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// keys is the document in which others find the public key.
func keys() []byte {
	public := signingKey().PublicKey
	text, err := json.Marshal(map[string][]jwk{"keys": {{
		Kty: "RSA", Alg: "RS256", Use: "sig", Kid: keyID,
		N: base64.RawURLEncoding.EncodeToString(public.N.Bytes()),
		E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(public.E)).Bytes()),
	}}})
	if err != nil {
		panic(err)
	}
	return text
}

// publicKey looks a key up in a document of keys.
func publicKey(document []byte, id string) (*rsa.PublicKey, error) {
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(document, &set); err != nil {
		return nil, err
	}
	for _, k := range set.Keys {
		if k.Kid != id || k.Kty != "RSA" {
			continue
		}
		n, err1 := base64.RawURLEncoding.DecodeString(k.N)
		e, err2 := base64.RawURLEncoding.DecodeString(k.E)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("key %s is not in base64", id)
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
	}
	return nil, fmt.Errorf("no key %q", id)
}
