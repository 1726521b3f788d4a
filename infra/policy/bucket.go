package policy

import (
	"maps"
	"slices"
)

// withoutMFA are the only S3 actions of the manual user's access key alone. Everything
// else, known today or added by AWS tomorrow, needs a session with MFA.
var withoutMFA = Strings{"s3:Get*", "s3:List*", "s3:PutObject", "s3:AbortMultipartUpload"}

// ManualUserPermissions is full access to the bucket for a person, who must have
// signed in with MFA to do more there than read and upload.
func ManualUserPermissions(bucket, distribution string) Document {
	both := Strings{bucket, bucket + "/*"}
	return New(
		Statement{Sid: "FullAccess", Effect: Allow, Action: Strings{"s3:*"}, Resource: both},
		Statement{Sid: "Invalidate", Effect: Allow, Resource: Strings{distribution},
			Action: Strings{"cloudfront:CreateInvalidation", "cloudfront:GetInvalidation", "cloudfront:ListInvalidations"}},
		Statement{Sid: "OnlyUploadsWithoutMFA", Effect: Deny, Resource: both, NotAction: withoutMFA, Condition: noMFA()},
	)
}

// noMFA holds for requests without MFA. Those signed by an access key alone carry no
// such key at all, so its absence counts as "false".
func noMFA() Condition {
	return Condition{"BoolIfExists": {"aws:MultiFactorAuthPresent": {"false"}}}
}

// ImmutablePackages are the statements of the bucket's policy that keep a leaked token
// from replacing what it has not seen, for every client:
//
//   - a package's bytes (blobs of layout v3, .spack files of layout v2) are only ever
//     created: they must be written with If-None-Match;
//   - everything else, documents and plain files, must be written with If-None-Match or
//     with If-Match, that is as a replacement of a version that the writer names.
//
// Starting an upload and sending its parts carry no such header; they create no object
// yet and are exempt. Except, an ARN, is the person who may repair a damaged package by
// hand, with MFA; empty for nobody.
func ImmutablePackages(bucket, except string) []Statement {
	created := Strings{bucket + "/blobs/*", bucket + "/*/blobs/*", bucket + "/*.spack"}
	statements := []Statement{
		unconditional("PackagesAreImmutable", created, "s3:if-none-match"),
		unconditional("WritesAreConditional", Strings{bucket + "/*"}, "s3:if-none-match", "s3:if-match"),
	}
	if except == "" {
		return statements
	}
	for _, st := range slices.Clone(statements) {
		st.Sid += "WithoutMFA"
		st.Condition = maps.Clone(st.Condition)
		st.Condition["ArnEquals"] = map[string]Strings{"aws:PrincipalArn": {except}}
		maps.Copy(st.Condition, noMFA())
		statements = append(statements, st)
	}
	for _, st := range statements[:2] {
		st.Condition["ArnNotEquals"] = map[string]Strings{"aws:PrincipalArn": {except}}
	}
	return statements
}

// unconditional denies to create an object by a request that has none of the headers.
func unconditional(sid string, objects Strings, headers ...string) Statement {
	absent := map[string]Strings{}
	for _, h := range headers {
		absent[h] = Strings{"true"}
	}
	return Statement{
		Sid:       sid,
		Effect:    Deny,
		Principal: Anyone(),
		Action:    Strings{"s3:PutObject"},
		Resource:  objects,
		Condition: Condition{"Null": absent, "Bool": {"s3:ObjectCreationOperation": {"true"}}},
	}
}
