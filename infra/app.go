// Package infra is the infrastructure of the public Spack buildcache as a CDK app:
// the bucket, the distribution before it, the names, the roles that may publish,
// and what watches them.
//
// Same configuration, same template, on any machine: feature flags are set here and
// not in cdk.json, and nothing is looked up in an account. The construct ids are
// those of the Python stack that this one replaces, so a deployed bucket and
// distribution are updated in place and never replaced.
package infra

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

// featureFlags are CDK's choices that shape this template. A test or a build that
// does not read cdk.json must come to the same result as one that does.
var featureFlags = map[string]any{
	"@aws-cdk/aws-iam:minimizePolicies":               true,
	"@aws-cdk/aws-iam:standardizedServicePrincipals":  true,
	"@aws-cdk/aws-s3:createDefaultLoggingPolicy":      true,
	"@aws-cdk/aws-s3:publicAccessBlockedByDefault":    true,
	"@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": true,
	"@aws-cdk/core:checkSecretUsage":                  true,
	"@aws-cdk/core:enablePartitionLiterals":           true,
	"@aws-cdk/core:target-partitions":                 []string{"aws"},
	"@aws-cdk/core:validateSnapshotRemovalPolicy":     true,
	// The CDK command line tool turns this on for the apps that it starts, and the console
	// shows the stack as a tree by it. Set here, infra and plain cdk make the same template.
	"aws:cdk:enable-path-metadata": true,
	"@aws-cdk/aws-cloudwatch-actions:changeLambdaPermissionLogicalIdForLambdaAction": true,
}

// NewApp builds the app of a valid configuration. Its assembly goes to outdir, or to
// where the CDK command line tool asks for it when outdir is empty.
func NewApp(c Config, outdir string) (awscdk.App, awscdk.Stack) {
	flags := featureFlags
	props := &awscdk.AppProps{
		AnalyticsReporting: jsii.Bool(false),
		PostCliContext:     &flags,
	}
	if outdir != "" {
		props.Outdir = jsii.String(outdir)
	}
	app := awscdk.NewApp(props)
	stack := newStack(app, c)
	newReplicaStack(app, c, stack)
	acceptFindings(stack, c)
	return app, stack
}

// newStack puts everything into one stack: bucket policy and distribution need each
// other, and one stack is one thing to deploy, to compare and to take back.
func newStack(app awscdk.App, c Config) awscdk.Stack {
	env := &awscdk.Environment{Region: jsii.String(Region)}
	if c.Account != "" {
		env.Account = jsii.String(c.Account)
	}
	stack := awscdk.NewStack(app, jsii.String(c.StackName), &awscdk.StackProps{
		Env:         env,
		Description: jsii.String("Public Spack buildcache: bucket, CDN and publishing roles"),
		Tags:        c.tags(),

		TerminationProtection: jsii.Bool(c.Protect),
	})
	rememberSettings(stack, c)
	logs := newLogBucket(stack, c)
	bucket := newCacheBucket(stack, c, logs)
	listObjects(c, bucket, logs, *stack.Account())
	replicate(stack, c, bucket)
	zone, certificate := newCertificate(stack, c)
	distribution := newDistribution(stack, c, bucket, certificate)
	prepareCacheTags(c, distribution)
	newAliasRecords(stack, c, zone, distribution)
	provider := githubProvider(stack, c)
	signingKey := newSigningKey(stack, c)
	roles := newPublishers(stack, c, provider, bucket, distribution, signingKey)
	newManualUser(stack, c, bucket, distribution)
	newDeployers(stack, c, provider)
	deliverAccessLogs(stack, distribution, logs)
	recordWrites(stack, c, bucket, logs)
	newAthena(stack, c, logs)
	index := newIndexer(stack, c, bucket, distribution)
	newMonitoring(stack, c, bucket, distribution, certificate, index)
	newBudget(stack, c)
	newCostAnomaly(stack, c)
	newOutputs(stack, c, bucket, logs, distribution, roles, index, signingKey)
	applyBoundary(stack, c)
	return stack
}

// Synth writes the cloud assembly of the configuration into outdir and returns its
// directory. What CDK reports by panicking comes back as an error.
func Synth(c Config, outdir string) (dir string, err error) {
	if err := c.Validate(); err != nil {
		return "", err
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("synthesize %s: %v", c.StackName, p)
		}
	}()
	app, _ := NewApp(c, outdir)
	return *app.Synth(nil).Directory(), nil
}
