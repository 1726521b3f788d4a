// Package redact keeps passwords in URLs out of what is shown.
//
// Some people write a password or a token into a URL, https://user:password@host, and write it wrong.
// So nothing here relies on the URL being one.
package redact

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// placeholder stands where a user, a password or a token was.
const placeholder = "REDACTED"

// port matches what may follow a host: the path is not part of a password then.
var port = regexp.MustCompile(`^[^@:]*(\[[^\]]*\])?(:[0-9]*)?$`)

// slashless matches the beginning of a URL in which slashes were forgotten: its scheme, or the user.
var slashless = regexp.MustCompile(`^[^/.:@][^/:@\n]*:/?`)

// split takes a text apart around its user and password; ok is false if it has none.
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
	} // else that slash, question mark or hash is one of a password that was not encoded
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

// Without returns a URL without user and password, for use by others.
func Without(text string) string {
	before, _, after, ok := split(text)
	if !ok {
		return text
	}
	return before + after[1:]
}

// Secrets are what must not be shown of a URL, as it was written and as it is sent. A user without a
// password is taken for a token.
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

// Parse is url.Parse with errors that show no password.
func Parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil {
		if n, portErr := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (portErr != nil || n == 0) {
			return nil, fmt.Errorf("%q is no URL: want a port of 1 to 65535", URL(text))
		}
		return u, nil
	}
	if Has(text) { // what is wrong with it may be in the password
		return nil, fmt.Errorf("%q is no URL: in a password, encode every character but letters and digits, %%40 for @", URL(text))
	}
	var e *url.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return nil, fmt.Errorf("%q is no URL: %w", text, err)
}
