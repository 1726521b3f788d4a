package e2e

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/awsjson"
)

func putLock(ctx context.Context, c *s3.Client, name *string, p tree) error {
	if !p.has() {
		return nil
	}
	rule := p.at("Rule", "DefaultRetention")
	_, err := c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: name, ObjectLockConfiguration: &s3types.ObjectLockConfiguration{
		ObjectLockEnabled: s3types.ObjectLockEnabled(p.at("ObjectLockEnabled").text()),
		Rule:              &s3types.ObjectLockRule{DefaultRetention: &s3types.DefaultRetention{Mode: s3types.ObjectLockRetentionMode(rule.at("Mode").text()), Days: rule.at("Days").int32()}}}})
	return err
}

func putInventory(ctx context.Context, c *s3.Client, name *string, p tree) error {
	for _, i := range p.list() {
		to := i.at("Destination")
		var fields []s3types.InventoryOptionalField
		for _, f := range i.at("OptionalFields").strs() {
			fields = append(fields, s3types.InventoryOptionalField(f))
		}
		if _, err := c.PutBucketInventoryConfiguration(ctx, &s3.PutBucketInventoryConfigurationInput{Bucket: name, Id: i.at("Id").str(), InventoryConfiguration: &s3types.InventoryConfiguration{
			Id: i.at("Id").str(), IsEnabled: i.at("Enabled").yes(), OptionalFields: fields,
			IncludedObjectVersions: s3types.InventoryIncludedObjectVersions(i.at("IncludedObjectVersions").text()),
			Schedule:               &s3types.InventorySchedule{Frequency: s3types.InventoryFrequency(i.at("ScheduleFrequency").text())},
			Destination: &s3types.InventoryDestination{S3BucketDestination: &s3types.InventoryS3BucketDestination{Bucket: to.at("BucketArn").str(),
				AccountId: to.at("BucketAccountId").str(), Format: s3types.InventoryFormat(to.at("Format").text()), Prefix: to.at("Prefix").str()}},
		}}); err != nil {
			return err
		}
	}
	return nil
}

func putReplication(ctx context.Context, c *s3.Client, name *string, p tree) error {
	if !p.has() {
		return nil
	}
	var rules []s3types.ReplicationRule
	for _, r := range p.at("Rules").list() {
		rules = append(rules, s3types.ReplicationRule{ID: r.at("Id").str(), Status: s3types.ReplicationRuleStatus(r.at("Status").text()), Priority: r.at("Priority").int32(),
			Filter:                  &s3types.ReplicationRuleFilter{Prefix: r.at("Filter", "Prefix").str()},
			DeleteMarkerReplication: &s3types.DeleteMarkerReplication{Status: s3types.DeleteMarkerReplicationStatus(r.at("DeleteMarkerReplication", "Status").text())},
			Destination: &s3types.Destination{Bucket: r.at("Destination", "Bucket").str(),
				Metrics: &s3types.Metrics{Status: s3types.MetricsStatus(r.at("Destination", "Metrics", "Status").text())}}})
	}
	_, err := c.PutBucketReplication(ctx, &s3.PutBucketReplicationInput{Bucket: name,
		ReplicationConfiguration: &s3types.ReplicationConfiguration{Role: p.at("Role").str(), Rules: rules}})
	return err
}

// pick are some properties of a resource, which both services call as CloudFormation does.
func (p tree) pick(names ...string) map[string]any {
	picked := map[string]any{}
	for _, name := range names {
		if v := p.at(name); v.has() {
			picked[name] = v.v
		}
	}
	return picked
}

func makeDatabase(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	err := awsjson.Call(ctx, cfg, "glue", "AWSGlue.CreateDatabase", p.pick("CatalogId", "DatabaseInput"), nil)
	return p.at("DatabaseInput", "Name").text(), nil, err
}

func makeTable(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	err := awsjson.Call(ctx, cfg, "glue", "AWSGlue.CreateTable", p.pick("CatalogId", "DatabaseName", "TableInput"), nil)
	return p.at("TableInput", "Name").text(), nil, err
}

func makeWorkGroup(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := p.pick("Name", "Description")
	in["Configuration"] = p.at("WorkGroupConfiguration").v
	return p.at("Name").text(), nil, awsjson.Call(ctx, cfg, "athena", "AmazonAthena.CreateWorkGroup", in, nil)
}

func makeNamedQuery(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	var out struct{ NamedQueryId string } //nolint:revive // the name of Athena
	err := awsjson.Call(ctx, cfg, "athena", "AmazonAthena.CreateNamedQuery", p.pick("Name", "Description", "Database", "QueryString", "WorkGroup"), &out)
	return out.NamedQueryId, nil, err
}
