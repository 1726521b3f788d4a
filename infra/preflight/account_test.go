package preflight

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/vantagecompute/slurm-factory-publish/infra/template"
)

const testAccount = "123456789012"

// An account plays AWS. It knows the calls that read names, and fails the test on any
// other: on one that changes something, and on one that names nothing.
type account struct {
	t   *testing.T
	url string

	there      bool   // what the checked template names
	stack      string // that it belongs to; empty: to none
	denied     string // a call that is not permitted
	foreign    bool   // buckets belong to another account
	region     string // of buckets
	noPolicy   bool   // on buckets
	recordType string // of the DNS record
	second     bool   // lists have the names in their second page

	names  []string // that are there
	asked  []string // calls, in their order
	turned int      // pages
}

func newAccount(t *testing.T) *account {
	a := &account{t: t, recordType: "A"}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	a.url = s.URL
	return a
}

func (a *account) config() aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: &a.url, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", "")}
}

// check asks about next while all names in it are there, or none.
func (a *account) check(deployed, next template.Template) Report {
	a.t.Helper()
	a.names, a.asked = nil, nil
	for _, r := range next.Resources {
		a.collect(r.Properties)
	}
	return NewSite(a.config(), testAccount, "us-east-1", testStack).Check(a.t.Context(), deployed, next)
}

func (a *account) collect(v any) {
	switch v := v.(type) {
	case string:
		a.names = append(a.names, v)
	case map[string]any:
		for _, e := range v {
			a.collect(e)
		}
	case []any:
		for _, e := range v {
			a.collect(e)
		}
	}
}

// A call is one request, as IAM would call it.
type call struct {
	name string
	in   map[string]any // what it asks for
}

// text is a member that must be there.
func (a *account) text(c call, member string) string {
	s, _ := c.in[member].(string)
	if s == "" {
		a.t.Errorf("%s names no %s: %v", c.name, member, c.in)
	}
	return s
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, style := a.read(r)
	a.asked = append(a.asked, c.name)
	answer, known := a.answers()[c.name]
	switch {
	case !known:
		a.t.Errorf("%s %s: %q is no call that reads a name", r.Method, r.URL, c.name)
		w.WriteHeader(http.StatusNotImplemented)
	case c.name == a.denied:
		style.fail(w, http.StatusForbidden, "AccessDeniedException")
	default:
		answer(w, c)
	}
}

// A style is how a service writes its errors.
type style func(code string) string

func (s style) fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprint(w, s(code))
}

var (
	jsonStyle style = func(code string) string {
		return `{"__type":"com.amazonaws#` + code + `","message":"what is not there does not exist"}`
	}
	xmlStyle style = func(code string) string {
		return "<ErrorResponse><Error><Code>" + code + "</Code><Message>what is not there does not exist</Message></Error></ErrorResponse>"
	}
	s3Style style = func(code string) string { return "<Error><Code>" + code + "</Code></Error>" }
)

// services are the first parts of the JSON protocol's targets.
var services = map[string]string{
	"AmazonAthena": "athena", "AWSGlue": "glue", "AWSInsightsIndexService": "ce", "AWSBudgetServiceGateway": "budgets",
	"CloudTrail_20131101": "cloudtrail", "Logs_20140328": "logs", "TrentService": "kms", "AmazonSQS": "sqs",
}

// read recognizes the four protocols.
func (a *account) read(r *http.Request) (call, style) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Error(err)
	}
	signed := strings.Split(r.Header.Get("Authorization"), "/")
	if len(signed) < 4 {
		a.t.Errorf("%s %s is not signed", r.Method, r.URL)
		return call{}, xmlStyle
	}
	c := call{in: map[string]any{}}
	switch service := signed[3]; {
	case r.Header.Get("X-Amz-Target") != "":
		target, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if services[target] != service {
			a.t.Errorf("%s is signed for %s", target, service)
		}
		c.name = service + ":" + operation
		if err := json.Unmarshal(body, &c.in); err != nil {
			a.t.Errorf("%s: %v", c.name, err)
		}
		return c, jsonStyle
	case service == "cloudfront" || service == "route53":
		c.name = service + ":" + r.Method + " " + strings.Join(strings.Split(r.URL.Path, "/")[2:], "/")
		for k, v := range r.URL.Query() {
			c.in[k] = v[0]
		}
		return c, xmlStyle
	case service == "s3":
		c.in["Bucket"] = strings.Trim(r.URL.Path, "/")
		switch query := r.URL.Query(); {
		case r.Method == http.MethodHead:
			c.name = "s3:HeadBucket"
		case r.URL.Path == "/":
			c.name = "s3:ListBuckets"
			c.in["continuation-token"], c.in["prefix"] = query.Get("continuation-token"), query.Get("prefix")
		case query.Has("location"):
			c.name = "s3:GetBucketLocation"
		case query.Has("policy"):
			c.name = "s3:GetBucketPolicy"
		}
		if r.Method != http.MethodHead && r.Method != http.MethodGet {
			c.name = r.Method
		}
		return c, s3Style
	default:
		form, err := url.ParseQuery(string(body))
		if err != nil {
			a.t.Error(err)
		}
		for k, v := range form {
			c.in[k] = v[0]
		}
		c.name = service + ":" + form.Get("Action")
		return c, xmlStyle
	}
}

