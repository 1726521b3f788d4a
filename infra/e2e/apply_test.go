package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acm"
	acmtypes "github.com/aws/aws-sdk-go-v2/service/acm/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// motoLacks are the types that moto has no API for. docs/infra-tests.md lists them, and
// a test compares.
var motoLacks = []string{
	"AWS::CE::AnomalyMonitor",
	"AWS::CE::AnomalySubscription",
	"AWS::CloudFront::CachePolicy",
	"AWS::CloudFront::MonitoringSubscription",
	"AWS::CloudFront::ResponseHeadersPolicy",
}

// An applier makes a template's resources through the services' own APIs, in order, as
// CloudFormation would: moto's CloudFormation lacks most of their types.
type applier struct {
	t     *testing.T
	cfg   aws.Config
	stack doctor.Stack
	made  map[string]int // resources by type
}

// apply makes the resources of a synthesized template and returns the stack.
func apply(t *testing.T, cfg aws.Config, body []byte) (doctor.Stack, map[string]int) {
	t.Helper()
	tpl, err := template.Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	order, err := tpl.Order()
	if err != nil {
		t.Fatal(err)
	}
	a := &applier{t: t, cfg: cfg, made: map[string]int{}, stack: doctor.Stack{
		Name: "SlurmFactoryInfraStack", Status: "CREATE_COMPLETE", Template: tpl, Outputs: map[string]string{},
		World: template.World{Account: account, Region: "us-east-1", StackName: "SlurmFactoryInfraStack",
			Ref: map[string]string{}, Attr: map[string]map[string]string{}},
	}}
	for _, id := range order {
		a.make(id, tpl.Resources[id])
		a.stack.Derive()
	}
	a.putLogging()
	for name, o := range tpl.Outputs {
		v, err := tpl.ResolveString(o.Value, a.stack.World)
		if err != nil {
			t.Fatalf("output %s: %v", name, err)
		}
		a.stack.Outputs[name] = v
	}
	return a.stack, a.made
}

// putLogging turns the buckets' access logs on, at the end: moto looks whether the log
// bucket's policy permits it, which comes after the bucket that is logged.
func (a *applier) putLogging() {
	a.t.Helper()
	c := s3.NewFromConfig(a.cfg, func(o *s3.Options) { o.UsePathStyle = true })
	for _, id := range a.stack.Template.OfType("AWS::S3::Bucket") {
		resolved, err := a.stack.Template.Resolve(a.stack.Template.Resources[id].Properties, a.stack.World)
		if err != nil {
			a.t.Fatal(err)
		}
		p := tree{resolved}
		if !p.at("LoggingConfiguration").has() {
			continue
		}
		if _, err := c.PutBucketLogging(context.Background(), &s3.PutBucketLoggingInput{Bucket: p.at("BucketName").str(), BucketLoggingStatus: &s3types.BucketLoggingStatus{
			LoggingEnabled: &s3types.LoggingEnabled{TargetBucket: p.at("LoggingConfiguration", "DestinationBucketName").str(),
				TargetPrefix: p.at("LoggingConfiguration", "LogFilePrefix").str()}}}); err != nil {
			a.t.Fatalf("log %s: %v", id, err)
		}
	}
}

func (a *applier) make(id string, r template.Resource) {
	a.t.Helper()
	resolved, err := a.stack.Template.Resolve(r.Properties, a.stack.World)
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.Type, id, err)
	}
	if slices.Contains(motoLacks, r.Type) {
		a.stack.World.Ref[id] = "658327ea-f89d-4fab-a63d-7e88639e58f6" // any existing policy's id does
		a.stack.World.Attr[id] = map[string]string{"MonitorArn": "arn:aws:ce::" + account + ":anomalymonitor/1"}
		return
	}
	build, ok := builders[r.Type]
	if !ok {
		a.t.Fatalf("%s %s: no builder, and not among what moto lacks", r.Type, id)
	}
	ref, attrs, err := build(context.Background(), a.cfg, tree{resolved})
	if err != nil {
		a.t.Fatalf("%s %s: %v", r.Type, id, err)
	}
	a.stack.World.Ref[id] = ref
	if len(attrs) > 0 {
		a.stack.World.Attr[id] = attrs
	}
	a.made[r.Type]++
}

