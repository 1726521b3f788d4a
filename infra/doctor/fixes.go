package doctor

import (
	"encoding/json"
	"fmt"
	"strings"

	r53types "github.com/aws/aws-sdk-go-v2/service/route53/types"

	"github.com/vantagecompute/slurm-factory-publish/infra/policy"
)

// What can be run as it stands is between backquotes in a fix. The tests run it, and look
// whether the finding is gone.
//
// infra deploy --revert-drift mends what CloudFormation compares with its template. What it
// does not compare has a command of its own, made here from the template.

// setQueuePolicy gives the queue of the indexers its policy again.
func (d Doctor) setQueuePolicy(want policy.Document) string {
	attributes := asJSON(map[string]string{"Policy": asJSON(want)})
	return fmt.Sprintf("`aws sqs set-queue-attributes --queue-url %s --attributes %s`", d.Stack.Outputs["IndexerQueueUrl"], quoted(attributes))
}

// setUserPolicy gives a user a policy of the stack again.
func setUserPolicy(user, name string, want policy.Document) string {
	return fmt.Sprintf("`aws iam put-user-policy --user-name %s --policy-name %s --policy-document %s`", user, name, quoted(asJSON(want)))
}

// cloudFrontZone is the zone id that every alias to a distribution names.
const cloudFrontZone = "Z2FDTNDATAQYW2"

// setRecord leads a host name to the distribution again.
func (d Doctor) setRecord(zone, host string, kind r53types.RRType) string {
	type target struct {
		HostedZoneId, DNSName string //nolint:revive // the names of Route53
		EvaluateTargetHealth  bool
	}
	batch := map[string]any{"Changes": []any{map[string]any{"Action": "UPSERT", "ResourceRecordSet": map[string]any{
		"Name": host, "Type": kind,
		"AliasTarget": target{HostedZoneId: cloudFrontZone, DNSName: d.Stack.Outputs["DistributionDomainName"]}}}}}
	return fmt.Sprintf("`aws route53 change-resource-record-sets --hosted-zone-id %s --change-batch %s`", zone, quoted(asJSON(batch)))
}

// subscribe sends the link by which an address confirms that it receives the alarms.
func subscribe(topic, address string) string {
	return "aws sns subscribe --protocol email --topic-arn " + topic + " --notification-endpoint " + address
}

// alarmAddress is the address that the stack subscribes.
func (s Stack) alarmAddress() string {
	for _, id := range s.Template.OfType("AWS::SNS::Subscription") {
		if address, ok := s.Template.Resources[id].Properties["Endpoint"].(string); ok {
			return address
		}
	}
	return "ADDRESS"
}

// asJSON writes a value as text.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // policies and strings always encode
	}
	return string(b)
}

// quoted is a text as one word of a command line.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
