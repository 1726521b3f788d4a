package main

import (
	"encoding/json"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// statement is what to add to the role's policy for what was denied; empty where that is
// not known.
func (o *outcome) statement(e *mirror.DeniedError) string {
	partition, account := "aws", ""
	if arn := strings.Split(o.in.role.ARN, ":"); len(arn) > 4 {
		partition, account = arn[1], arn[4]
	}
	bucket, prefix, _ := bucketAndPrefix(o.in.destination)
	s := struct {
		Effect    string
		Action    string
		Resource  string
		Condition map[string]map[string]string `json:",omitempty"`
	}{Effect: "Allow", Action: e.Action}
	objects := "*"
	if prefix != "" {
		objects = prefix + "/*"
	}
	switch {
	case strings.HasPrefix(e.Action, "cloudfront:"):
		s.Resource = "arn:" + partition + ":cloudfront::" + account + ":distribution/" + o.in.flags.cdn.distribution
	case e.Action == "s3:ListBucket":
		s.Resource = "arn:" + partition + ":s3:::" + bucket
		if prefix != "" {
			s.Condition = map[string]map[string]string{"StringLike": {"s3:prefix": objects}}
		}
	case e.Action == "s3:ListBucketMultipartUploads", e.Action == "s3:GetBucketLocation":
		s.Resource = "arn:" + partition + ":s3:::" + bucket
	case strings.HasPrefix(e.Action, "s3:"):
		s.Resource = "arn:" + partition + ":s3:::" + bucket + "/" + objects
	default:
		return ""
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return ""
	}
	return string(text)
}