// tree reads nested properties without a cast at each step.
type tree struct{ v any }

func (p tree) at(path ...string) tree {
	for _, k := range path {
		m, _ := p.v.(map[string]any)
		p = tree{m[k]}
	}
	return p
}

func (p tree) list() []tree {
	items, _ := p.v.([]any)
	out := make([]tree, 0, len(items))
	for _, e := range items {
		out = append(out, tree{e})
	}
	return out
}

func (p tree) has() bool { return p.v != nil }

func (p tree) str() *string {
	if p.v == nil {
		return nil
	}
	return aws.String(fmt.Sprint(p.v))
}

func (p tree) text() string { return aws.ToString(p.str()) }
func (p tree) yes() *bool   { b, _ := p.v.(bool); return &b }

func (p tree) strs() []string {
	var out []string
	for _, e := range p.list() {
		out = append(out, e.text())
	}
	return out
}

func (p tree) num() float64 { f, _ := p.v.(float64); return f }
func (p tree) int32() *int32 {
	if p.v == nil {
		return nil
	}
	return aws.Int32(int32(p.num()))
}

func (p tree) json() *string {
	b, err := json.Marshal(p.v)
	if err != nil {
		panic(err)
	}
	return aws.String(string(b))
}

// A builder makes one resource and returns what Ref and Fn::GetAtt give for it.
type builder func(context.Context, aws.Config, tree) (ref string, attrs map[string]string, err error)

var builders = map[string]builder{
	"AWS::S3::Bucket":                      makeBucket,
	"AWS::S3::BucketPolicy":                makeBucketPolicy,
	"AWS::CloudFront::OriginAccessControl": makeOAC,
	"AWS::CloudFront::Distribution":        makeDistribution,
	"AWS::CertificateManager::Certificate": makeCertificate,
	"AWS::Route53::RecordSet":              makeRecord,
	"AWS::IAM::OIDCProvider":               makeProvider,
	"AWS::IAM::Role":                       makeRole,
	"AWS::IAM::User":                       makeUser,
	"AWS::IAM::Policy":                     makePolicy,
	"AWS::Logs::DeliverySource":            makeDeliverySource,
	"AWS::Logs::DeliveryDestination":       makeDeliveryDestination,
	"AWS::Logs::Delivery":                  makeDelivery,
	"AWS::CloudWatch::Alarm":               makeAlarm,
	"AWS::CloudWatch::Dashboard":           makeDashboard,
	"AWS::SNS::Topic":                      makeTopic,
	"AWS::SNS::TopicPolicy":                makeTopicPolicy,
	"AWS::SNS::Subscription":               makeSubscription,
	"AWS::CloudTrail::Trail":               makeTrail,
	"AWS::Budgets::Budget":                 makeBudget,
	"AWS::SQS::Queue":                      makeQueue,
	"AWS::SQS::QueuePolicy":                makeQueuePolicy,
	"AWS::IAM::InstanceProfile":            makeInstanceProfile,
	"AWS::KMS::Key":                        makeKey,
	"AWS::KMS::Alias":                      makeKeyAlias,
	"AWS::Glue::Database":                  makeDatabase,
	"AWS::Glue::Table":                     makeTable,
	"AWS::Athena::WorkGroup":               makeWorkGroup,
	"AWS::Athena::NamedQuery":              makeNamedQuery,
}

// unless is the error, but for one that says that the thing is there already.
func unless(err error, code string) error {
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorCode() == code {
		return nil
	}
	return err
}

