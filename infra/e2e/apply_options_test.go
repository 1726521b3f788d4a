package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
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

// callJSON calls a service that speaks AWS's JSON protocol. The SDK's client of Glue alone is
// a tenth of all source that the tests would compile, for two calls.
func callJSON(ctx context.Context, cfg aws.Config, service, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, *cfg.BaseEndpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", operation)
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), service, cfg.Region, time.Now()); err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", operation, res.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
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
	err := callJSON(ctx, cfg, "glue", "AWSGlue.CreateDatabase", p.pick("CatalogId", "DatabaseInput"), nil)
	return p.at("DatabaseInput", "Name").text(), nil, err
}

func makeTable(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	err := callJSON(ctx, cfg, "glue", "AWSGlue.CreateTable", p.pick("CatalogId", "DatabaseName", "TableInput"), nil)
	return p.at("TableInput", "Name").text(), nil, err
}

func makeWorkGroup(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	in := p.pick("Name", "Description")
	in["Configuration"] = p.at("WorkGroupConfiguration").v
	return p.at("Name").text(), nil, callJSON(ctx, cfg, "athena", "AmazonAthena.CreateWorkGroup", in, nil)
}

func makeNamedQuery(ctx context.Context, cfg aws.Config, p tree) (string, map[string]string, error) {
	var out struct{ NamedQueryId string } //nolint:revive // the name of Athena
	err := callJSON(ctx, cfg, "athena", "AmazonAthena.CreateNamedQuery", p.pick("Name", "Description", "Database", "QueryString", "WorkGroup"), &out)
	return out.NamedQueryId, nil, err
}
