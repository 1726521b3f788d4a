package infra

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/assertions"
	"github.com/aws/jsii-runtime-go"
	"github.com/cdklabs/cdk-nag-go/cdknag/v2"
)

// TestNagFindsNothing holds for every variant; our own warnings about trust are meant to
// be seen and are the only annotations left.
func TestNagFindsNothing(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			app, stack := NewApp(c, t.TempDir())
			for _, f := range nagFindings(app, stack) {
				if !slices.ContainsFunc(c.Warnings(), func(w string) bool { return strings.Contains(f, w) }) {
					t.Error(f)
				}
			}
		})
	}
}

// TestEachSuppressionIsNeeded compares what cdk-nag says of the bare stack with the
// list of what is accepted, so that neither outlives the other.
func TestEachSuppressionIsNeeded(t *testing.T) {
	for name, c := range variants() {
		t.Run(name, func(t *testing.T) {
			app := awscdk.NewApp(&awscdk.AppProps{Outdir: jsii.String(t.TempDir()), PostCliContext: &featureFlags})
			stack := newStack(app, c)
			var found, accepted []string
			for _, f := range nagFindings(app, stack) {
				if strings.Contains(f, "AwsSolutions-") {
					found = append(found, strings.TrimSuffix(strings.Fields(f)[0]+" "+strings.Fields(f)[1], ":"))
				}
			}
			for _, f := range acceptedFindings(c) {
				rule := f.Rule
				if f.Applies != "" {
					rule += "[" + f.Applies + "]"
				}
				accepted = append(accepted, fmt.Sprintf("/%s/%s %s", c.StackName, f.Path, rule))
			}
			slices.Sort(found)
			slices.Sort(accepted)
			if !slices.Equal(found, accepted) {
				t.Errorf("cdk-nag finds:\n%s\nnag.go accepts:\n%s", strings.Join(found, "\n"), strings.Join(accepted, "\n"))
			}
		})
	}
}

func TestEachSuppressionHasAReason(t *testing.T) {
	for _, f := range acceptedFindings(variants()["everything"]) {
		if n := len(strings.Fields(f.Reason)); n < 20 {
			t.Errorf("%s %s: the reason has %d words, want 20 that a reviewer can judge", f.Path, f.Rule, n)
		}
	}
}

// nagFindings are the errors and warnings on the stack, one "path message" each, after
// cdk-nag has looked at it.
func nagFindings(app awscdk.App, stack awscdk.Stack) []string {
	awscdk.Aspects_Of(app).Add(cdknag.NewAwsSolutionsChecks(nil), nil)
	annotations := assertions.Annotations_FromStack(stack)
	var found []string
	for _, m := range *annotations.FindError(jsii.String("*"), assertions.Match_AnyValue()) {
		//lint:ignore SA1019 the assertions still return the type that CDK has moved
		found = append(found, fmt.Sprint(*m.Id, " ", m.Entry.Data))
	}
	for _, m := range *annotations.FindWarning(jsii.String("*"), assertions.Match_AnyValue()) {
		//lint:ignore SA1019 the assertions still return the type that CDK has moved
		found = append(found, fmt.Sprint(*m.Id, " ", m.Entry.Data))
	}
	return found
}
