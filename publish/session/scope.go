package session

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// A Scope says which resources a run needs to access.
type Scope struct {
	Bucket string
	Prefix string // of the needed names in the bucket, without a slash at either end; empty: all
	// ReadOnly leaves out all permissions to change something, for a run that only reads.
	ReadOnly bool
	// Distribution is the id of the distribution to invalidate. Empty: none.
	Distribution string
	// Account is the account of the distribution and the key.
	Account string
	// KMSKey encrypts new objects: id, ARN, or alias. Empty: the bucket's key.
	KMSKey string
	// SigningKey is the KMS key that signs: id, ARN, or alias. Empty: none.
	SigningKey string
	// NoKMS is set for an S3 other than Amazon's that refuses a policy with keys of AWS, such as MinIO.
	NoKMS bool
	// Partition of AWS. Empty: aws.
	Partition string
}

// Scope returns s with the account and the partition of the role.
func (r *Role) Scope(s Scope) Scope {
	s.Account, s.Partition = r.Account(), r.partition()
	if s.Partition == "minio" { // MinIO's roles have their own partition, its buckets that of AWS
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

// conditions maps operators to keys to values. A value is one string or a list.
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

// SessionPolicy returns the policy of a session that permits only what a run needs in its scope. It grants
// nothing that the role lacks.
//
// AWS accepts 2,048 characters. A prefix may have 1,024 bytes and occurs twice. A prefix that is too long is
// cut, so that the scope also includes other names with the same beginning. A policy cannot have characters
// beyond Latin-1, so the scope also includes names that differ from the prefix only in such characters.
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
	// S3 has no s3:prefix for this action.
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

// signing lets the session sign with one key. An alias is allowed only by its name, so that it can later
// point at another key.
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

// encryption permits S3 to use keys on behalf of the session. Existing objects may be encrypted with other
// keys than new ones.
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

// prefix returns the first n characters of the prefix as a pattern of IAM. The whole prefix ends with a
// slash, so that noble/spack does not match noble/spack2.
func (s Scope) prefix(n int) string {
	if s.Prefix == "" {
		return ""
	}
	var b strings.Builder
	gap := false
	for _, r := range strings.Trim(s.Prefix, "/") + "/" {
		// A policy is in Latin-1. A pattern stands for other characters.
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
