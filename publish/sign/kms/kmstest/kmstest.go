// Package kmstest is a stand-in for AWS KMS. It is stricter than the service: it refuses input that the service
// would ignore.
package kmstest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// Account and Region are those of all keys.
const (
	Account = "123456789012"
	Region  = "eu-central-1"
)

// A Fault is a response instead of the usual one.
type Fault struct {
	Status int
	Code   string
}

// A Key is a key of the stand-in. After the first request, use Server.Change to change its fields: requests of a
// client that has given up may still be running.
type Key struct {
	ID      string
	Spec    string
	Usage   string
	State   string
	Created time.Time
	Private crypto.Signer

	// Again makes the server hash the digest once more before it signs, as moto 5.2 does.
	Again bool
}

// ARN returns the ARN of the key.
func (k *Key) ARN() string { return "arn:aws:kms:" + Region + ":" + Account + ":key/" + k.ID }

// A Server is a KMS.
type Server struct {
	URL string

	mu      sync.Mutex // guards the fields below while a request is answered
	keys    map[string]*Key
	aliases map[string]*Key
	denied  []string
	faults  []Fault
	asked   map[string]int
	wrong   []string
}

// Start starts a server that stops when the test ends. The test fails if a request did not have the form that KMS
// requires.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{keys: make(map[string]*Key), aliases: make(map[string]*Key), asked: make(map[string]int)}
	server := httptest.NewServer(s)
	s.URL = server.URL
	t.Cleanup(func() {
		server.Close()
		for _, wrong := range s.wrong {
			t.Error("KMS: " + wrong)
		}
	})
	return s
}

// Add adds a key of RSA_4096, RSA_2048, ECC_NIST_P256 or another spec.
func (s *Server) Add(t testing.TB, spec, alias string) *Key {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &Key{
		ID: fmt.Sprintf("1234abcd-12ab-34cd-56ef-%012d", len(s.keys)), Spec: spec, Usage: "SIGN_VERIFY", State: "Enabled",
		Created: time.Now().Add(-time.Hour),
	}
	var err error
	switch spec {
	case "RSA_2048", "RSA_3072", "RSA_4096":
		var bits int
		fmt.Sscanf(spec, "RSA_%d", &bits)
		k.Private, err = rsa.GenerateKey(rand.Reader, bits)
	case "ECC_NIST_P256":
		k.Private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ECC_NIST_P384":
		k.Private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ECC_NIST_P521":
		k.Private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default: // only the name of the spec is known here
	}
	if err != nil {
		t.Fatal(err)
	}
	s.keys[k.ID] = k
	s.aliases["alias/"+alias] = k
	return k
}

