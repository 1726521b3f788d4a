package session

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A Scope is what one run needs access to.
type Scope struct {
	Bucket string
	Prefix string // of all names in the bucket that matter, without a slash at either end; empty: all
	// ReadOnly leaves out everything that changes something, for a run that only looks.
	ReadOnly bool
	// Distribution is the id of the one that is invalidated. Empty: none is.
	Distribution string
	// Account that the distribution and the key are in.
	Account string
	// KMSKey that new objects are encrypted with: id, ARN, or alias. Empty: the bucket's.
	KMSKey string
	// SigningKey is the key of a KMS that signs: id, ARN, or alias. Empty: none.
	SigningKey string
	// NoKMS is an S3 that is not Amazon's and refuses a policy that names AWS's keys, as
	// MinIO does.
	NoKMS bool
	// Partition of AWS. Empty: aws.
	Partition string
}

// Scope returns s with the account and the partition of the role.
func (r *Role) Scope(s Scope) Scope {
	s.Account, s.Partition = r.Account(), r.partition()
	if s.Partition == "minio" { // its roles have one of their own, and its buckets that of AWS
		s.Partition, s.NoKMS = "aws", true
	}
	return s
}

// A document is an IAM policy.
type document struct {
	Version   string
	Statement []statement
}

type statement struct {
	Effect    string
	Principal map[string]string `json:",omitempty"`
	Action    any               // one string or a list
	Resource  any               `json:",omitempty"`
	Condition conditions        `json:",omitempty"`
}

// conditions are by operator and key; a value is one string or a list.
type conditions map[string]map[string]any

func (d document) marshal(indent string) string {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false) // six characters for each & and <
	e.SetIndent("", indent)
	if err := e.Encode(d); err != nil {
		panic(err) // strings are always JSON
	}
	return strings.TrimSuffix(text.String(), "\n")
}

// SessionPolicy is the policy of a session that may do what a run needs in its scope, and nothing
// else. It grants nothing that the role does not have.
//
// AWS takes 2,048 characters, and a prefix may have 1,024 bytes and is in it twice. A longer
// one is cut: then names that begin like it are in the scope, too. So are names that differ
// only where a prefix has characters that a policy cannot have, which are all beyond Latin-1.
func SessionPolicy(s Scope) string {
	text := s.policy(s.prefix(0))
	for n := utf8.RuneCountInString(s.Prefix); utf8.RuneCountInString(text) > longestPolicy && n > 0; n-- {
		text = s.policy(s.prefix(n))
	}
	return text
}

func (s Scope) policy(prefix string) string {
	bucket := s.arn("s3", "", s.Bucket)
	objects := statement{Effect: "Allow", Action: "s3:GetObject", Resource: bucket + "/" + prefix + "*"}
	list := statement{Effect: "Allow", Action: "s3:ListBucket", Resource: bucket}
	if prefix != "" {
		list.Condition = conditions{"StringLike": {"s3:prefix": prefix + "*"}}
	}
	// S3 has no s3:prefix for this one.
	uploads := statement{Effect: "Allow", Action: "s3:ListBucketMultipartUploads", Resource: bucket}
	statements := []statement{objects, list, uploads}
	if !s.ReadOnly {
		statements[0].Action = []string{"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"}
		if s.Distribution != "" {
			statements = append(statements, statement{
				Effect:   "Allow",
				Action:   []string{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation"},
				Resource: s.arn("cloudfront", s.Account, "distribution/"+s.Distribution),
			})
		}
	}
	statements = append(statements, s.encryption()...)
	if s.SigningKey != "" && !s.ReadOnly {
		statements = append(statements, s.signing())
	}
	return document{"2012-10-17", statements}.marshal("")
}

// signing lets the session sign with one key. An alias is allowed only by its name, so that it may be pointed at another key.
func (s Scope) signing() statement {
	sign := statement{Effect: "Allow", Action: "kms:Sign"}
	switch _, alias, ok := strings.Cut(s.SigningKey, "alias/"); {
	case ok:
		sign.Resource, sign.Condition = "*", conditions{"StringEquals": {"kms:RequestAlias": "alias/" + alias}}
	case strings.HasPrefix(s.SigningKey, "arn:"):
		sign.Resource = s.SigningKey
	default:
		sign.Resource = s.arn("kms", "*:"+s.Account, "key/"+s.SigningKey)
	}
	return sign
}

// encryption is what S3 does with keys on behalf of the session. Objects that are there may
// have been encrypted with other keys than new ones are.
func (s Scope) encryption() []statement {
	if s.NoKMS {
		return nil
	}
	throughS3 := conditions{"StringLike": {"kms:ViaService": "s3.*"}}
	read := statement{Effect: "Allow", Action: "kms:Decrypt", Resource: "*", Condition: throughS3}
	if s.ReadOnly {
		return []statement{read}
	}
	write := statement{Effect: "Allow", Action: "kms:GenerateDataKey", Resource: "*", Condition: throughS3}
	switch {
	case s.KMSKey == "":
		read.Action = []string{"kms:Decrypt", "kms:GenerateDataKey"}
		return []statement{read}
	case strings.HasPrefix(s.KMSKey, "alias/"), strings.Contains(s.KMSKey, ":alias/"):
		_, alias, _ := strings.Cut(s.KMSKey, "alias/")
		write.Condition = conditions{"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/" + alias}}
	case strings.HasPrefix(s.KMSKey, "arn:"):
		write.Resource, write.Condition = s.KMSKey, nil
	default:
		write.Resource, write.Condition = s.arn("kms", "*:"+s.Account, "key/"+s.KMSKey), nil
	}
	return []statement{read, write}
}

func (s Scope) arn(service, where, what string) string {
	partition := s.Partition
	if partition == "" {
		partition = "aws"
	}
	if !strings.Contains(where, ":") {
		where = ":" + where
	}
	return "arn:" + partition + ":" + service + ":" + where + ":" + what
}

// prefix is the prefix as IAM's patterns have it, of n characters, or of all with a slash
// behind, so that noble/spack is not noble/spack2.
func (s Scope) prefix(n int) string {
	if s.Prefix == "" {
		return ""
	}
	var b strings.Builder
	gap := false
	for _, r := range strings.Trim(s.Prefix, "/") + "/" {
		// A policy is in Latin-1. What is not may be anything.
		foreign := r < ' ' || r > 0xff || r == 0x7f
		switch {
		case foreign && !gap:
			b.WriteByte('*')
		case foreign:
		case r == '*' || r == '?' || r == '$':
			b.WriteString("${" + string(r) + "}")
		default:
			b.WriteRune(r)
		}
		gap = foreign
		if n--; n == 0 {
			break
		}
	}
	return b.String()
}
