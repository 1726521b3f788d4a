package sessiontest

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A Session is a session that was begun.
type Session struct {
	AccessKey, SecretKey, Token string

	ID       string // the jti of the token that it was begun with
	Role     string
	Name     string
	Policy   string // inline session policy; "": none
	Asked    time.Duration
	Begun    time.Time
	Expires  time.Time
	Requests int // that Check let pass

	policy *policy
}

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// Limits of STS.
const (
	shortest   = 900 * time.Second
	policySize = 2048
)

// assume is AssumeRoleWithWebIdentity, AssumeRole of a session that has begun, or GetCallerIdentity.
func (s *Server) assume(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err == nil {
		switch r.PostForm.Get("Action") {
		case "AssumeRole":
			s.chain(w, r)
			return
		case "GetCallerIdentity":
			s.identify(w, r)
			return
		}
	}
	form, ok := s.form(w, r)
	if !ok {
		return
	}
	fault := s.try()
	claims, wrong := s.verify(form.Get("WebIdentityToken"))
	if fault.happens(w, r) || wrong.happens(w, r) {
		return
	}
	session, wrong := s.begin(form, claims)
	if wrong.happens(w, r) {
		return
	}
	s.answer(w, session, claims)
}

// try counts an attempt and returns its fault.
func (s *Server) try() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried++
	if s.assumeHook != nil {
		return s.assumeHook(s.tried)
	}
	return None
}

// chain is AssumeRole.
func (s *Server) chain(w http.ResponseWriter, r *http.Request) {
	if s.try().happens(w, r) {
		return
	}
	by := s.caller(w, r)
	if by == nil {
		return
	}
	made, wrong := s.begin(r.PostForm, map[string]any{"jti": ""})
	if wrong == Denied {
		wrong = Refuse(403, "AccessDenied", fmt.Sprintf("User: %s is not authorized to perform: sts:AssumeRole on resource: %s", by.arn(), r.PostForm.Get("RoleArn")))
	}
	if wrong.happens(w, r) {
		return
	}
	s.answerChained(w, made)
}

// caller returns the session that a request is signed with; nil: the request was refused.
func (s *Server) caller(w http.ResponseWriter, r *http.Request) *Session {
	a := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if a == nil {
		Refuse(403, "MissingAuthenticationToken", "Request is missing Authentication Token").happens(w, r)
		return nil
	}
	s.mu.Lock()
	by := s.sessions[a[1]]
	known := by != nil && r.Header.Get("X-Amz-Security-Token") == by.Token && s.now().Before(by.Expires)
	s.mu.Unlock()
	if !known {
		Refuse(403, "InvalidClientTokenId", "The security token included in the request is invalid").happens(w, r)
		return nil
	}
	return by
}