// Certificate returns the public key of a key, as publish keys create makes it. It makes no request.
func (s *Server) Certificate(t testing.TB, alias string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.aliases["alias/"+alias]
	c := sign.Certificate{Key: k.Private.Public(), Created: k.Created.Truncate(time.Second), Name: "Cache releases", Email: "cache@example.org"}
	armored, err := c.Issue(t.Context(), inHand{k.Private}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return string(armored)
}

// inHand signs with a private key in memory.
type inHand struct{ crypto.Signer }

// SignDigest implements sign.Digester.
func (h inHand) SignDigest(_ context.Context, d sign.Digest) ([]byte, error) {
	return h.Sign(rand.Reader, d.Sum, d.Hash)
}

// Deny makes the server refuse actions such as kms:Sign.
func (s *Server) Deny(actions ...string) { s.mu.Lock(); defer s.mu.Unlock(); s.denied = actions }

// Fail makes the server answer the next requests with faults.
func (s *Server) Fail(faults ...Fault) { s.mu.Lock(); defer s.mu.Unlock(); s.faults = faults }

// Change calls a function that changes keys while no request is answered.
func (s *Server) Change(change func()) { s.mu.Lock(); defer s.mu.Unlock(); change() }

// Point makes an alias refer to another key.
func (s *Server) Point(alias string, k *Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aliases["alias/"+alias] = k
}

// Asked returns the number of requests for an operation, such as Sign.
func (s *Server) Asked(operation string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[operation]
}

// A request is the body of a request for any operation.
type request struct {
	KeyID            string `json:"KeyId"`
	Message          []byte
	MessageType      string
	SigningAlgorithm string
}

var scope = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/` + Region + `/kms/aws4_request, `)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has given up
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || r.Method != http.MethodPost || r.URL.Path != "/" || !scope.MatchString(r.Header.Get("Authorization")) {
		s.wrong = append(s.wrong, fmt.Sprintf("%s %s %q %q", r.Method, r.URL, r.Header.Get("X-Amz-Target"), r.Header.Get("Authorization")))
		s.fail(w, http.StatusBadRequest, "InvalidSignatureException", "")
		return
	}
	s.asked[operation]++
	if len(s.faults) > 0 {
		f := s.faults[0]
		s.faults = s.faults[1:]
		s.fail(w, f.Status, f.Code, "as the test wants it")
		return
	}
	var q request
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		s.wrong = append(s.wrong, fmt.Sprintf("%s: %v", operation, err))
		s.fail(w, http.StatusBadRequest, "SerializationException", err.Error())
		return
	}
	if slices.Contains(s.denied, "kms:"+operation) {
		s.fail(w, http.StatusBadRequest, "AccessDeniedException", "User is not authorized to perform: kms:"+operation)
		return
	}
	k := s.find(q.KeyID)
	if k == nil {
		s.fail(w, http.StatusBadRequest, "NotFoundException", "Key '"+q.KeyID+"' does not exist")
		return
	}
	switch operation {
	case "DescribeKey":
		s.answer(w, map[string]any{"KeyMetadata": map[string]any{
			"Arn": k.ARN(), "KeyId": k.ID, "CreationDate": float64(k.Created.UnixMilli()) / 1000, "KeyUsage": k.Usage, "KeyState": k.State, "KeySpec": k.Spec,
			"Enabled": k.State == "Enabled", "SigningAlgorithms": algorithms(k.Spec),
		}})
	case "GetPublicKey":
		s.publicKey(w, k)
	case "Sign":
		s.sign(w, k, q)
	default:
		s.wrong = append(s.wrong, "nobody should ask for "+operation)
		s.fail(w, http.StatusBadRequest, "UnknownOperationException", "")
	}
}

func (s *Server) find(id string) *Key {
	id = strings.TrimPrefix(id, "arn:aws:kms:"+Region+":"+Account+":")
	if k := s.aliases[id]; k != nil {
		return k
	}
	return s.keys[strings.TrimPrefix(id, "key/")]
}

// usable reports whether a key can be used. If it cannot, usable writes the response.
func (s *Server) usable(w http.ResponseWriter, k *Key) bool {
	switch {
	case k.State == "Disabled":
		s.fail(w, http.StatusBadRequest, "DisabledException", k.ARN()+" is disabled.")
	case k.State != "Enabled":
		s.fail(w, http.StatusBadRequest, "KMSInvalidStateException", k.ARN()+" is pending deletion.")
	case k.Usage != "SIGN_VERIFY":
		s.fail(w, http.StatusBadRequest, "InvalidKeyUsageException", k.ARN()+" key usage is "+k.Usage+" which is not valid for Sign.")
	default:
		return true
	}
	return false
}

func (s *Server) publicKey(w http.ResponseWriter, k *Key) {
	if k.State != "Enabled" && !s.usable(w, k) {
		return
	}
	der := []byte("no key")
	if k.Private != nil {
		der, _ = x509.MarshalPKIXPublicKey(k.Private.Public())
	}
	s.answer(w, map[string]any{"KeyId": k.ARN(), "KeySpec": k.Spec, "KeyUsage": k.Usage, "PublicKey": der, "SigningAlgorithms": algorithms(k.Spec)})
}

// algorithms returns the signing algorithms of a key spec.
func algorithms(spec string) []string {
	switch {
	case strings.HasPrefix(spec, "RSA_"):
		return []string{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	case spec == "ECC_NIST_P384":
		return []string{"ECDSA_SHA_384"}
	case spec == "ECC_NIST_P521":
		return []string{"ECDSA_SHA_512"}
	case spec == "ECC_NIST_P256":
		return []string{"ECDSA_SHA_256"}
	case spec == "ECC_NIST_EDWARDS25519":
		return []string{"ED25519_SHA_512", "ED25519_PH_SHA_512"}
	}
	return []string{spec}
}

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

func (s *Server) sign(w http.ResponseWriter, k *Key, q request) {
	if !s.usable(w, k) {
		return
	}
	if !slices.Contains(algorithms(k.Spec), q.SigningAlgorithm) {
		s.fail(w, http.StatusBadRequest, "InvalidKeyUsageException", "Algorithm "+q.SigningAlgorithm+" is incompatible with key spec "+k.Spec+".")
		return
	}
	h := hashes[q.SigningAlgorithm[len(q.SigningAlgorithm)-3:]]
	if q.MessageType != "DIGEST" || len(q.Message) != h.Size() {
		s.wrong = append(s.wrong, fmt.Sprintf("%d bytes of type %q for %s", len(q.Message), q.MessageType, q.SigningAlgorithm))
		s.fail(w, http.StatusBadRequest, "ValidationException", "Digest is invalid length for algorithm "+q.SigningAlgorithm+".")
		return
	}
	digest := q.Message
	if k.Again {
		hasher := h.New()
		hasher.Write(digest)
		digest = hasher.Sum(nil)
	}
	signature, err := k.Private.Sign(rand.Reader, digest, h)
	if err != nil {
		s.fail(w, http.StatusInternalServerError, "KMSInternalException", err.Error())
		return
	}
	s.answer(w, map[string]any{"KeyId": k.ARN(), "Signature": signature, "SigningAlgorithm": q.SigningAlgorithm})
}

func (s *Server) answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(w).Encode(body)
}

func (s *Server) fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	var b bytes.Buffer
	_ = json.NewEncoder(&b).Encode(map[string]string{"__type": code, "message": message})
	_, _ = w.Write(b.Bytes())
}
