package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAdoptExplainsAStackInReview: it has a name and a change set, and nothing to adopt.
func TestAdoptExplainsAStackInReview(t *testing.T) {
	for name, template := range map[string]string{
		"no template":    `<ErrorResponse><Error><Code>ValidationError</Code><Message>Stack with id S does not exist</Message></Error></ErrorResponse>`,
		"an empty one":   `<GetTemplateResponse><GetTemplateResult><TemplateBody></TemplateBody></GetTemplateResult></GetTemplateResponse>`,
		"one of nothing": `<GetTemplateResponse><GetTemplateResult><TemplateBody>{"Resources":{}}</TemplateBody></GetTemplateResult></GetTemplateResponse>`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.FormValue("Action") {
			case "GetCallerIdentity":
				fmt.Fprint(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`)
			case "GetTemplate":
				if strings.Contains(template, "Error") {
					w.WriteHeader(http.StatusBadRequest)
				}
				fmt.Fprint(w, template)
			case "DescribeStacks":
				fmt.Fprint(w, `<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>S</StackName><StackStatus>REVIEW_IN_PROGRESS</StackStatus></member></Stacks></DescribeStacksResult></DescribeStacksResponse>`)
			default:
				t.Errorf("%s was called", r.FormValue("Action"))
			}
		}))
		t.Setenv("AWS_ENDPOINT_URL", server.URL)
		t.Setenv("AWS_ACCESS_KEY_ID", "AKID")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
		code, _, stderr := try("adopt", "--force")
		if code != exitFailed || !strings.Contains(stderr, "REVIEW_IN_PROGRESS: a change set was made for it and never carried out") || !strings.Contains(stderr, "hint: infra deploy makes the stack") {
			t.Errorf("%s: exit code %d, %s", name, code, stderr)
		}
		server.Close()
	}
}
