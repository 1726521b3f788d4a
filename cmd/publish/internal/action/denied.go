package action

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/target"
)

// A permission is a statement of an IAM policy.
type permission struct {
	Effect    string
	Action    string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// lacking returns the permission to add to the policy of the role for a denied request; nil if IAM does not
// decide about it.
func (o *outcome) lacking(e *mirror.DeniedError) *permission {
	partition, account := "aws", ""
	if arn := strings.Split(o.in.role.ARN, ":"); len(arn) > 4 {
		partition, account = arn[1], arn[4]
	}
	bucket, prefix, _ := target.BucketAndPrefix(o.in.destination)
	objects := "*"
	if prefix != "" {
		objects = prefix + "/*"
	}
	p := &permission{Effect: "Allow", Action: e.Action, Resource: "arn:" + partition + ":s3:::" + bucket}
	switch {
	case strings.HasPrefix(e.Action, "cloudfront:"):
		p.Resource = "arn:" + partition + ":cloudfront::" + account + ":distribution/" + o.in.target.CDN.Distribution
	case e.Action == "s3:ListBucket" && prefix != "":
		p.Condition = map[string]map[string]string{"StringLike": {"s3:prefix": objects}}
	case e.Action == "s3:ListBucket", e.Action == "s3:ListBucketMultipartUploads", e.Action == "s3:GetBucketLocation":
	case strings.HasPrefix(e.Action, "s3:"):
		p.Resource += "/" + objects
	default:
		return nil
	}
	return p
}

func (p *permission) json() string {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		panic(err) // strings are always JSON
	}
	return string(text)
}

// deniedHint says which policy to change, as far as AWS says so.
func (o *outcome) deniedHint(e *mirror.DeniedError) string {
	who := "the credentials in use"
	if o.in.role.ARN != "" && o.in.credentials == oidcCredentials {
		who = "the role " + o.in.role.Name()
	}
	switch says := func(s string) bool { return strings.Contains(e.Detail, s) }; {
	case says("no session policy allows"):
		return fmt.Sprintf("the session policy does not allow %s. With session-policy: auto, %s may lack it, too; if not, set session-policy: none", e.Action, who)
	case says("explicit deny in a resource-based policy"):
		return fmt.Sprintf("the policy of the bucket denies %s, whatever %s may do: correct the policy of the bucket", e.Action, who)
	case says("explicit deny"):
		return fmt.Sprintf("a policy denies %s to %s: another policy that allows it does not help", e.Action, who)
	case says("kms:"):
		return fmt.Sprintf("allow kms:GenerateDataKey and kms:Decrypt on the bucket's key for %s, in its policy and in that of the key", who)
	}
	return fmt.Sprintf("allow %s on %s for %s", e.Action, o.lacking(e).Resource, who)
}