// firstError runs steps until one fails.
func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func makeBucket(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	name := p.at("BucketName").str()
	err := firstError(
		func() error {
			_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: name, ObjectLockEnabledForBucket: p.at("ObjectLockEnabled").yes()})
			return unless(err, "BucketAlreadyOwnedByYou")
		},
		func() error {
			if !p.at("VersioningConfiguration").has() {
				return nil
			}
			_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: name, VersioningConfiguration: &s3types.VersioningConfiguration{
				Status: s3types.BucketVersioningStatus(p.at("VersioningConfiguration", "Status").text())}})
			return err
		},
		func() error {
			b := p.at("PublicAccessBlockConfiguration")
			_, err := c.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{Bucket: name, PublicAccessBlockConfiguration: &s3types.PublicAccessBlockConfiguration{
				BlockPublicAcls: b.at("BlockPublicAcls").yes(), BlockPublicPolicy: b.at("BlockPublicPolicy").yes(),
				IgnorePublicAcls: b.at("IgnorePublicAcls").yes(), RestrictPublicBuckets: b.at("RestrictPublicBuckets").yes()}})
			return err
		},
		func() error {
			rule := p.at("BucketEncryption", "ServerSideEncryptionConfiguration").list()[0].at("ServerSideEncryptionByDefault", "SSEAlgorithm")
			_, err := c.PutBucketEncryption(ctx, &s3.PutBucketEncryptionInput{Bucket: name, ServerSideEncryptionConfiguration: &s3types.ServerSideEncryptionConfiguration{
				Rules: []s3types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &s3types.ServerSideEncryptionByDefault{
					SSEAlgorithm: s3types.ServerSideEncryption(rule.text())}}}}})
			return err
		},
		func() error {
			rule := p.at("OwnershipControls", "Rules").list()[0].at("ObjectOwnership")
			_, err := c.PutBucketOwnershipControls(ctx, &s3.PutBucketOwnershipControlsInput{Bucket: name, OwnershipControls: &s3types.OwnershipControls{
				Rules: []s3types.OwnershipControlsRule{{ObjectOwnership: s3types.ObjectOwnership(rule.text())}}}})
			return err
		},
		func() error { return putLock(ctx, c, name, p.at("ObjectLockConfiguration")) },
		func() error { return putInventory(ctx, c, name, p.at("InventoryConfigurations")) },
		func() error { return putReplication(ctx, c, name, p.at("ReplicationConfiguration")) },
		func() error { return putLifecycle(ctx, c, name, p.at("LifecycleConfiguration", "Rules")) },
		func() error { return putCORS(ctx, c, name, p.at("CorsConfiguration", "CorsRules")) },
		func() error {
			return putNotifications(ctx, c, name, p.at("NotificationConfiguration", "QueueConfigurations"))
		},
	)
	return *name, nil, err
}

func putLifecycle(ctx context.Context, c *s3.Client, name *string, rules tree) error {
	var out []s3types.LifecycleRule
	for _, r := range rules.list() {
		rule := s3types.LifecycleRule{ID: r.at("Id").str(), Status: s3types.ExpirationStatus(r.at("Status").text()),
			Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String(r.at("Prefix").text())}}
		if d := r.at("NoncurrentVersionExpiration", "NoncurrentDays"); d.has() {
			rule.NoncurrentVersionExpiration = &s3types.NoncurrentVersionExpiration{NoncurrentDays: d.int32()}
		}
		if d := r.at("AbortIncompleteMultipartUpload", "DaysAfterInitiation"); d.has() {
			rule.AbortIncompleteMultipartUpload = &s3types.AbortIncompleteMultipartUpload{DaysAfterInitiation: d.int32()}
		}
		if r.at("ExpiredObjectDeleteMarker").has() {
			rule.Expiration = &s3types.LifecycleExpiration{ExpiredObjectDeleteMarker: aws.Bool(true)}
		}
		if d := r.at("ExpirationInDays"); d.has() {
			rule.Expiration = &s3types.LifecycleExpiration{Days: d.int32()}
		}
		for _, tr := range r.at("Transitions").list() {
			rule.Transitions = append(rule.Transitions, s3types.Transition{Days: tr.at("TransitionInDays").int32(),
				StorageClass: s3types.TransitionStorageClass(tr.at("StorageClass").text())})
		}
		out = append(out, rule)
	}
	_, err := c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: name,
		LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{Rules: out}})
	return err
}

