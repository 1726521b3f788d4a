// Package kms signs with an asymmetric key of AWS KMS. The private key never leaves the service: the service signs
// digests, and its signatures become OpenPGP signatures here.
//
// A key is named as in cosign and other tools: awskms:///alias/release, awskms:///KEY-ID or awskms:///ARN.
package kms

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

const scheme = "awskms:///"

// A Name names a key.
type Name struct {
	ID     string // an id, an alias or an ARN, as KMS takes it
	Region string // of the ARN; empty means the default region
}

func (n Name) String() string { return scheme + n.ID }

var (
	keyID    = regexp.MustCompile(`^(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	alias    = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	arn      = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(?:key/(.+)|(alias/.+))$`)
	mistaken = regexp.MustCompile(`^(?i:aws-?kms|kms|arn:aws[a-z-]*:kms):`)
)

// Named reports whether the name of a key refers to a KMS, or is meant to.
func Named(name string) bool { return mistaken.MatchString(name) }

// Parse reads the name of a key.
func Parse(name string) (Name, error) {
	id, ok := strings.CutPrefix(name, scheme)
	if !ok {
		id = mistaken.ReplaceAllStringFunc(name, func(s string) string {
			if strings.HasPrefix(strings.ToLower(s), "arn:") {
				return s
			}
			return ""
		})
		id = strings.TrimLeft(id, "/")
		if _, err := Parse(scheme + id); err == nil {
			return Name{}, fmt.Errorf("%q: did you mean %s%s?", name, scheme, id)
		}
		if host, rest, ok := strings.Cut(strings.TrimPrefix(name, "awskms://"), "/"); ok && host != name {
			if _, err := Parse(scheme + rest); err == nil {
				return Name{}, fmt.Errorf("%q: want %s%s; another endpoint than that of AWS is given by AWS_ENDPOINT_URL_KMS", name, scheme, rest)
			}
		}
		return Name{}, wrong(name)
	}
	if m := arn.FindStringSubmatch(id); m != nil && (keyID.MatchString(m[2]) || alias.MatchString(m[3])) {
		return Name{id, m[1]}, nil
	}
	if keyID.MatchString(id) || alias.MatchString(id) {
		if strings.HasPrefix(id, "alias/aws/") {
			return Name{}, fmt.Errorf("%q: keys of AWS itself encrypt only: make a key for signing", name)
		}
		return Name{ID: id}, nil
	}
	return Name{}, wrong(name)
}

func wrong(name string) error {
	return fmt.Errorf("%q: want awskms:///alias/NAME, awskms:///KEY-ID or awskms:///ARN", name)
}

// ErrNoRegion: the region of a key is not known.
var ErrNoRegion = errors.New("no region is known for the key: name it by its ARN, or set AWS_REGION")
