package cdn_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"

	"github.com/vantagecompute/slurm-factory-publish/test/cdn"
)

// AWS's own client understands it.
func TestControl(t *testing.T) {
	w := newWorld(t)
	control := &cdn.Control{Edge: w.edge, Distribution: "E1"}
	api := httptest.NewServer(control)
	defer api.Close()
	c := cloudfront.New(cloudfront.Options{
		BaseEndpoint: &api.URL, Region: "us-east-1", Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	invalidate := func(distribution, reference string, paths ...string) (string, error) {
		out, err := c.CreateInvalidation(t.Context(), &cloudfront.CreateInvalidationInput{
			DistributionId: &distribution,
			InvalidationBatch: &types.InvalidationBatch{
				CallerReference: &reference,
				Paths:           &types.Paths{Quantity: aws.Int32(int32(len(paths))), Items: paths},
			},
		})
		if err != nil {
			return "", err
		}
		got, err := c.GetInvalidation(t.Context(), &cloudfront.GetInvalidationInput{DistributionId: &distribution, Id: out.Invalidation.Id})
		if err != nil || aws.ToString(got.Invalidation.Status) != "Completed" {
			t.Errorf("status: %+v, %v", got, err)
		}
		return aws.ToString(out.Invalidation.Id), nil
	}
	w.content["/a"] = "old"
	w.get(t, "/a")
	w.content["/a"] = "new"
	first, err := invalidate("E1", "one", "/a")
	if err != nil || w.get(t, "/a") != "new" {
		t.Errorf("%v; still %q", err, w.get(t, "/a"))
	}
	if again, err := invalidate("E1", "one", "/a"); again != first || err != nil {
		t.Errorf("again: %q, %v, want %q", again, err, first)
	}
	for _, row := range []struct{ distribution, reference, path, want string }{
		{"E1", "one", "/b", "InvalidationBatchAlreadyExists"},
		{"E2", "two", "/b", "NoSuchDistribution"},
		{"E1", "two", "b", "InvalidArgument"},
	} {
		if _, err := invalidate(row.distribution, row.reference, row.path); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v", row, err)
		}
	}
	if made := control.Made(); len(made) != 1 {
		t.Errorf("made: %v", made)
	}
}