func putCORS(ctx context.Context, c *s3.Client, name *string, rules tree) error {
	var out []s3types.CORSRule
	for _, r := range rules.list() {
		out = append(out, s3types.CORSRule{AllowedMethods: r.at("AllowedMethods").strs(), AllowedOrigins: r.at("AllowedOrigins").strs(),
			AllowedHeaders: r.at("AllowedHeaders").strs(), ExposeHeaders: r.at("ExposedHeaders").strs(), MaxAgeSeconds: r.at("MaxAge").int32()})
	}
	if len(out) == 0 {
		return nil
	}
	_, err := c.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: name, CORSConfiguration: &s3types.CORSConfiguration{CORSRules: out}})
	return err
}

func putNotifications(ctx context.Context, c *s3.Client, name *string, queues tree) error {
	var out []s3types.QueueConfiguration
	for _, q := range queues.list() {
		told := s3types.QueueConfiguration{QueueArn: q.at("Queue").str(), Events: []s3types.Event{s3types.Event(q.at("Event").text())},
			Filter: &s3types.NotificationConfigurationFilter{Key: &s3types.S3KeyFilter{}}}
		for _, r := range q.at("Filter", "S3Key", "Rules").list() {
			told.Filter.Key.FilterRules = append(told.Filter.Key.FilterRules,
				s3types.FilterRule{Name: s3types.FilterRuleName(r.at("Name").text()), Value: r.at("Value").str()})
		}
		out = append(out, told)
	}
	if len(out) == 0 {
		return nil
	}
	_, err := c.PutBucketNotificationConfiguration(ctx, &s3.PutBucketNotificationConfigurationInput{Bucket: name,
		NotificationConfiguration: &s3types.NotificationConfiguration{QueueConfigurations: out}})
	return err
}

func makeBucketPolicy(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: p.at("Bucket").str(), Policy: p.at("PolicyDocument").json()})
	return p.at("Bucket").text(), nil, err
}

func makeOAC(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	o := p.at("OriginAccessControlConfig")
	out, err := cloudfront.NewFromConfig(cfg).CreateOriginAccessControl(ctx, &cloudfront.CreateOriginAccessControlInput{
		OriginAccessControlConfig: &cftypes.OriginAccessControlConfig{
			Name:                          o.at("Name").str(),
			OriginAccessControlOriginType: cftypes.OriginAccessControlOriginTypes(o.at("OriginAccessControlOriginType").text()),
			SigningBehavior:               cftypes.OriginAccessControlSigningBehaviors(o.at("SigningBehavior").text()),
			SigningProtocol:               cftypes.OriginAccessControlSigningProtocols(o.at("SigningProtocol").text()),
		}})
	if err != nil {
		return "", nil, err
	}
	return *out.OriginAccessControl.Id, nil, nil
}

func makeDistribution(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := cloudfront.NewFromConfig(cfg).CreateDistribution(ctx, &cloudfront.CreateDistributionInput{DistributionConfig: distributionConfig(p)})
	if err != nil {
		return "", nil, err
	}
	return *out.Distribution.Id, map[string]string{"DomainName": *out.Distribution.DomainName}, nil
}

