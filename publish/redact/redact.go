// Package redact hides passwords in URLs that are shown.
//
// A URL may contain a password or a token, https://user:password@host, and it may be malformed. So the functions
// here do not rely on a valid URL.
package redact

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// placeholder replaces a user, a password or a token.
const placeholder = "REDACTED"

// port matches a host, with or without a port. If it matches the text before a slash, the slash begins a path and
// is not part of a password.
var port = regexp.MustCompile(`^[^@:]*(\[[^\]]*\])?(:[0-9]*)?$`)

// slashless matches the beginning of a URL that lacks its slashes: its scheme, or the user.
var slashless = regexp.MustCompile(`^[^/.:@][^/:@\n]*:/?`)

// split returns the user and password in a text, and the text before and after them. ok is false if there are none.
func split(text string) (before, secret, after string, ok bool) {
	scheme, rest, found := strings.Cut(text, "//")
	scheme += "//"
	if !found {
		if scheme = slashless.FindString(text); scheme == "" {
			return "", "", "", false
		}
		rest = text[len(scheme):]
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 && (strings.Contains(rest[:i], "@") || port.MatchString(rest[:i])) {
		end = i
	} // otherwise the slash, question mark or hash is part of a password that was not encoded
	at := strings.LastIndexByte(rest[:end], '@')
	if at < 0 {
		return "", "", "", false
	}
	return scheme, rest[:at], rest[at:], true
}

// URL returns a URL with a placeholder for user and password.
func URL(text string) string {
	before, _, after, ok := split(text)
	if !ok {
		return text
	}
	return before + placeholder + after
}

// Has reports whether a URL has a user or a password.
func Has(text string) bool {
	_, _, _, ok := split(text)
	return ok
}

// Without returns a URL without user and password, for output that others use.
func Without(text string) string {
	before, _, after, ok := split(text)
	if !ok {
		return text
	}
	return before + after[1:]
}

// Secrets returns the secrets in a URL, as they are written and as they are sent. A user without a password is
// treated as a token.
func Secrets(text string) []string {
	_, info, _, ok := split(text)
	if !ok {
		return nil
	}
	secret := info
	if _, password, ok := strings.Cut(info, ":"); ok {
		secret = password
	}
	if secret == "" {
		return nil
	}
	all := []string{secret}
	if decoded, err := url.PathUnescape(secret); err == nil && decoded != secret {
		all = append(all, decoded)
	}
	if encoded := url.UserPassword("", secret).String()[1:]; encoded != secret {
		all = append(all, encoded)
	}
	return all
}

// Parse is like url.Parse, but its errors contain no password.
func Parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil {
		if n, portErr := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (portErr != nil || n == 0) {
			return nil, fmt.Errorf("%q is no URL: want a port of 1 to 65535", URL(text))
		}
		return u, nil
	}
	if Has(text) { // the mistake may be in the password
		return nil, fmt.Errorf("%q is no URL: in a password, encode every character but letters and digits, %%40 for @", URL(text))
	}
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return nil, fmt.Errorf("%q is no URL: %w", text, err)
}
