package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/jsii-runtime-go"
)

// newCertificate is the certificate of the domain, the given one or a new one that
// validates itself through the zone. Both results are nil without a domain, and the
// zone is nil when the DNS is kept elsewhere.
func newCertificate(stack awscdk.Stack, c Config) (awsroute53.IHostedZone, awscertificatemanager.ICertificate) {
	if c.Domain == "" {
		return nil, nil
	}
	var zone awsroute53.IHostedZone
	if c.HostedZoneID != "" {
		zone = awsroute53.HostedZone_FromHostedZoneAttributes(stack, jsii.String("HostedZone"), &awsroute53.HostedZoneAttributes{
			HostedZoneId: jsii.String(c.HostedZoneID),
			ZoneName:     jsii.String(c.ZoneName),
		})
	}
	if c.CertificateArn != "" {
		return zone, awscertificatemanager.Certificate_FromCertificateArn(stack, jsii.String("GivenCertificate"), jsii.String(c.CertificateArn))
	}
	return zone, awscertificatemanager.NewCertificate(stack, jsii.String("Certificate"), &awscertificatemanager.CertificateProps{
		DomainName: jsii.String(c.Domain),
		Validation: awscertificatemanager.CertificateValidation_FromDns(zone),
	})
}

// newAliasRecords points the domain at the distribution, for IPv4 and IPv6. An alias
// has no TTL of its own and its queries are free.
func newAliasRecords(stack awscdk.Stack, c Config, zone awsroute53.IHostedZone, distribution awscloudfront.IDistribution) {
	if zone == nil {
		return
	}
	target := awsroute53.RecordTarget_FromAlias(&cdnTarget{distribution})
	awsroute53.NewARecord(stack, jsii.String("AliasRecord"), &awsroute53.ARecordProps{
		Zone: zone, RecordName: jsii.String(c.Domain), Target: target,
	})
	awsroute53.NewAaaaRecord(stack, jsii.String("AliasRecordIPv6"), &awsroute53.AaaaRecordProps{
		Zone: zone, RecordName: jsii.String(c.Domain), Target: target,
	})
}

// cdnZone is the zone of all names of CloudFront, which an alias must name.
const cdnZone = "Z2FDTNDATAQYW2"

// A cdnTarget is what an alias leads to. CDK's own is in a module that knows every target
// there is, and brings in the bindings of all their services (docs/infra-tests.md).
type cdnTarget struct{ distribution awscloudfront.IDistribution }

// Bind is called by CDK for each record.
func (t *cdnTarget) Bind(awsroute53.IRecordSet, awsroute53.IHostedZone) *awsroute53.AliasRecordTargetConfig {
	return &awsroute53.AliasRecordTargetConfig{DnsName: t.distribution.DistributionDomainName(), HostedZoneId: jsii.String(cdnZone)}
}