type handler func(http.ResponseWriter, call)

// answers are what AWS says to each call.
func (a *account) answers() map[string]handler {
	all := map[string]handler{
		"cloudformation:DescribeStackResources": a.describeStackResources,
		"s3:HeadBucket":                         a.headBucket,
		"s3:ListBuckets":                        a.listBuckets,
		"s3:GetBucketLocation": func(w http.ResponseWriter, c call) {
			fmt.Fprintf(w, "<LocationConstraint>%s</LocationConstraint>", a.region)
		},
		"s3:GetBucketPolicy": func(w http.ResponseWriter, c call) {
			if a.noPolicy {
				s3Style.fail(w, http.StatusNotFound, "NoSuchBucketPolicy")
				return
			}
			fmt.Fprint(w, "{}")
		},
		"route53:GET hostedzone/Z1/rrset":                    a.records,
		"route53:GET hostedzone/Z076740924E27W77EXSVN/rrset": a.records,
		"monitoring:DescribeAlarms":                          a.describeAlarms,
		"iam:GetRole":                                        a.one("RoleName", xmlStyle, "NoSuchEntity"),
		"iam:GetUser":                                        a.one("UserName", xmlStyle, "NoSuchEntity"),
		"iam:GetInstanceProfile":                             a.one("InstanceProfileName", xmlStyle, "NoSuchEntity"),
		"iam:GetOpenIDConnectProvider":                       a.one("OpenIDConnectProviderArn", xmlStyle, "NoSuchEntity"),
		"monitoring:GetDashboard":                            a.one("DashboardName", xmlStyle, "ResourceNotFound"),
		"logs:GetDeliverySource":                             a.one("name", jsonStyle, "ResourceNotFoundException"),
		"logs:GetDeliveryDestination":                        a.one("name", jsonStyle, "ResourceNotFoundException"),
		"sqs:GetQueueUrl":                                    a.one("QueueName", jsonStyle, "QueueDoesNotExist"),
		"cloudtrail:GetTrail":                                a.one("Name", jsonStyle, "TrailNotFoundException"),
		"budgets:DescribeBudget":                             a.one("BudgetName", jsonStyle, "NotFoundException"),
		"kms:DescribeKey":                                    a.one("KeyId", jsonStyle, "NotFoundException"),
		"glue:GetDatabase":                                   a.one("Name", jsonStyle, "EntityNotFoundException"),
		"glue:GetTable":                                      a.one("Name", jsonStyle, "EntityNotFoundException"),
		"athena:ListWorkGroups":                              a.listJSON("WorkGroups", "Name", "NextToken"),
		"ce:GetAnomalyMonitors":                              a.listJSON("AnomalyMonitors", "MonitorName", "NextPageToken"),
		"ce:GetAnomalySubscriptions":                         a.listJSON("AnomalySubscriptions", "SubscriptionName", "NextPageToken"),
		"cloudfront:GET distribution":                        a.listXML("DistributionList", "<DistributionSummary><Id>E1</Id><Aliases><Items><CNAME>%s</CNAME></Items></Aliases></DistributionSummary>"),
		"cloudfront:GET origin-access-control":               a.listXML("OriginAccessControlList", "<OriginAccessControlSummary><Id>E1</Id><Name>%s</Name></OriginAccessControlSummary>"),
		"cloudfront:GET cache-policy":                        a.listXML("CachePolicyList", "<CachePolicySummary><CachePolicy><Id>E1</Id><CachePolicyConfig><Name>%s</Name></CachePolicyConfig></CachePolicy></CachePolicySummary>"),
		"cloudfront:GET response-headers-policy":             a.listXML("ResponseHeadersPolicyList", "<ResponseHeadersPolicySummary><ResponseHeadersPolicy><Id>E1</Id><ResponseHeadersPolicyConfig><Name>%s</Name></ResponseHeadersPolicyConfig></ResponseHeadersPolicy></ResponseHeadersPolicySummary>"),
	}
	return all
}

