package awsjson

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/smithy-go"
)

// a transport answers requests in the process, so that time can be virtual.
type transport func(*http.Request) *http.Response

func (f transport) Do(r *http.Request) (*http.Response, error) { return f(r), nil }

func answer(status int, header http.Header, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)), Header: header, Body: io.NopCloser(strings.NewReader(body))}
}

func config(f transport) aws.Config {
	return aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKID", "SECRET", "TOKEN"), HTTPClient: f}
}

func TestCallSignsAndReads(t *testing.T) {
	var seen *http.Request
	var body string
	cfg := config(func(r *http.Request) *http.Response {
		b, _ := io.ReadAll(r.Body)
		seen, body = r, string(b)
		return answer(200, nil, `{"Database":{"Name":"logs"}}`)
	})
	var out struct{ Database struct{ Name string } }
	if err := Call(context.Background(), cfg, "glue", "AWSGlue.GetDatabase", map[string]string{"Name": "logs"}, &out); err != nil {
		t.Fatal(err)
	}
	if out.Database.Name != "logs" || body != `{"Name":"logs"}` || seen.URL.String() != "https://glue.us-east-1.amazonaws.com/" ||
		seen.Header.Get("X-Amz-Target") != "AWSGlue.GetDatabase" || seen.Header.Get("X-Amz-Security-Token") != "TOKEN" {
		t.Errorf("%v %v %q %+v", seen.URL, seen.Header, body, out)
	}
	if got := seen.Header.Get("Authorization"); !strings.Contains(got, "/us-east-1/glue/aws4_request") || strings.Contains(got, "SECRET") {
		t.Errorf("signed as %s", got)
	}
}

func TestErrorsHaveTheCodeOfAWS(t *testing.T) {
	for name, a := range map[string]*http.Response{
		"namespace":   answer(400, nil, `{"__type":"com.amazonaws.glue#EntityNotFoundException","message":"no"}`),
		"plain":       answer(400, nil, `{"__type":"EntityNotFoundException","Message":"no"}`),
		"header":      answer(400, http.Header{"X-Amzn-Errortype": {"EntityNotFoundException:http://internal.amazon.com/"}}, `{"message":"no"}`),
		"header only": answer(400, http.Header{"X-Amzn-Errortype": {"EntityNotFoundException"}}, `<html>`),
	} {
		err := Call(context.Background(), config(func(*http.Request) *http.Response { return a }), "glue", "AWSGlue.GetDatabase", nil, nil)
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "EntityNotFoundException" || !strings.HasPrefix(err.Error(), "AWSGlue.GetDatabase: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhatMayBeRepeatedIsRepeated in virtual time, and nothing else.
func TestWhatMayBeRepeatedIsRepeated(t *testing.T) {
	const fine = `{}`
	for _, row := range []struct {
		name     string
		status   int
		body     string
		requests int
	}{
		{"throttled", 400, `{"__type":"ThrottlingException"}`, 2},
		{"unavailable", 503, `busy`, 2},
		{"denied", 400, `{"__type":"AccessDeniedException"}`, 1},
		{"not there", 400, `{"__type":"EntityNotFoundException"}`, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			err := Call(context.Background(), config(func(*http.Request) *http.Response {
				if n++; n == 1 {
					return answer(row.status, nil, row.body)
				}
				return answer(200, nil, fine)
			}), "ce", "AWSInsightsIndexService.GetAnomalyMonitors", nil, nil)
			if n != row.requests || (err == nil) != (row.requests == 2) {
				t.Errorf("%s: %d requests, %v", row.name, n, err)
			}
		})
	}
}

// TestAnEndIsSeen: a service that never recovers, and a caller who gives up.
func TestAnEndIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		cfg := config(func(*http.Request) *http.Response { n++; return answer(500, nil, "") })
		if err := Call(context.Background(), cfg, "glue", "X", nil, nil); err == nil || n != 3 {
			t.Errorf("%d requests, %v", n, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := Call(ctx, cfg, "glue", "X", nil, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestGivenEndpoint(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"Path":"`+r.URL.Path+`"}`) }))
	t.Cleanup(s.Close)
	cfg := config(nil)
	cfg.HTTPClient, cfg.BaseEndpoint = nil, aws.String(s.URL+"/")
	var out struct{ Path string }
	if err := Call(context.Background(), cfg, "glue", "X", nil, &out); err != nil || out.Path != "/" {
		t.Errorf("%v %+v", err, out)
	}
}
