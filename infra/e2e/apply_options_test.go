package e2e

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/athena"
	athenatypes "github.com/aws/aws-sdk-go-v2/service/athena/types"
	"github.com/aws/aws-sdk-go-v2/service/glue"
	gluetypes "github.com/aws/aws-sdk-go-v2/service/glue/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
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

func makeDatabase(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	d := p.at("DatabaseInput")
	_, err := glue.NewFromConfig(cfg).CreateDatabase(ctx, &glue.CreateDatabaseInput{CatalogId: p.at("CatalogId").str(),
		DatabaseInput: &gluetypes.DatabaseInput{Name: d.at("Name").str(), Description: d.at("Description").str()}})
	return d.at("Name").text(), nil, err
}

func makeTable(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in, sd := p.at("TableInput"), p.at("TableInput", "StorageDescriptor")
	var columns []gluetypes.Column
	for _, c := range sd.at("Columns").list() {
		columns = append(columns, gluetypes.Column{Name: c.at("Name").str(), Type: c.at("Type").str()})
	}
	parameters := map[string]string{}
	given, _ := sd.at("SerdeInfo", "Parameters").v.(map[string]any)
	for k, v := range given {
		parameters[k] = tree{v}.text()
	}
	_, err := glue.NewFromConfig(cfg).CreateTable(ctx, &glue.CreateTableInput{DatabaseName: p.at("DatabaseName").str(), TableInput: &gluetypes.TableInput{
		Name: in.at("Name").str(), Description: in.at("Description").str(), TableType: in.at("TableType").str(), StorageDescriptor: &gluetypes.StorageDescriptor{
			Columns: columns, Location: sd.at("Location").str(), InputFormat: sd.at("InputFormat").str(), OutputFormat: sd.at("OutputFormat").str(),
			SerdeInfo: &gluetypes.SerDeInfo{SerializationLibrary: sd.at("SerdeInfo", "SerializationLibrary").str(), Parameters: parameters}}}})
	return in.at("Name").text(), nil, err
}

func makeWorkGroup(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	c := p.at("WorkGroupConfiguration")
	_, err := athena.NewFromConfig(cfg).CreateWorkGroup(ctx, &athena.CreateWorkGroupInput{Name: p.at("Name").str(), Description: p.at("Description").str(),
		Configuration: &athenatypes.WorkGroupConfiguration{EnforceWorkGroupConfiguration: c.at("EnforceWorkGroupConfiguration").yes(),
			BytesScannedCutoffPerQuery: aws.Int64(int64(c.at("BytesScannedCutoffPerQuery").num())),
			ResultConfiguration:        &athenatypes.ResultConfiguration{OutputLocation: c.at("ResultConfiguration", "OutputLocation").str()}}})
	return p.at("Name").text(), nil, err
}

func makeNamedQuery(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	out, err := athena.NewFromConfig(cfg).CreateNamedQuery(ctx, &athena.CreateNamedQueryInput{Name: p.at("Name").str(), Description: p.at("Description").str(),
		Database: p.at("Database").str(), QueryString: p.at("QueryString").str(), WorkGroup: p.at("WorkGroup").str()})
	if err != nil {
		return "", nil, err
	}
	return *out.NamedQueryId, nil, nil
}