// identify is GetCallerIdentity, which no policy can deny.
func (s *Server) identify(w http.ResponseWriter, r *http.Request) {
	if by := s.caller(w, r); by != nil {
		fmt.Fprintf(w, `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>`+
			`<Arn>%s</Arn><UserId>AROA</UserId><Account>%s</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, by.arn(), Account)
	}
}

// Begin begins a session of an hour without a token, as a test wants it.
func (s *Server) Begin(policy string) (Session, error) {
	form := url.Values{"RoleArn": {s.opts.Role}, "RoleSessionName": {"test"}, "DurationSeconds": {"3600"}, "Policy": {policy}}
	made, wrong := s.begin(form, map[string]any{"jti": ""})
	if wrong != None {
		return Session{}, fmt.Errorf("%s: %s", wrong.code, wrong.message)
	}
	return *made, nil
}

// form reads a request to STS, which must not be signed: no key exists yet.
func (s *Server) form(w http.ResponseWriter, r *http.Request) (url.Values, bool) {
	if r.Header.Get("Authorization") != "" || r.URL.RawQuery != "" {
		s.violate("a request to STS that is signed, or has a query")
	}
	if err := r.ParseForm(); err != nil || r.PostForm.Get("Action") != "AssumeRoleWithWebIdentity" || r.PostForm.Get("Version") != "2011-06-15" {
		s.violate("a request to STS that is none: %v", r.PostForm)
		Refuse(400, "InvalidAction", "Could not find operation "+r.PostForm.Get("Action")).happens(w, r)
		return nil, false
	}
	return r.PostForm, true
}

// verify checks every claim of a token, and accepts it once.
func (s *Server) verify(token string) (map[string]any, Fault) {
	claims, signed := open(token)
	if claims == nil {
		return nil, BadToken
	}
	jti, _ := claims["jti"].(string)
	s.mu.Lock()
	again := s.used[jti] && !s.opts.Kept
	s.used[jti] = true
	s.mu.Unlock()
	now := s.now().Unix()
	switch {
	case !signed:
		return nil, BadSignature
	case again:
		s.violate("a token was shown twice")
		return nil, BadToken
	case claims["iss"] != s.opts.Issuer:
		return nil, NoProvider
	case !slices.Contains(s.opts.Audiences, claims["aud"].(string)):
		return nil, WrongAudience
	case int64(claims["exp"].(float64)) <= now:
		return nil, Expired
	case int64(claims["nbf"].(float64)) > now:
		return nil, TooOld
	}
	return claims, None
}

// open decodes a token and checks its signature by the published keys.
func open(token string) (claims map[string]any, signed bool) {
	part := strings.Split(token, ".")
	if len(part) != 3 {
		return nil, false
	}
	var head struct{ Alg, Kid string }
	for i, into := range []any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(part[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return nil, false
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(part[2])
	if err != nil || head.Alg != "RS256" {
		return claims, false
	}
	key, err := publicKey(keys(), head.Kid)
	if err != nil {
		return claims, false
	}
	sum := sha256.Sum256([]byte(part[0] + "." + part[1]))
	return claims, rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
}

// begin makes a session of a request whose token is good.
func (s *Server) begin(form url.Values, claims map[string]any) (*Session, Fault) {
	seconds, err := strconv.Atoi(form.Get("DurationSeconds"))
	asked := time.Duration(seconds) * time.Second
	document := form.Get("Policy")
	switch {
	case !sessionName.MatchString(form.Get("RoleSessionName")):
		return nil, invalid("roleSessionName", `Member must satisfy regular expression pattern: [\w+=,.@-]*`)
	case err != nil, asked < shortest:
		return nil, invalid("durationSeconds", "Member must have value greater than or equal to 900")
	case utf8.RuneCountInString(document) > policySize:
		s.violate("a session policy of %d characters", utf8.RuneCountInString(document))
		return nil, invalid("policy", "Member must have length less than or equal to 2048")
	case form.Get("RoleArn") != s.opts.Role, !s.trusts(claims):
		return nil, Denied
	case asked > s.opts.MaxSession:
		return nil, TooLong
	}
	made := &Session{
		AccessKey: "ASIA" + strings.ToUpper(random(8)), SecretKey: "secret/" + random(16), Token: "session//" + random(32),
		ID: claims["jti"].(string), Role: form.Get("RoleArn"), Name: form.Get("RoleSessionName"),
		Policy: document, Asked: asked, Begun: s.now(),
	}
	if document != "" {
		if made.policy, err = parsePolicy(document); err != nil {
			s.violate("a session policy that is none: %v", err)
			return nil, PolicyMalformed
		}
	}
	length := asked
	if s.opts.SessionLength != 0 {
		length = s.opts.SessionLength
	}
	made.Expires = made.Begun.Add(length).Truncate(time.Second) // as AWS writes it
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[made.AccessKey] = made
	s.order = append(s.order, made)
	return made, None
}

func invalid(field, constraint string) Fault {
	return Refuse(400, "ValidationError", "1 validation error detected: Value at '"+field+"' failed to satisfy constraint: "+constraint)
}

// trusts evaluates the role's trust policy. Claims are condition keys below the issuer's name.
func (s *Server) trusts(claims map[string]any) bool {
	if s.trust == nil {
		return true
	}
	issuer := strings.TrimPrefix(s.opts.Issuer, "https://")
	context := map[string]string{}
	for name, value := range claims {
		if text, ok := value.(string); ok {
			context[issuer+":"+name] = text
		}
	}
	account := strings.Split(s.opts.Role, ":")[4]
	partition := strings.Split(s.opts.Role, ":")[1]
	return s.trust.allows(request{
		action:    "sts:AssumeRoleWithWebIdentity",
		principal: "arn:" + partition + ":iam::" + account + ":oidc-provider/" + issuer,
		keys:      context,
	})
}

// arn is how AWS names the identity of a session.
func (s *Session) arn() string {
	part := strings.Split(s.Role, ":")
	role := s.Role[strings.LastIndex(s.Role, "/")+1:]
	return "arn:" + part[1] + ":sts::" + part[4] + ":assumed-role/" + role + "/" + s.Name
}

// What an answer has of a session.
type (
	xmlUser struct {
		ARN string `xml:"Arn"`
		ID  string `xml:"AssumedRoleId"`
	}
	xmlCredentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	}
)

func (s *Session) xml() (xmlUser, xmlCredentials) {
	return xmlUser{s.arn(), "AROA" + strings.ToUpper(random(8)) + ":" + s.Name},
		xmlCredentials{s.AccessKey, s.SecretKey, s.Token, s.Expires.UTC().Format("2006-01-02T15:04:05Z")}
}

func (s *Server) answer(w http.ResponseWriter, made *Session, claims map[string]any) {
	type result struct {
		SubjectFromWebIdentityToken string
		Audience                    any
		AssumedRoleUser             xmlUser
		Credentials                 xmlCredentials
		Provider                    string
		PackedPolicySize            int
	}
	part := strings.Split(s.opts.Role, ":")
	user, credentials := made.xml()
	writeXML(w, http.StatusOK, struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
		Result    result   `xml:"AssumeRoleWithWebIdentityResult"`
		RequestID string   `xml:"ResponseMetadata>RequestId"`
	}{
		Result: result{
			SubjectFromWebIdentityToken: claims["sub"].(string),
			Audience:                    claims["aud"],
			AssumedRoleUser:             user,
			Credentials:                 credentials,
			Provider:                    "arn:" + part[1] + ":iam::" + part[4] + ":oidc-provider/" + strings.TrimPrefix(s.opts.Issuer, "https://"),
			PackedPolicySize:            len(made.Policy) * 100 / (2 * policySize),
		},
		RequestID: random(16),
	})
}

func (s *Server) answerChained(w http.ResponseWriter, made *Session) {
	type result struct {
		AssumedRoleUser xmlUser
		Credentials     xmlCredentials
	}
	user, credentials := made.xml()
	writeXML(w, http.StatusOK, struct {
		XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
		Result    result   `xml:"AssumeRoleResult"`
		RequestID string   `xml:"ResponseMetadata>RequestId"`
	}{Result: result{user, credentials}, RequestID: random(16)})
}
