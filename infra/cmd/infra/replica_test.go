package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/vantagecompute/slurm-factory-publish/infra"
)

// replicated is the site of a stack with a copy in eu-west-1.
func replicated(settings map[string][]string) site {
	c := infra.Default()
	c.Account, c.ReplicaRegion = "123456789012", "eu-west-1"
	return site{Config: c, live: live{settings: settings}}
}

// TestTheCopyThatStaysIsNamed, with the commands that delete it, once nothing is copied to it.
func TestTheCopyThatStaysIsNamed(t *testing.T) {
	for _, row := range []struct {
		name, before, now string
		said              bool
	}{
		{"taken away", "eu-west-1", "", true}, {"moved", "eu-west-1", "eu-north-1", true},
		{"kept", "eu-west-1", "eu-west-1", false}, {"never there", "none", "", false},
	} {
		s := replicated(map[string][]string{"replica-region": {row.before}})
		s.ReplicaRegion = row.now
		var out bytes.Buffer
		(&tool{environment: environment{stderr: &out}}).sayWhatIsLeft(s)
		for _, want := range []string{
			"stack SlurmFactoryInfraStack-replica in eu-west-1", "s3://" + s.Bucket() + "-replica",
			"delete-stack --region eu-west-1 --stack-name SlurmFactoryInfraStack-replica\n",
			"delete-bucket --region eu-west-1 --bucket " + s.Bucket() + "-replica\n",
		} {
			if strings.Contains(out.String(), want) != row.said {
				t.Errorf("%s: want %q: %t\n%s", row.name, want, row.said, out.String())
			}
		}
	}
}

// TestHintNamesTheRegionThatIsNotBootstrapped: the copy's is a region of its own.
func TestHintNamesTheRegionThatIsNotBootstrapped(t *testing.T) {
	const ofCopy = "infra bootstrap -- aws://123456789012/eu-west-1"
	for _, row := range []struct {
		prepared []string
		copied   bool
		want     []string
	}{
		{[]string{"us-east-1"}, true, []string{"not bootstrapped in eu-west-1", ofCopy}},
		{nil, true, []string{"not bootstrapped in us-east-1", ofCopy}},
		{nil, false, []string{"not bootstrapped in us-east-1: infra bootstrap, once"}},
		{[]string{"us-east-1", "eu-west-1"}, true, nil},
		{[]string{"us-east-1"}, false, nil},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, region := range row.prepared {
				if strings.Contains(r.Header.Get("Authorization"), "/"+region+"/") {
					fmt.Fprint(w, `<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>CDKToolkit</StackName><StackStatus>CREATE_COMPLETE</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>`)
					return
				}
			}
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack with id CDKToolkit does not exist</Message></Error></ErrorResponse>`)
		}))
		s := replicated(nil)
		if !row.copied {
			s.ReplicaRegion = ""
		}
		s.aws = aws.Config{Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", "")}
		hint := whereNotBootstrapped(t.Context(), s)
		for _, want := range row.want {
			if !strings.Contains(hint, want) {
				t.Errorf("bootstrapped in %v: %q, want %q", row.prepared, hint, want)
			}
		}
		if row.want == nil && hint != "" {
			t.Errorf("bootstrapped in %v: %q", row.prepared, hint)
		}
		server.Close()
	}
}