func distributionConfig(p tree) *cftypes.DistributionConfig {
	d := p.at("DistributionConfig")
	var origins []cftypes.Origin
	for _, o := range d.at("Origins").list() {
		origins = append(origins, cftypes.Origin{Id: o.at("Id").str(), DomainName: o.at("DomainName").str(),
			OriginAccessControlId: o.at("OriginAccessControlId").str(), S3OriginConfig: &cftypes.S3OriginConfig{OriginAccessIdentity: aws.String("")}})
	}
	// moto knows no origin groups: a behavior gets the first origin of its group.
	primary := map[string]string{}
	for _, g := range d.at("OriginGroups", "Items").list() {
		primary[g.at("Id").text()] = g.at("Members", "Items").list()[0].at("OriginId").text()
	}
	target := func(b tree) *string {
		id := b.at("TargetOriginId").text()
		if first, ok := primary[id]; ok {
			id = first
		}
		return &id
	}
	var behaviors []cftypes.CacheBehavior
	for _, b := range d.at("CacheBehaviors").list() {
		behaviors = append(behaviors, cftypes.CacheBehavior{PathPattern: b.at("PathPattern").str(), TargetOriginId: target(b),
			ViewerProtocolPolicy: cftypes.ViewerProtocolPolicy(b.at("ViewerProtocolPolicy").text()), CachePolicyId: b.at("CachePolicyId").str()})
	}
	first := d.at("DefaultCacheBehavior")
	return &cftypes.DistributionConfig{
		CallerReference:   aws.String("e2e"),
		Comment:           d.at("Comment").str(),
		Enabled:           d.at("Enabled").yes(),
		DefaultRootObject: d.at("DefaultRootObject").str(),
		HttpVersion:       cftypes.HttpVersion(d.at("HttpVersion").text()),
		PriceClass:        cftypes.PriceClass(d.at("PriceClass").text()),
		Aliases:           &cftypes.Aliases{Items: d.at("Aliases").strs(), Quantity: aws.Int32(int32(len(d.at("Aliases").list())))},
		Origins:           &cftypes.Origins{Items: origins, Quantity: aws.Int32(int32(len(origins)))},
		CacheBehaviors:    &cftypes.CacheBehaviors{Items: behaviors, Quantity: aws.Int32(int32(len(behaviors)))},
		DefaultCacheBehavior: &cftypes.DefaultCacheBehavior{TargetOriginId: target(first),
			ViewerProtocolPolicy: cftypes.ViewerProtocolPolicy(first.at("ViewerProtocolPolicy").text()), CachePolicyId: first.at("CachePolicyId").str(),
			Compress: first.at("Compress").yes()},
		ViewerCertificate: &cftypes.ViewerCertificate{ACMCertificateArn: d.at("ViewerCertificate", "AcmCertificateArn").str(),
			MinimumProtocolVersion: cftypes.MinimumProtocolVersion(d.at("ViewerCertificate", "MinimumProtocolVersion").text())},
	}
}

func makeCertificate(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := acm.NewFromConfig(cfg).RequestCertificate(ctx, &acm.RequestCertificateInput{DomainName: p.at("DomainName").str(),
		ValidationMethod: acmtypes.ValidationMethod(p.at("ValidationMethod").text())})
	if err != nil {
		return "", nil, err
	}
	return *out.CertificateArn, nil, nil
}

func makeRecord(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	_, err := route53.NewFromConfig(cfg).ChangeResourceRecordSets(ctx, &route53.ChangeResourceRecordSetsInput{
		HostedZoneId: p.at("HostedZoneId").str(),
		ChangeBatch: &r53types.ChangeBatch{Changes: []r53types.Change{{Action: r53types.ChangeActionCreate, ResourceRecordSet: &r53types.ResourceRecordSet{
			Name: p.at("Name").str(), Type: r53types.RRType(p.at("Type").text()),
			AliasTarget: &r53types.AliasTarget{DNSName: p.at("AliasTarget", "DNSName").str(), HostedZoneId: p.at("AliasTarget", "HostedZoneId").str()}}}}}})
	return p.at("Name").text(), nil, err
}

func makeProvider(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := iam.NewFromConfig(cfg).CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url: p.at("Url").str(), ClientIDList: p.at("ClientIdList").strs(), ThumbprintList: []string{strings.Repeat("0", 40)}})
	if err != nil {
		return "", nil, err
	}
	return *out.OpenIDConnectProviderArn, nil, nil
}

// types lists what was made, for messages.
func types(made map[string]int) string {
	return strings.Join(slices.Sorted(maps.Keys(made)), ", ")
}

// liftBucketPolicy takes the bucket's policy away again, after it was made: moto applies
// a Deny without looking at its conditions, so that "deny without TLS" denies every
// write. What the policy says is asked of the evaluator instead.
func liftBucketPolicy(t *testing.T, cfg aws.Config, stack doctor.Stack) {
	t.Helper()
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := c.DeleteBucketPolicy(context.Background(), &s3.DeleteBucketPolicyInput{Bucket: aws.String(stack.Outputs["BucketName"])}); err != nil {
		t.Fatal(err)
	}
}
