package removal

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const deployed = `{"Resources": {
	"Cache": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "cache"}},
	"Logs": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "cache-logs"}},
	"Edge": {"Type": "AWS::CloudFront::Distribution", "Properties": {"DistributionConfig": {"Aliases": ["cache.example.com", "old.example.com"]}}},
	"A": {"Type": "AWS::Route53::RecordSet", "Properties": {"Name": "cache.example.com.", "Type": "A"}},
	"AAAA": {"Type": "AWS::Route53::RecordSet", "Properties": {"Name": "cache.example.com.", "Type": "AAAA"}},
	"Publish": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "publish"}},
	"Internal": {"Type": "AWS::IAM::Role", "Properties": {}},
	"User": {"Type": "AWS::IAM::User", "Properties": {"UserName": "james"}},
	"Provider": {"Type": "AWS::IAM::OIDCProvider", "Properties": {"Url": "https://token.actions.githubusercontent.com"}},
	"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeySpec": "RSA_4096"}},
	"KeyAlias": {"Type": "AWS::KMS::Alias", "Properties": {"AliasName": "alias/signing"}},
	"Queue": {"Type": "AWS::SQS::Queue", "Properties": {}},
	"Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": {"AlarmName": "a"}}}}`

// changed is the deployed template after a change of its resources.
func changed(t *testing.T, change func(resources map[string]template.Resource)) template.Template {
	t.Helper()
	tpl, err := template.Parse([]byte(deployed))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(tpl.Resources)
	}
	return tpl
}

func rename(resources map[string]template.Resource, id, property, name string) {
	resources[id].Properties[property] = name
}

// TestEveryLossIsFound: whatever others know by name is found missing, by that name, and
// nothing else is.
func TestEveryLossIsFound(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(map[string]template.Resource)
		want   string // NAME=ids, separated by spaces
	}{
		{"nothing", nil, ""},
		{"alarms and internal roles come and go", func(r map[string]template.Resource) { delete(r, "Alarm"); delete(r, "Internal") }, ""},
		{"a bucket is replaced", func(r map[string]template.Resource) { rename(r, "Cache", "BucketName", "other") }, "cache=Cache"},
		{"a bucket loses its name", func(r map[string]template.Resource) { delete(r["Cache"].Properties, "BucketName") }, "cache=Cache"},
		{"a bucket leaves", func(r map[string]template.Resource) { delete(r, "Logs") }, "cache-logs=Logs"},
		{"a role leaves", func(r map[string]template.Resource) { delete(r, "Publish") }, "publish=Publish"},
		{"a role is renamed", func(r map[string]template.Resource) { rename(r, "Publish", "RoleName", "p") }, "publish=Publish"},
		{"a role moves to another id", func(r map[string]template.Resource) { r["P2"] = r["Publish"]; delete(r, "Publish") }, ""},
		{"the user leaves", func(r map[string]template.Resource) { delete(r, "User") }, "james=User"},
		{"the provider leaves", func(r map[string]template.Resource) { delete(r, "Provider") }, "token.actions.githubusercontent.com=Provider"},
		{"the signing key leaves", func(r map[string]template.Resource) { delete(r, "Key") }, "Key=Key"},
		{"its alias is renamed", func(r map[string]template.Resource) { rename(r, "KeyAlias", "AliasName", "alias/other") }, "alias/signing=KeyAlias"},
		{"a queue without a name leaves", func(r map[string]template.Resource) { delete(r, "Queue") }, "Queue=Queue"},
		{"the distribution leaves", func(r map[string]template.Resource) { delete(r, "Edge") }, "Edge=Edge cache.example.com= old.example.com="},
		{"one alias of two", func(r map[string]template.Resource) {
			r["Edge"].Properties["DistributionConfig"] = map[string]any{"Aliases": []any{"cache.example.com"}}
		}, "old.example.com="},
		{"all aliases and their records", func(r map[string]template.Resource) {
			r["Edge"].Properties["DistributionConfig"] = map[string]any{}
			delete(r, "A")
			delete(r, "AAAA")
		}, "cache.example.com=A,AAAA old.example.com="},
		{"the records alone", func(r map[string]template.Resource) { delete(r, "A"); delete(r, "AAAA") }, "cache.example.com=A,AAAA"},
		{"another type under the same id", func(r map[string]template.Resource) {
			r["Publish"] = template.Resource{Type: "AWS::IAM::Group", Properties: map[string]any{"RoleName": "publish"}}
		}, "publish=Publish"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var got []string
			for _, l := range Between(changed(t, nil), changed(t, row.change)) {
				got = append(got, l.Name+"="+strings.Join(l.IDs, ","))
				if l.What == "" {
					t.Errorf("%s: no word on what it is", l.Name)
				}
			}
			if s := strings.Join(got, " "); s != row.want {
				t.Errorf("found %q, want %q", s, row.want)
			}
		})
	}
	if found := Between(template.Template{}, changed(t, nil)); len(found) > 0 {
		t.Errorf("a first deployment takes something away: %v", found)
	}
}

// TestStackPolicy: CloudFormation refuses to replace or delete exactly what is a loss,
// but for what is lifted.
func TestStackPolicy(t *testing.T) {
	denied := func(body string) []string {
		var p struct{ Statement []statement }
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		// A stack policy denies what it does not allow.
		if s := p.Statement[0]; s.Effect != "Allow" || !slices.Equal(s.Action, []string{"Update:*"}) || !slices.Equal(s.Resource, []string{"*"}) {
			t.Errorf("updates are not allowed in general: %+v", s)
		}
		var ids []string
		for _, s := range p.Statement[1:] {
			if s.Effect != "Deny" || s.Principal != "*" || !slices.Equal(s.Action, []string{"Update:Delete", "Update:Replace"}) {
				t.Errorf("%+v", s)
			}
			for _, r := range s.Resource {
				ids = append(ids, strings.TrimPrefix(r, "LogicalResourceId/"))
			}
		}
		return ids
	}
	all := []string{"A", "AAAA", "Cache", "Edge", "Key", "KeyAlias", "Logs", "Provider", "Publish", "Queue", "User"}
	if got := denied(StackPolicy(changed(t, nil))); !slices.Equal(got, all) {
		t.Errorf("protected %v, want %v", got, all)
	}
	if got := denied(StackPolicy(changed(t, nil), "User", "Publish")); !slices.Equal(got, []string{"A", "AAAA", "Cache", "Edge", "Key", "KeyAlias", "Logs", "Provider", "Queue"}) {
		t.Errorf("protected %v with two lifted", got)
	}
	if got := denied(NoPolicy()); len(got) > 0 {
		t.Errorf("the open policy protects %v", got)
	}
}

// TestTheRoleOfTheReplicationIsNoPublishers: what ends with it are the copy and the failover.
func TestTheRoleOfTheReplicationIsNoPublishers(t *testing.T) {
	before, err := template.Parse([]byte(`{"Resources": {"ReplicationRole1": {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "S-replication",
		"AssumeRolePolicyDocument": {"Statement": [{"Action": "sts:AssumeRole", "Effect": "Allow", "Principal": {"Service": "s3.amazonaws.com"}}]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	losses := Between(before, template.Template{})
	if len(losses) != 1 || losses[0].Name != "S-replication" || !strings.Contains(losses[0].What, "not be copied to the second region") || !strings.Contains(losses[0].What, "fail over") {
		t.Errorf("%+v", losses)
	}
}
