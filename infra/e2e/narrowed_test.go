package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

// A narrowed account is moto behind a proxy that takes out of each uploaded template
// what moto's CloudFormation cannot make. It plays what moto's lacks: the import of existing
// buckets, termination protection, and GetTemplate of what was really deployed.
type narrowed struct {
	*recorder
	t        *testing.T
	uploaded []template.Template // as cdk sent them
	bodies   map[string]string   // the same, by the name of the asset
	pending  map[string]string   // of change sets that were not carried out yet, by stack
	deployed map[string]string   // by stack
	guarded  map[string]bool     // from termination, by stack
	drifted  string              // what drift detection finds

	state sync.Mutex // guards the maps while a request is handled
}

// motoCloudFormationMakes are the types of ours that moto's CloudFormation knows.
var motoCloudFormationMakes = []string{"AWS::S3::Bucket", "AWS::IAM::Role", "AWS::IAM::User", "AWS::IAM::Policy"}

func narrow(t *testing.T) *narrowed {
	n := &narrowed{recorder: record(t), t: t,
		bodies: map[string]string{}, pending: map[string]string{}, deployed: map[string]string{}, guarded: map[string]bool{}}
	n.Rewrite, n.Answer, n.Amend = n.rewrite, n.answer, n.amend
	return n
}

// stackOf is the name of the stack in a request, which may name it by its ARN.
func stackOf(form url.Values) string {
	name := form.Get("StackName")
	if parts := strings.Split(name, "/"); len(parts) > 1 {
		return parts[1]
	}
	return name
}

func (n *narrowed) answer(w http.ResponseWriter, r *http.Request, body []byte) bool {
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != http.MethodPost {
		return false
	}
	n.state.Lock()
	defer n.state.Unlock()
	stack := stackOf(form)
	switch form.Get("Action") {
	case "CreateChangeSet":
		n.pending[stack] = n.bodies[path.Base(form.Get("TemplateURL"))]
		return n.update(w, form.Get("Action"), stack)
	case "DeleteChangeSet", "DescribeChangeSet":
		return n.update(w, form.Get("Action"), stack)
	case "ExecuteChangeSet":
		if n.pending[stack] == "" {
			return false
		}
		updates := n.update(w, form.Get("Action"), stack)
		n.deployed[stack] = n.pending[stack]
		delete(n.pending, stack)
		return updates
	case "GetTemplate":
		if n.deployed[stack] == "" {
			return false
		}
		var escaped bytes.Buffer
		_ = xml.EscapeText(&escaped, []byte(n.deployed[stack]))
		fmt.Fprintf(w, "<GetTemplateResponse><GetTemplateResult><TemplateBody>%s</TemplateBody></GetTemplateResult></GetTemplateResponse>", &escaped)
		return true
	case "DetectStackDrift":
		fmt.Fprint(w, "<DetectStackDriftResponse><DetectStackDriftResult><StackDriftDetectionId>1</StackDriftDetectionId></DetectStackDriftResult></DetectStackDriftResponse>")
		return true
	case "DescribeStackDriftDetectionStatus":
		fmt.Fprint(w, "<DescribeStackDriftDetectionStatusResponse><DescribeStackDriftDetectionStatusResult><StackId>1</StackId><StackDriftDetectionId>1</StackDriftDetectionId>"+
			"<DetectionStatus>DETECTION_COMPLETE</DetectionStatus><StackDriftStatus>DRIFTED</StackDriftStatus><Timestamp>2026-01-01T00:00:00Z</Timestamp>"+
			"</DescribeStackDriftDetectionStatusResult></DescribeStackDriftDetectionStatusResponse>")
		return true
	case "DescribeStackResourceDrifts":
		fmt.Fprint(w, "<DescribeStackResourceDriftsResponse><DescribeStackResourceDriftsResult><StackResourceDrifts>"+n.drifted+
			"</StackResourceDrifts></DescribeStackResourceDriftsResult></DescribeStackResourceDriftsResponse>")
		return true
	case "UpdateTerminationProtection":
		n.guarded[stack] = form.Get("EnableTerminationProtection") == "true"
		fmt.Fprint(w, "<UpdateTerminationProtectionResponse><UpdateTerminationProtectionResult/></UpdateTerminationProtectionResponse>")
		return true
	case "DeleteStack":
		if n.guarded[stack] {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ValidationError</Code><Message>Stack [%s] cannot be deleted while TerminationProtection is enabled</Message></Error></ErrorResponse>", stack)
			return true
		}
		delete(n.deployed, stack)
	}
	return false
}

