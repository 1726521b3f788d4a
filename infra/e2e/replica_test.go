package e2e

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestReplicaIsMade: what is made in both regions replicates from one to the other.
func TestReplicaIsMade(t *testing.T) {
	cfg, stack, _ := deployAll(t)
	c := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	out, err := c.GetBucketReplication(context.Background(), &s3.GetBucketReplicationInput{Bucket: aws.String(stack.Outputs["BucketName"])})
	if err != nil || len(out.ReplicationConfiguration.Rules) != 1 || *out.ReplicationConfiguration.Rules[0].Destination.Bucket != "arn:aws:s3:::"+stack.Outputs["ReplicaBucketName"] {
		t.Errorf("%+v %v", out, err)
	}
}

// TestReplicaIsDeployedFirst: one infra deploy makes both stacks, the copy before the cache.
func TestReplicaIsDeployedFirst(t *testing.T) {
	needCDK(t)
	moto := narrow(t)
	mustInfra(t, moto.URL, "bootstrap", "--", "aws://"+account+"/eu-west-1")
	moto.requests()
	mustInfra(t, moto.URL, "deploy", "--no-approval", "--replica-region", "eu-west-1", "--output", t.TempDir())
	var stacks []string
	for _, set := range moto.changeSets() {
		stacks = append(stacks, stackOf(set))
	}
	if strings.Join(stacks, " ") != "SlurmFactoryInfraStack-replica SlurmFactoryInfraStack" {
		t.Errorf("deployed %v", stacks)
	}
	if !exists(t, bucketName+"-replica") || !exists(t, bucketName) {
		t.Error("a bucket was not made")
	}
	// Both are looked at, and the settings that the stack remembers say where.
	if r := infra(t, moto.URL, "doctor"); !strings.Contains(r.stdout, "replica bucket: s3://"+bucketName+"-replica") {
		t.Errorf("the copy is not examined: %s", r)
	}
	moto.requests()
	mustInfra(t, moto.URL, "drift", "--output", t.TempDir())
	var compared []string
	for _, s := range moto.requests() {
		if form, err := url.ParseQuery(string(s.body)); err == nil && form.Get("Action") == "DetectStackDrift" {
			compared = append(compared, stackOf(form))
		}
	}
	slices.Sort(compared)
	if strings.Join(compared, " ") != "SlurmFactoryInfraStack SlurmFactoryInfraStack-replica" {
		t.Errorf("drift of %v was detected", compared)
	}
}
