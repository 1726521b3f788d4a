package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// distribution looks whether another distribution of the account answers to our names.
func (s Site) distribution(ctx context.Context, r template.Resource) ([]Conflict, error) {
	list, _ := property(r, "DistributionConfig.Aliases").([]any)
	if len(list) == 0 {
		return nil, nil
	}
	var found []Conflict
	var unseen []error
	pages := cloudfront.NewListDistributionsPaginator(s.cloudFront, &cloudfront.ListDistributionsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return found, errors.Join(append(unseen, err)...)
		}
		for _, d := range page.DistributionList.Items {
			for _, name := range list {
				if d.Aliases == nil || !slices.Contains(d.Aliases.Items, fmt.Sprint(name)) {
					continue
				}
				conflicts, err := s.aliasOf(ctx, aws.ToString(d.Id), fmt.Sprint(name))
				found, unseen = append(found, conflicts...), append(unseen, err)
			}
		}
	}
	return found, errors.Join(unseen...)
}

// aliasOf is the conflict of a domain that distribution id answers to, unless that is the
// stack's own.
func (s Site) aliasOf(ctx context.Context, id, domain string) ([]Conflict, error) {
	stack, err := s.owner(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("domain %s belongs to distribution %s: %w", domain, id, err)
	}
	if stack == s.Stack {
		return nil, nil
	}
	return []Conflict{{"domain " + domain, "belongs to distribution " + id, "take it out there first, or give another --domain"}}, nil
}

// listed looks for a name in a list of CloudFront's, page by page, and returns the id of what
// bears it. A page returns the marker of the next one, nil when it is the last.
func listed(name string, page func(marker *string) (ids map[string]string, next *string, err error)) (id string, there bool, err error) {
	var marker *string
	for {
		ids, next, err := page(marker)
		if err != nil {
			return "", false, err
		}
		if id, there := ids[name]; there {
			return id, true, nil
		}
		if aws.ToString(next) == "" {
			return "", false, nil
		}
		marker = next
	}
}

// deletes is the command that deletes a thing of CloudFront's, which wants its version.
func deletes(kind, id string) string {
	return "delete it: aws cloudfront delete-" + kind + " --id " + id + " --if-match $(aws cloudfront get-" + kind + " --id " + id + " --query ETag --output text)"
}

func (s Site) originAccess(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "OriginAccessControlConfig.Name")
	id, there, err := listed(name, func(marker *string) (ids map[string]string, next *string, err error) {
		out, err := s.cloudFront.ListOriginAccessControls(ctx, &cloudfront.ListOriginAccessControlsInput{Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		ids = map[string]string{}
		for _, o := range out.OriginAccessControlList.Items {
			ids[aws.ToString(o.Name)] = aws.ToString(o.Id)
		}
		return ids, out.OriginAccessControlList.NextMarker, nil
	})
	return taken(there, err, "origin access control "+name, deletes("origin-access-control", id)+renamed)
}

func (s Site) cachePolicy(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "CachePolicyConfig.Name")
	id, there, err := listed(name, func(marker *string) (ids map[string]string, next *string, err error) {
		out, err := s.cloudFront.ListCachePolicies(ctx, &cloudfront.ListCachePoliciesInput{Type: types.CachePolicyTypeCustom, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		ids = map[string]string{}
		for _, p := range out.CachePolicyList.Items {
			ids[aws.ToString(p.CachePolicy.CachePolicyConfig.Name)] = aws.ToString(p.CachePolicy.Id)
		}
		return ids, out.CachePolicyList.NextMarker, nil
	})
	return taken(there, err, "cache policy "+name, deletes("cache-policy", id)+"; "+s.anotherStack())
}

func (s Site) headersPolicy(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name := text(r, "ResponseHeadersPolicyConfig.Name")
	id, there, err := listed(name, func(marker *string) (ids map[string]string, next *string, err error) {
		out, err := s.cloudFront.ListResponseHeadersPolicies(ctx, &cloudfront.ListResponseHeadersPoliciesInput{Type: types.ResponseHeadersPolicyTypeCustom, Marker: marker})
		if err != nil {
			return nil, nil, err
		}
		ids = map[string]string{}
		for _, p := range out.ResponseHeadersPolicyList.Items {
			ids[aws.ToString(p.ResponseHeadersPolicy.ResponseHeadersPolicyConfig.Name)] = aws.ToString(p.ResponseHeadersPolicy.Id)
		}
		return ids, out.ResponseHeadersPolicyList.NextMarker, nil
	})
	return taken(there, err, "response headers policy "+name, deletes("response-headers-policy", id)+"; "+s.anotherStack())
}

// record looks for a record of the name, whatever its type: an alias cannot stand beside
// a CNAME either.
func (s Site) record(ctx context.Context, r template.Resource) ([]Conflict, error) {
	name, zone := text(r, "Name"), text(r, "HostedZoneId")
	out, err := s.route53.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &zone, StartRecordName: &name})
	if err != nil {
		return nil, err
	}
	for _, set := range out.ResourceRecordSets {
		if aws.ToString(set.Name) != name {
			break // they are sorted
		}
		if kind := set.Type; kind == r53types.RRTypeCname || string(kind) == text(r, "Type") {
			return []Conflict{{string(kind) + " record " + strings.TrimSuffix(name, ".") + " in zone " + zone, "exists already",
				"delete it right before deploying, or give another --domain"}}, nil
		}
	}
	return nil, nil
}