// update plays a change set for a stack that is there. moto's own fails on most of our
// types; what a resource becomes is not what these tests are about.
func (n *narrowed) update(w http.ResponseWriter, action, stack string) bool {
	if n.deployed[stack] == "" {
		return false
	}
	const set = "<Id>arn:aws:cloudformation:us-east-1:123456789012:changeSet/cdk-deploy-change-set/1</Id>"
	result := ""
	switch action {
	case "CreateChangeSet":
		result = set
	case "DeleteChangeSet":
		delete(n.pending, stack)
	case "DescribeChangeSet":
		if n.pending[stack] == "" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, "<ErrorResponse><Error><Type>Sender</Type><Code>ChangeSetNotFound</Code><Message>ChangeSet does not exist</Message></Error></ErrorResponse>")
			return true
		}
		result = strings.ReplaceAll(set, "Id>", "ChangeSetId>") + "<ChangeSetName>cdk-deploy-change-set</ChangeSetName><StackName>" + stack + "</StackName>" +
			"<StackId>" + stack + "</StackId><Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>" +
			"<Changes><member><Type>Resource</Type><ResourceChange><Action>Modify</Action><LogicalResourceId>Distribution830FAC52</LogicalResourceId>" +
			"<ResourceType>AWS::CloudFront::Distribution</ResourceType></ResourceChange></member></Changes>"
	}
	fmt.Fprintf(w, "<%sResponse><%sResult>%s</%sResult></%sResponse>", action, action, result, action, action)
	return true
}

// amend lets DescribeStacks say what is protected.
func (n *narrowed) amend(body []byte) []byte {
	if !bytes.Contains(body, []byte("<DescribeStacksResponse")) {
		return body
	}
	n.state.Lock()
	defer n.state.Unlock()
	for stack, on := range n.guarded {
		name := []byte("<StackName>" + stack + "</StackName>")
		if at := bytes.Index(body, name); at >= 0 && on {
			body = bytes.ReplaceAll(body, []byte("<EnableTerminationProtection>false</EnableTerminationProtection>"), nil)
			body = bytes.Replace(body, name, []byte(string(name)+"<EnableTerminationProtection>true</EnableTerminationProtection>"), 1)
		}
	}
	return body
}

func (n *narrowed) rewrite(r *http.Request, body []byte) []byte {
	if r.Method != http.MethodPut || !strings.HasPrefix(r.URL.Path, "/cdk-") || !strings.HasSuffix(r.URL.Path, ".json") {
		return body
	}
	for h := range r.Header {
		if strings.HasPrefix(strings.ToLower(h), "x-amz-checksum") || h == "Content-Md5" {
			r.Header.Del(h)
		}
	}
	tpl, err := template.Parse(body)
	if err != nil {
		n.t.Errorf("uploaded template: %v", err)
		return body
	}
	n.state.Lock()
	defer n.state.Unlock()
	n.uploaded = append(n.uploaded, tpl)
	n.bodies[path.Base(r.URL.Path)] = string(body)
	return n.reduce(body, tpl)
}

// reduce drops resources and lets what is left refer to their names as text.
func (n *narrowed) reduce(body []byte, tpl template.Template) []byte {
	var t map[string]any
	if err := json.Unmarshal(body, &t); err != nil {
		n.t.Fatal(err)
	}
	resources := t["Resources"].(map[string]any)
	w := map[string]string{}
	for id, r := range tpl.Resources {
		if slices.Contains(motoCloudFormationMakes, r.Type) && !n.imported(r) {
			continue
		}
		delete(resources, id)
		w[id] = "dropped-" + id
		for _, property := range []string{"BucketName", "UserName"} {
			if name, ok := r.Properties[property].(string); ok {
				w[id] = name
			}
		}
	}
	for _, r := range resources {
		delete(r.(map[string]any), "DependsOn")
	}
	delete(t, "Outputs")
	out, err := json.Marshal(literal(t, w))
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// imported plays ImportExistingResources: a retained resource whose name is there is
// taken over, so CloudFormation does not make it.
func (n *narrowed) imported(r template.Resource) bool {
	if r.DeletionPolicy != "Retain" {
		return false
	}
	if user, ok := r.Properties["UserName"].(string); ok {
		_, err := iam.NewFromConfig(config(n.t, machine.moto)).GetUser(context.Background(), &iam.GetUserInput{UserName: &user})
		return err == nil
	}
	name, ok := r.Properties["BucketName"].(string)
	return ok && exists(n.t, name)
}

func exists(t *testing.T, bucket string) bool {
	c := s3.NewFromConfig(config(t, machine.moto), func(o *s3.Options) { o.UsePathStyle = true })
	_, err := c.HeadBucket(context.Background(), &s3.HeadBucketInput{Bucket: &bucket})
	return err == nil
}

// literal replaces references to dropped resources by their names.
func literal(v any, dropped map[string]string) any {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["Ref"].(string); ok && dropped[ref] != "" {
			return dropped[ref]
		}
		if att, ok := v["Fn::GetAtt"].([]any); ok && dropped[att[0].(string)] != "" {
			return "arn:aws:s3:::" + dropped[att[0].(string)]
		}
		for k, e := range v {
			v[k] = literal(e, dropped)
		}
	case []any:
		for i, e := range v {
			v[i] = literal(e, dropped)
		}
	}
	return v
}

// changeSets are the parameters of the change sets that were asked for, oldest first.
func (n *narrowed) changeSets() []url.Values {
	var all []url.Values
	for _, s := range n.requests() {
		form, err := url.ParseQuery(string(s.body))
		if err == nil && form.Get("Action") == "CreateChangeSet" && strings.Contains(form.Get("StackName"), "SlurmFactory") {
			all = append(all, form)
		}
	}
	return all
}
