package doctor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const (
	ourKey   = "arn:aws:kms:us-east-1:123456789012:key/1"
	ourAlias = "alias/slurm-factory-signing"
	keyRules = `{"Version":"2012-10-17","Statement":[{"Sid":"Sign","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"kms:Sign","Resource":"*",` +
		`"Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/publish"}}}]}`
)

// TestSigningKey: the doctor finds a key that does not sign, one in place of another, and a policy by
// which others sign, and says what mends each.
func TestSigningKey(t *testing.T) {
	own := `{"Resources": {"Key": {"Type": "AWS::KMS::Key", "Properties": {"KeyPolicy": ` + keyRules + `}}, "Alias": {"Type": "AWS::KMS::Alias"}}}`
	given := `{"Resources": {"Alias": {"Type": "AWS::KMS::Alias"}}}`
	for _, row := range []struct {
		name, stack             string
		missing                 bool
		key, state, policy      string
		severity                Severity
		wantDetail, wantFix     string
		withoutPolicy, isDenied bool
	}{
		{name: "as the stack says", stack: own, key: ourKey, state: "Enabled", policy: keyRules, severity: OK, wantDetail: ourKey + " signs as " + ourAlias},
		{name: "given", stack: given, key: ourKey, state: "Enabled", severity: OK, withoutPolicy: true},
		{name: "no alias", stack: own, missing: true, severity: Fail, wantDetail: ourAlias + " does not exist", wantFix: "--revert-drift", withoutPolicy: true},
		{name: "another key", stack: own, key: ourKey + "2", state: "Enabled", severity: Fail, wantDetail: "leads to " + ourKey + "2", wantFix: "--revert-drift", withoutPolicy: true},
		{name: "disabled", stack: own, key: ourKey, state: "Disabled", policy: keyRules, severity: Fail, wantDetail: "Disabled", wantFix: "`aws kms enable-key --key-id 1`"},
		{name: "about to be deleted", stack: own, key: ourKey, state: "PendingDeletion", policy: keyRules, severity: Fail, wantFix: "cancel-key-deletion --key-id 1 && aws kms enable-key --key-id 1`"},
		{name: "unavailable", stack: own, key: ourKey, state: "Unavailable", policy: keyRules, severity: Fail, wantFix: "describe-key --key-id 1`"},
		{name: "others may sign", stack: own, key: ourKey, state: "Enabled", policy: strings.Replace(keyRules, "role/publish", "role/mallory", 1), severity: Fail, wantDetail: "role/mallory", wantFix: "--revert-drift"},
		{name: "a policy beyond us", stack: own, key: ourKey, state: "Enabled", policy: strings.Replace(keyRules, `"Resource"`, `"NotResource"`, 1), severity: Fail, wantDetail: "changed by hand", wantFix: "--revert-drift"},
		{name: "denied", stack: own, isDenied: true, severity: Fail, wantDetail: "AccessDenied", withoutPolicy: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			kms := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch operation := r.Header.Get("X-Amz-Target"); {
				case row.isDenied:
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprint(w, `{"__type":"AccessDeniedException"}`)
				case operation == "TrentService.DescribeKey" && row.missing:
					w.WriteHeader(http.StatusBadRequest)
					fmt.Fprint(w, `{"__type":"NotFoundException"}`)
				case operation == "TrentService.DescribeKey":
					fmt.Fprintf(w, `{"KeyMetadata":{"Arn":%q,"KeyState":%q}}`, row.key, row.state)
				case operation == "TrentService.GetKeyPolicy" && !row.withoutPolicy:
					fmt.Fprintf(w, `{"Policy":%q}`, row.policy)
				default:
					t.Errorf("asked for %s", operation)
				}
			}))
			defer kms.Close()
			tpl, err := template.Parse([]byte(row.stack))
			if err != nil {
				t.Fatal(err)
			}
			d := Doctor{
				Stack: Stack{Template: tpl, World: template.World{Ref: map[string]string{"Alias": ourAlias, "Key": "1"}}, Outputs: map[string]string{"SigningKeyArn": ourKey}},
				AWS:   aws.Config{Region: "us-east-1", BaseEndpoint: &kms.URL, Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", "")},
			}
			found, err := d.signingKey(t.Context())
			if err != nil {
				found = append(found, unexamined("signing key", err))
			}
			if row.isDenied {
				row.severity = unexamined("", err).Severity
			}
			if len(found) != 1 || found[0].Severity != row.severity || !strings.Contains(found[0].Detail, row.wantDetail) || !strings.Contains(found[0].Fix, row.wantFix) {
				t.Errorf("%+v", found)
			}
		})
	}
	if found, err := (Doctor{}).signingKey(t.Context()); len(found) != 0 || err != nil {
		t.Errorf("a stack without a key: %+v %v", found, err)
	}
}
