package infra

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscertificatemanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudfront"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53targets"
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
	target := awsroute53.RecordTarget_FromAlias(awsroute53targets.NewCloudFrontTarget(distribution))
	awsroute53.NewARecord(stack, jsii.String("AliasRecord"), &awsroute53.ARecordProps{
		Zone: zone, RecordName: jsii.String(c.Domain), Target: target,
	})
	awsroute53.NewAaaaRecord(stack, jsii.String("AliasRecordIPv6"), &awsroute53.AaaaRecordProps{
		Zone: zone, RecordName: jsii.String(c.Domain), Target: target,
	})
}
