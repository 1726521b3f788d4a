package sessiontest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func serve(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Handler("https://sts.example", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// form is a good request to STS.
func form(s *Server) url.Values {
	return url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {s.Role()}, "RoleSessionName": {"run-1"},
		"DurationSeconds": {"3600"}, "WebIdentityToken": {s.Issue("sts.amazonaws.com").JWT},
	}
}

func post(s *Server, form url.Values, header ...string) (status int, body string) {
	r := httptest.NewRequest(http.MethodPost, "https://sts.example/", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// change decodes a part of a token, changes it, and puts it back.
func change(token string, part int, name string, value any) string {
	parts := strings.Split(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(parts[part])
	var claims map[string]any
	json.Unmarshal(text, &claims)
	claims[name] = value
	parts[part] = encode(claims)
	return strings.Join(parts, ".")
}

func TestSTSRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		set      func(f url.Values)
		code     string
		violates bool
	}{
		"no token": {func(f url.Values) { f.Del("WebIdentityToken") }, "InvalidIdentityToken", false},
		"no JWT":   {func(f url.Values) { f.Set("WebIdentityToken", "a.b.c") }, "InvalidIdentityToken", false},
		"changed claims": {func(f url.Values) {
			f.Set("WebIdentityToken", change(f.Get("WebIdentityToken"), 1, "sub", "repo:me/mine:ref:x"))
		}, "InvalidIdentityToken", false},
		"another key":            {func(f url.Values) { f.Set("WebIdentityToken", change(f.Get("WebIdentityToken"), 0, "kid", "other")) }, "InvalidIdentityToken", false},
		"another algorithm":      {func(f url.Values) { f.Set("WebIdentityToken", change(f.Get("WebIdentityToken"), 0, "alg", "none")) }, "InvalidIdentityToken", false},
		"another role":           {func(f url.Values) { f.Set("RoleArn", "arn:aws:iam::123456789012:role/other") }, "AccessDenied", false},
		"a short session":        {func(f url.Values) { f.Set("DurationSeconds", "899") }, "ValidationError", false},
		"a long session":         {func(f url.Values) { f.Set("DurationSeconds", "3601") }, "ValidationError", false},
		"no duration":            {func(f url.Values) { f.Del("DurationSeconds") }, "ValidationError", false},
		"a session without name": {func(f url.Values) { f.Del("RoleSessionName") }, "ValidationError", false},
		"a name with a space":    {func(f url.Values) { f.Set("RoleSessionName", "a run") }, "ValidationError", false},
		"a large policy":         {func(f url.Values) { f.Set("Policy", strings.Repeat(" ", 2049)) }, "ValidationError", true},
		"no policy":              {func(f url.Values) { f.Set("Policy", "{}") }, "MalformedPolicyDocument", true},
		"an unknown element": {func(f url.Values) {
			f.Set("Policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"x","Resource":"*"}]}`)
		}, "MalformedPolicyDocument", true},
		"an unknown operator": {func(f url.Values) {
			f.Set("Policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"x","Resource":"*","Condition":{"IpAddress":{"k":"v"}}}]}`)
		}, "MalformedPolicyDocument", true},
		"a resource that is none": {func(f url.Values) {
			f.Set("Policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"x","Resource":"bucket"}]}`)
		}, "MalformedPolicyDocument", true},
		"a policy beyond Latin-1": {func(f url.Values) {
			f.Set("Policy", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"x","Resource":"arn:aws:s3:::b/漢"}]}`)
		}, "MalformedPolicyDocument", true},
		"another action":   {func(f url.Values) { f.Set("Action", "AssumeRoleWithSAML") }, "InvalidAction", true},
		"nobody's request": {func(f url.Values) { f.Set("Action", "AssumeRole") }, "MissingAuthenticationToken", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Options{})
			f := form(s)
			row.set(f)
			status, body := post(s, f)
			if status != 400 && status != 403 || !strings.Contains(body, "<Code>"+row.code+"</Code>") {
				t.Errorf("%d %s", status, body)
			}
			if violates := len(s.Violations()) > 0; violates != row.violates {
				t.Errorf("violations: %q", s.Violations())
			}
			if len(s.Sessions()) != 0 {
				t.Error("there is a session")
			}
		})
	}
}

func TestATokenIsTakenOnce(t *testing.T) {
	s := serve(t, Options{})
	f := form(s)
	if status, body := post(s, f); status != 200 {
		t.Fatal(body)
	}
	if status, _ := post(s, f); status != 400 || len(s.Violations()) != 1 || len(s.Sessions()) != 1 {
		t.Errorf("%d, violations: %q, %d sessions", status, s.Violations(), len(s.Sessions()))
	}
	// Nor is one that was refused for something else.
	s = serve(t, Options{})
	s.HookSTS(First(1, Unavailable))
	f = form(s)
	post(s, f)
	if status, _ := post(s, f); status != 400 {
		t.Errorf("%d", status)
	}
}

func TestTokensHaveTheirTime(t *testing.T) {
	for name, row := range map[string]struct {
		wait time.Duration
		code int
	}{"new": {0, 200}, "just": {tokenLife - time.Second, 200}, "over": {tokenLife, 400}} {
		synctest.Test(t, func(t *testing.T) {
			s := serve(t, Options{})
			f := form(s)
			time.Sleep(row.wait)
			if status, body := post(s, f); status != row.code {
				t.Errorf("%s: %d %s", name, status, body)
			}
		})
	}
}

func TestARequestToSTSIsNotSigned(t *testing.T) {
	s := serve(t, Options{})
	post(s, form(s), "Authorization", "AWS4-HMAC-SHA256 Credential=AKIA/x")
	if len(s.Violations()) != 1 {
		t.Errorf("%q", s.Violations())
	}
}

// The endpoint for tokens gives them to the job only, and with what a job on GitHub has in them.
func TestTokens(t *testing.T) {
	s := serve(t, Options{Job: Job{Environment: "release", Claims: map[string]any{"enterprise": "e"}}})
	env := s.Environment()
	ask := func(url, bearer string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, url, nil)
		r.Header.Set("Authorization", "Bearer "+bearer)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Result()
	}
	good := env["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=ours"
	if r := ask(good, "other"); r.StatusCode != 401 {
		t.Errorf("to a stranger: %d", r.StatusCode)
	}
	var answer struct{ Value string }
	if err := json.NewDecoder(ask(good, env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]).Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	claims, signed := open(answer.Value)
	if !signed {
		t.Error("it is not signed")
	}
	want := map[string]any{"aud": "ours", "iss": GitHubIssuer, "sub": "repo:vantagecompute/slurm-factory:environment:release", "environment": "release", "enterprise": "e"}
	for name, value := range want {
		if claims[name] != value {
			t.Errorf("%s is %v", name, claims[name])
		}
	}
	iat := claims["iat"].(float64)
	if claims["exp"].(float64)-iat != 300 || iat-claims["nbf"].(float64) != 600 {
		t.Errorf("times: %v", claims)
	}
	if len(s.Violations()) != 0 {
		t.Errorf("%q", s.Violations())
	}
	ask(strings.Replace(good, "api-version=2.0&", "", 1), env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
	if len(s.Violations()) != 1 {
		t.Error("the query of the URL may be lost")
	}
}

// Whoever has the URL can find out whether a token is good.
func TestDiscovery(t *testing.T) {
	s, err := New("127.0.0.1:0", Options{Issuer: Self})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	get := func(url string, into any) {
		r, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	var config struct {
		Issuer string
		Keys   string `json:"jwks_uri"`
	}
	get(s.URL+"/.well-known/openid-configuration", &config)
	var set json.RawMessage
	get(config.Keys, &set)
	if _, err := publicKey(set, keyID); err != nil || config.Issuer != s.URL {
		t.Errorf("%+v, %v", config, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

func asked(s Session, method, target string) *http.Request {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/s3/aws4_request", s.AccessKey))
	r.Header.Set("X-Amz-Security-Token", s.Token)
	return r
}

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, Options{SessionLength: 2 * time.Second})
		is, err := s.Begin("")
		if err != nil {
			t.Fatal(err)
		}
		code := func(change func(*http.Request)) string {
			r := asked(is, http.MethodGet, "/bucket/key")
			change(r)
			if refusal := s.Check(r); refusal != nil {
				return refusal.Code
			}
			return ""
		}
		for want, change := range map[string]func(*http.Request){
			"":                   func(*http.Request) {},
			"InvalidToken":       func(r *http.Request) { r.Header.Del("X-Amz-Security-Token") },
			"InvalidAccessKeyId": func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=OTHER/x") },
		} {
			if got := code(change); got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		time.Sleep(2*time.Second - 1)
		if got := code(func(*http.Request) {}); got != "" {
			t.Errorf("at the end: %q", got)
		}
		time.Sleep(time.Nanosecond)
		if got := code(func(*http.Request) {}); got != "ExpiredToken" {
			t.Errorf("after the end: %q", got)
		}
		if len(s.Refusals()) != 3 {
			t.Errorf("%q", s.Refusals())
		}
	})
}

// An object that is not there is forbidden to a session that may list a part of the bucket.
func TestGuardHidesWhatIsNotThere(t *testing.T) {
	const narrow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject"],"Resource":"arn:aws:s3:::b/p/*"},
		{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::b","Condition":{"StringLike":{"s3:prefix":"p/*"}}}]}`
	wide := strings.Replace(narrow, `,"Condition":{"StringLike":{"s3:prefix":"p/*"}}`, "", 1)
	for name, row := range map[string]struct {
		policy string
		status int
		body   string
	}{"narrow": {narrow, 403, "not authorized to perform: s3:ListBucket"}, "wide": {wide, 404, "NoSuchKey"}, "none": {"", 404, "NoSuchKey"}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Options{})
			is, err := s.Begin(row.policy)
			if err != nil {
				t.Fatal(err)
			}
			guarded := s.Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "there") {
					io.WriteString(w, "it is")
					return
				}
				http.Error(w, "NoSuchKey", 404)
			}))
			w := httptest.NewRecorder()
			guarded.ServeHTTP(w, asked(is, http.MethodGet, "/b/p/gone"))
			if w.Code != row.status || !strings.Contains(w.Body.String(), row.body) || strings.Contains(w.Body.String(), "NoSuchKey") != (row.status == 404) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
			w = httptest.NewRecorder()
			guarded.ServeHTTP(w, asked(is, http.MethodGet, "/b/p/there"))
			if w.Code != 200 || w.Body.String() != "it is" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestTrustPolicies(t *testing.T) {
	const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"token.actions.githubusercontent.com:aud":"sts.amazonaws.com"},
		"StringLike":{"token.actions.githubusercontent.com:sub":"repo:vantagecompute/slurm-factory:*"}}}]}`
	for name, row := range map[string]struct {
		o      Options
		status int
	}{
		"fits":             {Options{Trust: policy}, 200},
		"immutable":        {Options{Trust: policy, Job: Job{Immutable: true}}, 403},
		"another case":     {Options{Trust: policy, Job: Job{Repository: "VantageCompute/slurm-factory"}}, 403},
		"another provider": {Options{Trust: strings.ReplaceAll(policy, "provider/token", "provider/other")}, 403},
	} {
		s := serve(t, row.o)
		if status, body := post(s, form(s)); status != row.status {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if _, err := Handler("", Options{Trust: "{}"}); err == nil {
		t.Error("a trust policy that is none")
	}
}

func TestLike(t *testing.T) {
	for pattern, rows := range map[string]map[string]bool{
		"":          {"": true, "a": false},
		"a*":        {"a": true, "abc": true, "b": false},
		"*c":        {"abc": true, "c": true, "cd": false},
		"a?c":       {"abc": true, "ac": false},
		"a${*}":     {"a*": true, "ab": false, "a": false},
		"${?}${$}*": {"?$x": true, "a$x": false},
	} {
		for s, want := range rows {
			if like(pattern, s) != want {
				t.Errorf("%q matches %q: %v", s, pattern, !want)
			}
		}
	}
}

// Environment is what a job has, and nothing of what it should not need.
func TestEnvironment(t *testing.T) {
	s := serve(t, Options{})
	env := s.Environment()
	for name := range maps.Keys(env) {
		if !strings.HasPrefix(name, "GITHUB_") && !strings.HasPrefix(name, "ACTIONS_ID_TOKEN_") && name != "AWS_ENDPOINT_URL_STS" {
			t.Error(name)
		}
	}
}