// one answers whether the thing is there that a member names.
func (a *account) one(member string, s style, missing string) handler {
	return func(w http.ResponseWriter, c call) {
		a.text(c, member)
		switch {
		case !a.there:
			s.fail(w, http.StatusBadRequest, missing)
		case s("") == jsonStyle(""):
			fmt.Fprint(w, "{}")
		default:
			_, operation, _ := strings.Cut(c.name, ":")
			fmt.Fprintf(w, "<%[1]sResponse><%[1]sResult/></%[1]sResponse>", operation)
		}
	}
}

// page are the names of one page of a list, and whether another follows.
func (a *account) page(token any) (names []string, more bool) {
	if !a.there {
		return nil, false
	}
	if a.second && (token == nil || token == "") {
		a.turned++
		return []string{"unrelated"}, true
	}
	return a.names, false
}

func (a *account) listJSON(key, member, token string) handler {
	return func(w http.ResponseWriter, c call) {
		names, more := a.page(c.in[token])
		list := []map[string]string{}
		for _, n := range names {
			list = append(list, map[string]string{member: n})
		}
		out := map[string]any{key: list}
		if more {
			out[token] = "2"
		}
		if err := json.NewEncoder(w).Encode(out); err != nil {
			a.t.Error(err)
		}
	}
}

func (a *account) listXML(root, item string) handler {
	return func(w http.ResponseWriter, c call) {
		names, more := a.page(c.in["Marker"])
		fmt.Fprintf(w, "<%s><IsTruncated>%t</IsTruncated>", root, more)
		if more {
			fmt.Fprint(w, "<NextMarker>2</NextMarker>")
		}
		fmt.Fprint(w, "<Items>")
		for _, n := range names {
			fmt.Fprintf(w, item, escaped(n))
		}
		fmt.Fprintf(w, "</Items></%s>", root)
	}
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

func (a *account) describeStackResources(w http.ResponseWriter, c call) {
	id := a.text(c, "PhysicalResourceId")
	if a.stack == "" {
		xmlStyle.fail(w, http.StatusBadRequest, "ValidationError")
		return
	}
	fmt.Fprintf(w, "<DescribeStackResourcesResponse><DescribeStackResourcesResult><StackResources><member><StackName>%s</StackName>"+
		"<PhysicalResourceId>%s</PhysicalResourceId><ResourceStatus>CREATE_COMPLETE</ResourceStatus></member></StackResources></DescribeStackResourcesResult></DescribeStackResourcesResponse>", a.stack, id)
}

func (a *account) headBucket(w http.ResponseWriter, c call) {
	a.text(c, "Bucket")
	switch {
	case !a.there:
		w.WriteHeader(http.StatusNotFound)
	case a.foreign:
		w.WriteHeader(http.StatusForbidden)
	}
}

func (a *account) listBuckets(w http.ResponseWriter, c call) {
	names, more := a.page(c.in["continuation-token"])
	if a.foreign {
		names = nil
	}
	fmt.Fprint(w, "<ListAllMyBucketsResult><Buckets>")
	for _, n := range names {
		fmt.Fprintf(w, "<Bucket><Name>%s</Name></Bucket>", escaped(n))
	}
	fmt.Fprint(w, "</Buckets>")
	if more {
		fmt.Fprint(w, "<ContinuationToken>2</ContinuationToken>")
	}
	fmt.Fprint(w, "</ListAllMyBucketsResult>")
}

func (a *account) records(w http.ResponseWriter, c call) {
	name := a.text(c, "name")
	fmt.Fprint(w, "<ListResourceRecordSetsResponse><ResourceRecordSets>")
	if a.there {
		fmt.Fprintf(w, "<ResourceRecordSet><Name>%s</Name><Type>%s</Type></ResourceRecordSet>", name, a.recordType)
	}
	fmt.Fprint(w, "<ResourceRecordSet><Name>z.example.com.</Name><Type>A</Type></ResourceRecordSet></ResourceRecordSets></ListResourceRecordSetsResponse>")
}

func (a *account) describeAlarms(w http.ResponseWriter, c call) {
	name := a.text(c, "AlarmNames.member.1")
	fmt.Fprint(w, "<DescribeAlarmsResponse><DescribeAlarmsResult><CompositeAlarms>")
	if a.there && c.in["AlarmTypes.member.2"] == "CompositeAlarm" {
		fmt.Fprintf(w, "<member><AlarmName>%s</AlarmName></member>", name)
	}
	fmt.Fprint(w, "</CompositeAlarms></DescribeAlarmsResult></DescribeAlarmsResponse>")
}
