package preflight

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const testStack = "SlurmFactoryInfraStack"

// resource is a resource with the given properties, whose paths are dotted.
func resource(kind string, properties map[string]any) template.Resource {
	r := template.Resource{Type: kind, Properties: map[string]any{}}
	for path, v := range properties {
		at := r.Properties
		keys := strings.Split(path, ".")
		for _, key := range keys[:len(keys)-1] {
			next, _ := at[key].(map[string]any)
			if next == nil {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[keys[len(keys)-1]] = v
	}
	return r
}

func one(r template.Resource) template.Template {
	return template.Template{Resources: map[string]template.Resource{"R": r}}
}

// named has one row for each type of resource that has a name.
var named = []struct {
	resource template.Resource
	what     string // is in the way
}{
	{resource("AWS::S3::Bucket", map[string]any{"BucketName": "cache"}), "bucket cache"},
	{resource("AWS::IAM::Role", map[string]any{"RoleName": "publisher"}), "role publisher"},
	{resource("AWS::IAM::User", map[string]any{"UserName": "james"}), "user james"},
	{resource("AWS::IAM::InstanceProfile", map[string]any{"InstanceProfileName": "indexer"}), "instance profile indexer"},
	{resource("AWS::IAM::OIDCProvider", map[string]any{"Url": "https://token.actions.githubusercontent.com"}), "OIDC provider token.actions.githubusercontent.com"},
	{resource("AWS::CloudFront::Distribution", map[string]any{"DistributionConfig.Aliases": []any{"cache.example.com"}}), "domain cache.example.com"},
	{resource("AWS::CloudFront::OriginAccessControl", map[string]any{"OriginAccessControlConfig.Name": "oac"}), "origin access control oac"},
	{resource("AWS::CloudFront::CachePolicy", map[string]any{"CachePolicyConfig.Name": "caching"}), "cache policy caching"},
	{resource("AWS::CloudFront::ResponseHeadersPolicy", map[string]any{"ResponseHeadersPolicyConfig.Name": "cors"}), "response headers policy cors"},
	{resource("AWS::Route53::RecordSet", map[string]any{"HostedZoneId": "Z1", "Name": "cache.example.com.", "Type": "A"}), "A record cache.example.com in zone Z1"},
	{resource("AWS::CloudWatch::Alarm", map[string]any{"AlarmName": "errors"}), "alarm errors"},
	{resource("AWS::CloudWatch::Dashboard", map[string]any{"DashboardName": "board"}), "dashboard board"},
	{resource("AWS::Logs::DeliverySource", map[string]any{"Name": "access"}), "log delivery source access"},
	{resource("AWS::Logs::DeliveryDestination", map[string]any{"Name": "access"}), "log delivery destination access"},
	{resource("AWS::SQS::Queue", map[string]any{"QueueName": "news"}), "queue news"},
	{resource("AWS::CloudTrail::Trail", map[string]any{"TrailName": "writes"}), "trail writes"},
	{resource("AWS::KMS::Alias", map[string]any{"AliasName": "alias/signing"}), "key alias/signing"},
	{resource("AWS::Budgets::Budget", map[string]any{"Budget.BudgetName": "monthly"}), "budget monthly"},
	{resource("AWS::CE::AnomalyMonitor", map[string]any{"MonitorName": "costs"}), "cost anomaly monitor costs"},
	{resource("AWS::CE::AnomalySubscription", map[string]any{"SubscriptionName": "warnings"}), "cost anomaly subscription warnings"},
	{resource("AWS::Athena::WorkGroup", map[string]any{"Name": "queries"}), "Athena workgroup queries"},
	{resource("AWS::Glue::Database", map[string]any{"DatabaseInput.Name": "logs"}), "Glue database logs"},
	{resource("AWS::Glue::Table", map[string]any{"DatabaseName": "logs", "TableInput.Name": "requests"}), "Glue table logs.requests"},
}

// TestEachNameIsFoundTaken in an account in which everything belongs to others.
func TestEachNameIsFoundTaken(t *testing.T) {
	for _, row := range named {
		a := newAccount(t)
		a.there, a.stack = true, "Other"
		r := a.check(template.Template{}, one(row.resource))
		if len(r.Conflicts) == 0 || len(r.Unseen) != 0 {
			t.Errorf("%s: %+v", row.resource.Type, r)
		}
		for _, c := range r.Conflicts {
			if c.What != row.what || c.Why == "" || c.Fix == "" {
				t.Errorf("%s: %+v, want %q with a reason and a fix", row.resource.Type, c, row.what)
			}
		}
	}
}

func TestFreeNamesAreNoConflict(t *testing.T) {
	for _, row := range named {
		a := newAccount(t)
		if r := a.check(template.Template{}, one(row.resource)); len(r.Conflicts)+len(r.Unseen) != 0 || len(a.asked) == 0 {
			t.Errorf("%s: %+v after %v", row.resource.Type, r, a.asked)
		}
	}
}

// TestWhatMayNotBeReadIsUnseen, and neither free nor taken.
func TestWhatMayNotBeReadIsUnseen(t *testing.T) {
	for _, row := range named {
		a := newAccount(t)
		a.there, a.stack = true, testStack
		probe := newAccount(t) // for the calls that the check makes
		probe.there, probe.stack = true, testStack
		probe.check(template.Template{}, one(row.resource))
		for _, call := range probe.asked {
			if call == "s3:HeadBucket" {
				continue // looks like a stranger's bucket: the list of ours tells
			}
			a.denied = call
			r := a.check(template.Template{}, one(row.resource))
			if len(r.Unseen) != 1 || !strings.Contains(strings.ToLower(r.Unseen[0]), "denied") {
				t.Errorf("%s: %s is denied: %+v", row.resource.Type, call, r)
			}
		}
	}
}

// TestNoOwnerIsNotAnUnknownOwner: a denied look at who owns a thing is not "nobody".
func TestNoOwnerIsNotAnUnknownOwner(t *testing.T) {
	for kind, r := range map[string]template.Resource{
		"bucket": named[0].resource, "user": named[2].resource, "distribution": named[5].resource,
	} {
		for _, row := range []struct {
			stack, denied    string
			conflict, unseen bool
		}{
			{stack: "Other", conflict: true},
			{stack: testStack},
			{stack: "", conflict: kind == "distribution"}, // which cannot be adopted
			{stack: "Other", denied: "cloudformation:DescribeStackResources", unseen: true},
			{stack: testStack, denied: "cloudformation:DescribeStackResources", unseen: true},
		} {
			a := newAccount(t)
			a.there, a.stack, a.denied, a.noPolicy = true, row.stack, row.denied, true
			got := a.check(template.Template{}, one(r))
			if len(got.Conflicts) > 0 != row.conflict || len(got.Unseen) > 0 != row.unseen {
				t.Errorf("%s of stack %q, denied %q: %+v", kind, row.stack, row.denied, got)
			}
		}
	}
}

func TestBuckets(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*account)
		want   []string
	}{
		"free to adopt":   {func(a *account) {}, nil},
		"another account": {func(a *account) { a.foreign = true }, []string{"belongs to another account"}},
		"another region":  {func(a *account) { a.region = "eu-west-1" }, []string{"is in eu-west-1, and the stack is in us-east-1"}},
		"old Ireland":     {func(a *account) { a.region = "EU" }, []string{"is in eu-west-1, and the stack is in us-east-1"}},
		"a policy":        {func(a *account) { a.noPolicy = false }, []string{"has a policy already, which the stack's own cannot replace"}},
		"all at once": {func(a *account) { a.noPolicy, a.region, a.stack = false, "eu-west-1", "Other" },
			[]string{"is in eu-west-1, and the stack is in us-east-1", "belongs to stack Other", "has a policy already, which the stack's own cannot replace"}},
	} {
		a := newAccount(t)
		a.there, a.noPolicy = true, true
		row.change(a)
		r := a.check(template.Template{}, one(named[0].resource))
		var got []string
		for _, c := range r.Conflicts {
			got = append(got, c.Why)
		}
		if !slices.Equal(got, row.want) || len(r.Unseen) != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// TestRecords: an alias stands beside other records of its name, but not beside a CNAME.
func TestRecords(t *testing.T) {
	for kind, conflict := range map[string]bool{"A": true, "CNAME": true, "AAAA": false, "TXT": false} {
		a := newAccount(t)
		a.there, a.recordType = true, kind
		if r := a.check(template.Template{}, one(named[9].resource)); len(r.Conflicts) > 0 != conflict {
			t.Errorf("beside %s: %+v", kind, r)
		}
	}
}

// TestLaterPagesAreRead: the name is in the second page of each list.
func TestLaterPagesAreRead(t *testing.T) {
	lists := 0
	for _, row := range named {
		a := newAccount(t)
		a.there, a.stack, a.second = true, "Other", true
		r := a.check(template.Template{}, one(row.resource))
		if len(r.Conflicts) == 0 {
			t.Errorf("%s: %+v", row.resource.Type, r)
		}
		lists += a.turned
	}
	if lists != 8 {
		t.Errorf("%d lists had a second page", lists)
	}
}

// TestOnlyNewNamesAreLookedFor: of what is deployed under the same name, nothing is asked.
func TestOnlyNewNamesAreLookedFor(t *testing.T) {
	for _, row := range named {
		a := newAccount(t)
		a.there, a.stack = true, "Other"
		if r := a.check(one(row.resource), one(row.resource)); len(r.Conflicts) != 0 || len(a.asked) != 0 {
			t.Errorf("%s: %+v after %v", row.resource.Type, r, a.asked)
		}
		for _, path := range checks[row.resource.Type].names {
			other := resource(row.resource.Type, map[string]any{path: "other"})
			if r := a.check(one(other), one(row.resource)); len(r.Conflicts) == 0 {
				t.Errorf("%s: a new %s was not looked for: %+v", row.resource.Type, path, r)
			}
		}
	}
}

// TestNamesThatTheTemplateDoesNotSpellOut are unseen, and those that CloudFormation makes
// up are none.
func TestNamesThatTheTemplateDoesNotSpellOut(t *testing.T) {
	for _, row := range named {
		a := newAccount(t)
		if r := a.check(template.Template{}, one(template.Resource{Type: row.resource.Type})); len(r.Unseen)+len(r.Conflicts)+len(a.asked) != 0 {
			t.Errorf("%s without a name: %+v", row.resource.Type, r)
		}
		for _, path := range checks[row.resource.Type].names {
			a := newAccount(t)
			computed := resource(row.resource.Type, map[string]any{path: map[string]any{"Ref": "Other"}})
			if r := a.check(template.Template{}, one(computed)); len(r.Unseen) != 1 || len(a.asked) != 0 {
				t.Errorf("%s with a computed %s: %+v", row.resource.Type, path, r)
			}
		}
	}
}

// TestEveryNamedResourceHasACheck walks the templates of vantagecompute and of all options:
// each name that CloudFormation could stumble over is found taken, and each type that has
// none says why.
func TestEveryNamedResourceHasACheck(t *testing.T) {
	walked := map[string]bool{}
	for _, file := range []string{"vantage", "everything"} {
		for id, r := range golden(t, file).Resources {
			walked[r.Type] = true
			c, ok := checks[r.Type]
			if why := nameless[r.Type]; !ok && why == "" {
				t.Errorf("%s: %s %s has no check, and no reason to have none", file, r.Type, id)
			}
			if !ok {
				continue
			}
			a := newAccount(t)
			a.there, a.stack, a.recordType = true, "Other", "CNAME"
			report := a.check(template.Template{}, one(r))
			if _, isNamed := c.named(r); isNamed != (len(report.Conflicts) > 0) || len(report.Unseen) > 0 {
				t.Errorf("%s: %s %s: %+v", file, r.Type, id, report)
			}
		}
	}
	for kind := range checks {
		if !walked[kind] {
			t.Errorf("no template has a %s: its check is not needed", kind)
		}
	}
	for kind := range nameless {
		if !walked[kind] {
			t.Errorf("no template has a %s: its reason is not needed", kind)
		}
	}
}

// spelt are properties of nameless types that look like names, and what they name.
var spelt = map[string]string{
	"AWS::Athena::NamedQuery Name":                    "a query in the workgroup",
	"AWS::CertificateManager::Certificate DomainName": "the domain",
	"AWS::IAM::Policy PolicyName":                     "a policy in the user",
	"AWS::Logs::Delivery DeliverySourceName":          "the source",
	"AWS::SNS::Topic DisplayName":                     "what a reader of the e-mail sees",
}

// TestNamelessTypesHaveNoNames: a topic, for example, that got a TopicName would need a check.
func TestNamelessTypesHaveNoNames(t *testing.T) {
	found := map[string]bool{}
	for _, file := range []string{"vantage", "everything"} {
		for id, r := range golden(t, file).Resources {
			if nameless[r.Type] == "" {
				continue
			}
			for property, v := range r.Properties {
				if _, isText := v.(string); !isText || !strings.HasSuffix(property, "Name") {
					continue
				}
				found[r.Type+" "+property] = true
				if spelt[r.Type+" "+property] == "" {
					t.Errorf("%s: %s %s has a %s and no check", file, r.Type, id, property)
				}
			}
		}
	}
	for s := range spelt {
		if !found[s] {
			t.Errorf("no template has %s", s)
		}
	}
}

func golden(t *testing.T, name string) template.Template {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name+".template.json"))
	if err != nil {
		t.Fatal(err)
	}
	tpl, err := template.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}
