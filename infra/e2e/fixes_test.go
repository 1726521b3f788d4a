package e2e

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"github.com/vantagecompute/slurm-factory-publish/infra/doctor"
)

// byPeople are the faults whose fix is no command, or one whose effect moto cannot show.
// Every other fix is carried out.
var byPeople = map[string]string{
	"stack was taken back":                "moto brings no stack into this state",
	"first deployment failed":             "moto brings no stack into this state",
	"rollback failed":                     "moto brings no stack into this state",
	"deletion failed":                     "moto brings no stack into this state",
	"update runs":                         "moto brings no stack into this state",
	"bucket is public":                    "the world outside is played by the test",
	"origin access control is gone":       "moto forgets it",
	"origin access is refused":            "the world outside is played by the test",
	"edge fails":                          "the cause must be found first",
	"name does not resolve":               "the registrar delegates",
	"certificate ends soon":               "ACM renews by itself",
	"certificate has ended":               "ACM renews by itself",
	"environment is not there":            "settings of GitHub",
	"environment is not protected":        "settings of GitHub",
	"environment needs nobody's approval": "settings of GitHub",
	"anybody may deploy":                  "settings of GitHub",
	"environment takes any branch":        "settings of GitHub",
	"GitHub does not answer":              "nothing to mend in the account",
	"gh is not there":                     "nothing to mend in the account",
	"nobody has confirmed":                "the receiver opens a link",
	"what may not be read":                "an administrator gives the right",
	"alarm is raised":                     "the cause must be found first",
	"a message is dead":                   "moto moves no messages",
	"alarm is off":                        "moto has no EnableAlarmActions",
	"provider takes another audience":     "moto has no AddClientIDToOpenIDConnectProvider",
	"user has lost its boundary":          "moto has no PutUserPermissionsBoundary",
	"role knows a name only":              "another configuration is deployed",
	"stack of the copy is gone":           "moto's CloudFormation does not make it",
	"copy may not be seen":                "an administrator gives the right",
	"bucket is gone":                      "the test renames it for the doctor only",
}

var betweenBackquotes = regexp.MustCompile("`([^`]+)`")

// carryOut runs the commands of a fix as they stand.
func (p *patient) carryOut(t *testing.T, fix string) {
	t.Helper()
	commands := betweenBackquotes.FindAllStringSubmatch(fix, -1)
	if len(commands) == 0 {
		t.Errorf("nothing in %q can be run", fix)
	}
	for _, c := range commands {
		command := c[1]
		switch {
		case command == "infra deploy --revert-drift":
			p.revertDrift(t)
		case strings.HasPrefix(command, "aws "):
			cmd := exec.Command("sh", "-c", "unset AWS_PROFILE; "+command+" --endpoint-url "+machine.moto)
			cmd.Env = append(awsEnv(machine.moto), "PATH="+machine.tools+":"+os.Getenv("PATH"), "AWS_PAGER=")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", command, err, out)
			}
		default:
			t.Errorf("%s: neither aws nor infra", command)
		}
	}
}

// revertDrift plays what CloudFormation does with a change set that reverts drift, as
// TestDriftIsShownAndReverted sees infra ask for: it gives each resource the properties of
// the template again, and makes it when it is gone. Types that it does not compare, by its
// documentation, are left out.
func (p *patient) revertDrift(t *testing.T) {
	t.Helper()
	stack := &p.doctor.Stack
	p.putBack(t, stack)
	if p.replica != nil {
		p.putBack(t, p.replica)
	}
	(&applier{t: t, cfg: p.cfg, stack: *stack, made: map[string]int{}}).putLogging()
}

func (p *patient) putBack(t *testing.T, stack *doctor.Stack) {
	t.Helper()
	order, err := stack.Template.Order()
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range order {
		r := stack.Template.Resources[id]
		resolved, err := stack.Template.Resolve(r.Properties, stack.World)
		if err != nil {
			t.Fatalf("%s %s: %v", r.Type, id, err)
		}
		switch r.Type {
		case "AWS::S3::Bucket", "AWS::S3::BucketPolicy", "AWS::IAM::Role", "AWS::IAM::User", "AWS::SQS::Queue", "AWS::CloudWatch::Alarm":
			_, _, err = builders[r.Type](context.Background(), p.cfg, tree{resolved})
		case "AWS::KMS::Key":
			err = putKeyPolicy(context.Background(), p.cfg, stack.World.Ref[id], tree{resolved})
		case "AWS::KMS::Alias":
			_, _, err = makeKeyAlias(context.Background(), p.cfg, tree{resolved})
		case "AWS::CloudFront::Distribution":
			err = p.updateDistribution(stack.World.Ref[id], tree{resolved})
		case "AWS::Logs::Delivery":
			if !p.delivers(stack.World.Ref[id]) {
				stack.World.Ref[id], _, err = builders[r.Type](context.Background(), p.cfg, tree{resolved})
			}
		}
		if err != nil {
			t.Fatalf("%s %s: %v", r.Type, id, err)
		}
	}
	stack.Derive()
}

func (p *patient) updateDistribution(id string, properties tree) error {
	c := cloudfront.NewFromConfig(p.cfg)
	got, err := c.GetDistributionConfig(context.Background(), &cloudfront.GetDistributionConfigInput{Id: &id})
	if err != nil {
		return err
	}
	_, err = c.UpdateDistribution(context.Background(), &cloudfront.UpdateDistributionInput{Id: &id, IfMatch: got.ETag, DistributionConfig: distributionConfig(properties)})
	return err
}

func (p *patient) delivers(id string) bool {
	_, err := cloudwatchlogs.NewFromConfig(p.cfg).GetDelivery(context.Background(), &cloudwatchlogs.GetDeliveryInput{Id: aws.String(id)})
	return err == nil
}

// mends carries out the fix of a finding and looks again.
func (p *patient) mends(t *testing.T, fault string, f doctor.Finding) {
	t.Helper()
	if why, ok := byPeople[fault]; ok {
		t.Logf("not carried out: %s", why)
		return
	}
	p.carryOut(t, f.Fix)
	all := p.doctor.Examine(context.Background())
	for _, now := range all {
		if now.Check == f.Check && now.Detail == f.Detail {
			t.Errorf("the fix mends nothing: %s\nstill %s: %s", f.Fix, f.Check, f.Detail)
		}
	}
}
