package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$`)

// checkSignature returns S3's code for what is wrong with a signature.
func (s *Server) checkSignature(r *http.Request) (code string) {
	a := authorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if a == nil {
		return "AccessDenied"
	}
	access, day, region, signed, signature := a[1], a[2], a[3], a[4], a[5]
	secret := s.secret(access)
	if secret == "" {
		return "InvalidAccessKeyId"
	}
	if region != s.opts.Region {
		return "AuthorizationHeaderMalformed"
	}
	if signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date")); err != nil || time.Since(signed).Abs() > 15*time.Minute {
		return "RequestTimeTooSkewed"
	}
	scope := day + "/" + region + "/s3/aws4_request"
	text := "AWS4-HMAC-SHA256\n" + r.Header.Get("X-Amz-Date") + "\n" + scope + "\n" + hexSum(canonical(r, strings.Split(signed, ";")))
	key := []byte("AWS4" + secret)
	for _, step := range []string{day, region, "s3", "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(step))
		key = m.Sum(nil)
	}
	if hex.EncodeToString(key) != signature {
		return "SignatureDoesNotMatch"
	}
	return ""
}

func (s *Server) secret(accessKey string) string {
	switch {
	case s.opts.Secrets != nil:
		return s.opts.Secrets(accessKey)
	case accessKey == s.opts.AccessKey:
		return s.opts.SecretKey
	}
	return ""
}

func hexSum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// canonical returns the request in the form that is signed.
func canonical(r *http.Request, signed []string) string {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	path, _ = url.PathUnescape(path)
	var pairs []string
	for _, pair := range strings.Split(query, "&") {
		if pair == "" {
			continue
		}
		k, v, _ := strings.Cut(pair, "=")
		k, _ = url.QueryUnescape(k)
		v, _ = url.QueryUnescape(v)
		pairs = append(pairs, escape(k, "")+"="+escape(v, ""))
	}
	slices.Sort(pairs)
	var b strings.Builder
	b.WriteString(r.Method + "\n" + escape(path, "/") + "\n" + strings.Join(pairs, "&") + "\n")
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = r.Header.Get("Content-Length")
			if value == "" {
				value = strconv.FormatInt(r.ContentLength, 10)
			}
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	b.WriteString("\n" + strings.Join(signed, ";") + "\n" + r.Header.Get("X-Amz-Content-Sha256"))
	return b.String()
}

// escape encodes all but what S3 says must not be encoded.
func escape(s, also string) string {
	const unreserved = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(unreserved, c) >= 0 || strings.IndexByte(also, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(hex.EncodeToString([]byte{c})))
		}
	}
	return b.String()
}
