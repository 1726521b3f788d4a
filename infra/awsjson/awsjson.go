// Package awsjson calls AWS services that speak the JSON protocol, version 1.1, without
// their clients: the client of Glue alone is a tenth of all source that this module would
// compile, for one call.
package awsjson

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxAnswer bounds what is read of one answer. Lists come in pages.
const maxAnswer = 16 << 20

// globalHosts are the hosts of services that have one for all regions.
var globalHosts = map[string]string{"budgets": "budgets.amazonaws.com"}

// Call sends in to an operation of a service, such as glue and AWSGlue.GetDatabase, and
// reads the answer into out, unless that is nil. It repeats what may be repeated, as the
// SDK does. An answer that is an error is a smithy.APIError with AWS's code.
func Call(ctx context.Context, cfg aws.Config, service, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("%s: %w", operation, err)
	}
	again := retry.NewStandard()
	for attempt := 1; ; attempt++ {
		answer, err := once(ctx, cfg, service, operation, body)
		if err == nil {
			return decode(operation, answer, out)
		}
		if attempt == again.MaxAttempts() || !again.IsErrorRetryable(err) {
			return fmt.Errorf("%s: %w", operation, err)
		}
		delay, err := again.RetryDelay(attempt, err)
		if err != nil {
			return fmt.Errorf("%s: %w", operation, err)
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", operation, ctx.Err())
		}
	}
}

func decode(operation string, answer []byte, out any) error {
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", operation, err)
	}
	return nil
}

// once is one signed request.
func once(ctx context.Context, cfg aws.Config, service, operation string, body []byte) ([]byte, error) {
	host := cmp.Or(globalHosts[service], service+"."+cfg.Region+".amazonaws.com")
	endpoint := "https://" + host
	if cfg.BaseEndpoint != nil {
		endpoint = *cfg.BaseEndpoint
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(endpoint, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", operation)
	credentials, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, fmt.Errorf("get credentials: %w", err)
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, credentials, req, hex.EncodeToString(sum[:]), service, cfg.Region, time.Now()); err != nil {
		return nil, err
	}
	client := cfg.HTTPClient
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, failure(res, answer)
	}
	return answer, nil
}

// failure is the error in an answer. Its code is in the body, behind a namespace, or in a
// header, before an address.
func failure(res *http.Response, answer []byte) error {
	var e struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Capital string `json:"Message"`
	}
	_ = json.Unmarshal(answer, &e) // a proxy's answer is no JSON
	code := cmp.Or(e.Type, res.Header.Get("X-Amzn-Errortype"), res.Status)
	code, _, _ = strings.Cut(code[strings.LastIndex(code, "#")+1:], ":")
	fault := smithy.FaultClient
	if res.StatusCode >= http.StatusInternalServerError {
		fault = smithy.FaultServer
	}
	return &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: res}, // whose status says whether to repeat
		Err:      &smithy.GenericAPIError{Code: code, Message: cmp.Or(e.Message, e.Capital), Fault: fault},
	}
}
