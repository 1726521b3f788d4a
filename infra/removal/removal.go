// Package removal says what a deployment would take away that readers, publishers or
// people depend on. It compares two templates and does no I/O.
//
// A loss has the name by which its users know it: the host name, the bucket, the role.
// Resources that others reach only through these, such as cache policies or alarms, come
// and go freely.
package removal

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// A Loss is one thing that the next template no longer has.
type Loss struct {
	// Name is what its users call it, such as cache.example.com.
	Name string
	// What says what it is and what its removal does.
	What string
	// IDs are the logical ids of the resources that go.
	IDs []string
}

// kinds are the resource types whose removal is a loss, with the property that names
// the resource. A change of that property replaces the resource, which is a removal.
var kinds = map[string]struct{ property, what string }{
	"AWS::S3::Bucket":        {"BucketName", "bucket: the stack would leave it and its objects behind, unserved"},
	"AWS::IAM::Role":         {"RoleName", "role: no job could assume it any more"},
	"AWS::IAM::User":         {"UserName", "user: it would lose its rights"},
	"AWS::IAM::OIDCProvider": {"Url", "identity provider of the account: all roles that trust it would stop working"},
	"AWS::KMS::Key":          {"", "signing key: the stack would leave it behind, and no longer keep its policy"},
	"AWS::KMS::Alias":        {"AliasName", "alias of the signing key: what signs by this name would fail"},
	"AWS::SQS::Queue":        {"QueueName", "queue: its messages would be lost"},
}

const (
	distribution = "AWS::CloudFront::Distribution"
	record       = "AWS::Route53::RecordSet"
)

// Between lists what deployed has and next lacks, sorted by name.
func Between(deployed, next template.Template) []Loss {
	found := map[string]Loss{}
	add := func(name, what, id string) {
		l, ok := found[name]
		if !ok {
			l = Loss{Name: name, What: what}
		}
		l.IDs = append(l.IDs, id)
		found[name] = l
	}
	for _, id := range deployed.IDs() {
		old := deployed.Resources[id]
		name, guarded := nameOf(id, old)
		if guarded && !holds(next, id, old.Type, name) {
			add(name, whatOf(old), id)
		}
	}
	hosts := hostsOf(next)
	for _, id := range deployed.OfType(distribution) {
		for _, host := range aliases(deployed.Resources[id]) {
			if !slices.Contains(hosts, host) {
				l := found[host]
				found[host] = Loss{Name: host, What: "domain: readers could not reach the cache by it any more", IDs: l.IDs}
			}
		}
	}
	losses := slices.Collect(maps.Values(found))
	slices.SortFunc(losses, func(a, b Loss) int { return strings.Compare(a.Name, b.Name) })
	return losses
}

// nameOf is the name of a guarded resource. A role without a name of its own is an
// internal part of something else.
func nameOf(id string, r template.Resource) (name string, guarded bool) {
	property := "Name"
	switch r.Type {
	case distribution:
		return id, true
	case record:
	default:
		kind, ok := kinds[r.Type]
		if !ok {
			return "", false
		}
		property = kind.property
	}
	name, ok := r.Properties[property].(string)
	if !ok {
		return id, r.Type != "AWS::IAM::Role"
	}
	name = strings.TrimPrefix(name, "https://")
	return strings.TrimSuffix(name, "."), true
}

func whatOf(r template.Resource) string {
	switch r.Type {
	case distribution:
		return "distribution: readers could not reach the cache any more"
	case record:
		return "DNS record: the name would lead nowhere"
	case "AWS::IAM::Role":
		// S3 itself assumes this one.
		if strings.Contains(fmt.Sprint(r.Properties["AssumeRolePolicyDocument"]), "s3.amazonaws.com") {
			return "role of the replication: the cache would not be copied to the second region any more, and readers would not fail over to it"
		}
	}
	return kinds[r.Type].what
}

// holds says whether the template has the thing of this name. A resource that has no
// name of its own is known by its logical id.
func holds(t template.Template, id, kind, name string) bool {
	if r, ok := t.Resources[id]; ok && r.Type == kind {
		if now, _ := nameOf(id, r); now == name {
			return true
		}
	}
	for _, other := range t.OfType(kind) {
		if now, _ := nameOf(other, t.Resources[other]); now == name {
			return true
		}
	}
	return false
}

func hostsOf(t template.Template) []string {
	var all []string
	for _, id := range t.OfType(distribution) {
		all = append(all, aliases(t.Resources[id])...)
	}
	return all
}

func aliases(r template.Resource) []string {
	config, _ := r.Properties["DistributionConfig"].(map[string]any)
	list, _ := config["Aliases"].([]any)
	var all []string
	for _, e := range list {
		if host, ok := e.(string); ok {
			all = append(all, host)
		}
	}
	return all
}

// guarded lists the logical ids of the resources whose removal is a loss, sorted.
func guarded(t template.Template) []string {
	var ids []string
	for _, id := range t.IDs() {
		if _, ok := nameOf(id, t.Resources[id]); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

type statement struct {
	Effect, Principal string
	Action, Resource  []string
}

// StackPolicy is a CloudFormation stack policy under which no update removes or replaces
// a resource of the template whose removal is a loss, except those that are lifted. It
// binds every client: CloudFormation itself refuses.
func StackPolicy(t template.Template, lifted ...string) string {
	statements := []statement{{Effect: "Allow", Principal: "*", Action: []string{"Update:*"}, Resource: []string{"*"}}}
	var kept []string
	for _, id := range guarded(t) {
		if !slices.Contains(lifted, id) {
			kept = append(kept, "LogicalResourceId/"+id)
		}
	}
	if len(kept) > 0 {
		statements = append(statements, statement{Effect: "Deny", Principal: "*",
			Action: []string{"Update:Delete", "Update:Replace"}, Resource: kept})
	}
	return encode(statements)
}

// NoPolicy is the stack policy that permits everything. A policy that was set cannot be
// removed, only replaced by this one.
func NoPolicy() string { return StackPolicy(template.Template{}) }

func encode(statements []statement) string {
	b, err := json.Marshal(map[string]any{"Statement": statements})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}
