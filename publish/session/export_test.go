package session

import (
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Load is Config with an HTTP client of the test's.
var Load = load

// TransportOf is what a configuration's requests go through.
func TransportOf(cfg aws.Config) *http.Transport {
	return cfg.HTTPClient.(*http.Client).Transport.(verified).Transport
}
