package doctor

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	acmtypes "github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	redeploy = "`infra deploy --revert-drift` puts it back as the stack says"
	// remake is for what was deleted by hand. Without --revert-drift, CloudFormation compares
	// the new template with the last one, finds them alike and does nothing.
	remake = "`infra deploy --revert-drift` makes it again"
)

// directAccess requests a listing of the bucket, once without and once with our
// credentials: the first must be refused and the second answered.
func (d Doctor) directAccess(ctx context.Context) ([]Finding, error) {
	const check = "direct access"
	name := d.Stack.Outputs["BucketName"]
	where := d.BucketURL(name)
	status, err := d.get(ctx, where)
	if err != nil {
		return nil, err
	}
	var found []Finding
	if status != http.StatusForbidden {
		found = append(found, broken(check, redeploy, "GET %s without credentials answers %d, want 403: readers must come through CloudFront", where, status))
	}
	if _, err := d.S3.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(name), MaxKeys: aws.Int32(1)}); err != nil {
		found = append(found, broken(check, denied(err), "list s3://%s with these credentials: %v", name, err))
	}
	return orWell(found, check, "s3://%s refuses strangers and answers us", name), nil
}

// get returns the status with which a URL answers a reader.
func (d Doctor) get(ctx context.Context, where string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return 0, err
	}
	res, err := d.HTTP.Do(req)
	if err != nil {
		return 0, fmt.Errorf("get %s: %w", where, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	return res.StatusCode, nil
}

// distribution asks whether the CDN is on, ours, and in front of our bucket only.
func (d Doctor) distribution(ctx context.Context) ([]Finding, error) {
	const check = "distribution"
	id := d.Stack.first("AWS::CloudFront::Distribution")
	out, err := d.CloudFront.GetDistribution(ctx, &cloudfront.GetDistributionInput{Id: aws.String(id)})
	if code(err) == "NoSuchDistribution" {
		return []Finding{broken(check, remake+", under another name of CloudFront's; a domain follows it", "distribution %s does not exist", id)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get distribution %s: %w", id, err)
	}
	config := out.Distribution.DistributionConfig
	var found []Finding
	if !aws.ToBool(config.Enabled) {
		found = append(found, broken(check, redeploy, "distribution %s is disabled: nobody can read", id))
	}
	if status := aws.ToString(out.Distribution.Status); status != "Deployed" {
		found = append(found, doubtful(check, "wait a few minutes: `aws cloudfront wait distribution-deployed --id "+id+"`",
			"distribution %s is %s: edges still change over", id, status))
	}
	if host := d.domain(); host != "" && !slices.Contains(aliasesOf(config), host) {
		found = append(found, broken(check, redeploy, "distribution %s does not answer to %s", id, host))
	}
	for _, o := range originsOf(config) {
		if aws.ToString(o.OriginAccessControlId) == "" {
			found = append(found, broken(check, redeploy, "origin %s has no origin access control: S3 will refuse it", aws.ToString(o.DomainName)))
		}
	}
	viewers, err := d.viewers(check, config)
	if err != nil {
		return found, err
	}
	return orWell(append(found, viewers...), check, "%s is deployed and enabled", id), nil
}

// viewers compares what readers are offered with the stack: the oldest TLS, and whether
// plain HTTP is answered.
func (d Doctor) viewers(check string, config *cftypes.DistributionConfig) ([]Finding, error) {
	var found []Finding
	for _, id := range d.Stack.Template.OfType("AWS::CloudFront::Distribution") {
		declared, _ := d.Stack.Template.Resources[id].Properties["DistributionConfig"].(map[string]any)
		certificate, _ := declared["ViewerCertificate"].(map[string]any)
		want, _ := certificate["MinimumProtocolVersion"].(string)
		var have string
		if v := config.ViewerCertificate; v != nil {
			have = string(v.MinimumProtocolVersion)
		}
		if want != "" && have != want {
			found = append(found, broken(check, redeploy, "readers may use %s, the stack says %s and newer", orAny(have), want))
		}
	}
	policies := []cftypes.ViewerProtocolPolicy{}
	if config.DefaultCacheBehavior != nil {
		policies = append(policies, config.DefaultCacheBehavior.ViewerProtocolPolicy)
	}
	if config.CacheBehaviors != nil {
		for _, b := range config.CacheBehaviors.Items {
			policies = append(policies, b.ViewerProtocolPolicy)
		}
	}
	if slices.Contains(policies, cftypes.ViewerProtocolPolicyAllowAll) {
		found = append(found, broken(check, redeploy, "readers are answered without TLS"))
	}
	return found, nil
}

func orAny(s string) string {
	if s == "" {
		return "any version of TLS"
	}
	return s
}

func aliasesOf(c *cftypes.DistributionConfig) []string {
	if c.Aliases == nil {
		return nil
	}
	return c.Aliases.Items
}

func originsOf(c *cftypes.DistributionConfig) []cftypes.Origin {
	if c.Origins == nil {
		return nil
	}
	return c.Origins.Items
}

// domain is the cache's own host name, empty when it has only CloudFront's.
func (d Doctor) domain() string {
	u, err := url.Parse(d.Stack.Outputs["PublicUrl"])
	if err != nil || u.Hostname() == d.Stack.Outputs["DistributionDomainName"] {
		return ""
	}
	return u.Hostname()
}

// certificate examines whether the certificate of the domain, the stack's own or the
// given one, is issued and stays so.
func (d Doctor) certificate(ctx context.Context) ([]Finding, error) {
	const check = "certificate"
	own := d.Stack.first("AWS::CertificateManager::Certificate")
	arn := own
	if arn == "" {
		arn = d.Stack.givenCertificate()
	}
	if arn == "" {
		return well(check, "CloudFront's own"), nil
	}
	out, err := d.ACM.DescribeCertificate(ctx, &acm.DescribeCertificateInput{CertificateArn: aws.String(arn)})
	if code(err) == "ResourceNotFoundException" {
		return []Finding{broken(check, "replace it with --certificate-arn, or deploy without it for one of the stack's own", "%s does not exist", arn)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describe certificate %s: %w", arn, err)
	}
	c := out.Certificate
	host := aws.ToString(c.DomainName)
	if c.Status == acmtypes.CertificateStatusPendingValidation {
		return []Finding{broken(check, "ACM looks for "+validationRecord(c)+"; it finds it once the zone's name servers are those that the registrar names (dns, above)",
			"the certificate for %s waits for validation", host)}, nil
	}
	if c.Status != acmtypes.CertificateStatusIssued {
		return []Finding{broken(check, "`aws acm describe-certificate --certificate-arn "+arn+"` says why; replace it: infra deploy --certificate-arn",
			"the certificate for %s is %s", host, c.Status)}, nil
	}
	renew := "ACM renews by itself 60 days before the end while its validation record exists: check " + validationRecord(c)
	if c.Type == acmtypes.CertificateTypeImported {
		renew = "ACM does not renew what was imported. With the new certificate, its key and its chain in files: `aws acm import-certificate --certificate-arn " + arn +
			" --certificate fileb://certificate.pem --private-key fileb://key.pem --certificate-chain fileb://chain.pem`"
	}
	switch now := d.Now(); {
	case c.NotAfter == nil:
	case c.NotAfter.Before(now):
		return []Finding{broken(check, renew, "the certificate for %s ended on %s", host, c.NotAfter.Format(time.DateOnly))}, nil
	case c.NotAfter.Sub(now) < 30*24*time.Hour:
		return []Finding{doubtful(check, renew, "the certificate for %s ends on %s", host, c.NotAfter.Format(time.DateOnly))}, nil
	}
	return well(check, "issued for %s", host), nil
}

// givenCertificate is the ARN of a certificate that the stack uses and did not make.
func (s Stack) givenCertificate() string {
	for _, id := range s.Template.OfType("AWS::CloudFront::Distribution") {
		declared, _ := s.Template.Resources[id].Properties["DistributionConfig"].(map[string]any)
		certificate, _ := declared["ViewerCertificate"].(map[string]any)
		if arn, ok := certificate["AcmCertificateArn"].(string); ok {
			return arn
		}
	}
	return ""
}

func validationRecord(c *acmtypes.CertificateDetail) string {
	for _, v := range c.DomainValidationOptions {
		if v.ResourceRecord != nil {
			return "the CNAME " + aws.ToString(v.ResourceRecord.Name) + " with value " + aws.ToString(v.ResourceRecord.Value)
		}
	}
	return "the validation CNAME"
}

// dns asks Route53 for the records and a resolver for the host, as a reader does.
func (d Doctor) dns(ctx context.Context) ([]Finding, error) {
	const check = "dns"
	host := d.domain()
	if host == "" {
		return well(check, "no domain of its own"), nil
	}
	found, err := d.records(ctx, host)
	if err != nil {
		return nil, err
	}
	if addresses, err := d.Lookup(ctx, host); err != nil || len(addresses) == 0 {
		found = append(found, broken(check, "if the records are right, the zone is not the one that the registrar delegates to: compare its name servers with dig NS; a new delegation can take 48 hours",
			"%s does not resolve: %v", host, err))
	}
	return orWell(found, check, "%s leads to the distribution", host), nil
}

// records compares the alias records in the zone with the distribution.
func (d Doctor) records(ctx context.Context, host string) ([]Finding, error) {
	var found []Finding
	for _, id := range d.Stack.Template.OfType("AWS::Route53::RecordSet") {
		props := d.Stack.Template.Resources[id].Properties
		zone, err := d.Stack.Template.ResolveString(props["HostedZoneId"], d.Stack.World)
		if err != nil {
			return nil, err
		}
		kind := r53types.RRType(fmt.Sprint(props["Type"]))
		out, err := d.Route53.ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{
			HostedZoneId: aws.String(zone), StartRecordName: aws.String(host), StartRecordType: kind, MaxItems: aws.Int32(1)})
		if err != nil {
			return nil, fmt.Errorf("list records of zone %s: %w", zone, err)
		}
		if !leadsTo(out.ResourceRecordSets, host, kind, d.Stack.Outputs["DistributionDomainName"]) {
			found = append(found, broken("dns", d.setRecord(zone, host, kind), "zone %s has no %s record that leads %s to %s", zone, kind, host, d.Stack.Outputs["DistributionDomainName"]))
		}
	}
	return found, nil
}

func leadsTo(sets []r53types.ResourceRecordSet, host string, kind r53types.RRType, target string) bool {
	return slices.ContainsFunc(sets, func(s r53types.ResourceRecordSet) bool {
		return s.Type == kind && trimDot(s.Name) == host && s.AliasTarget != nil && trimDot(s.AliasTarget.DNSName) == target
	})
}

func trimDot(name *string) string { return strings.TrimSuffix(aws.ToString(name), ".") }

// publicURL asks the cache, as a reader does, for something that cannot exist. A 404
// proves the whole way: DNS, certificate, CDN, origin access and the right to list.
func (d Doctor) publicURL(ctx context.Context) ([]Finding, error) {
	const check = "public url"
	where := d.Stack.Outputs["PublicUrl"] + "/.infra-doctor-" + fmt.Sprint(d.Now().UnixNano())
	status, err := d.get(ctx, where)
	switch {
	case err != nil:
		return []Finding{broken(check, "dns and certificate, above, come first", "%v", err)}, nil
	case status == http.StatusNotFound:
		return well(check, "%s answers, and what is missing is a 404", d.Stack.Outputs["PublicUrl"]), nil
	case status == http.StatusForbidden:
		return []Finding{broken(check, "the bucket's policy must let the distribution read and list: "+redeploy, "GET %s answers 403, want 404", where)}, nil
	}
	return []Finding{broken(check, "`aws cloudfront get-distribution --id "+d.Stack.first("AWS::CloudFront::Distribution")+"` shows what it is configured to do", "GET %s answers %d, want 404", where, status)}, nil
}
