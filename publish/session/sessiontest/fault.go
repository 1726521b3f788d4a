package sessiontest

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
)

// A Fault is a failure of a request.
type Fault struct {
	status  int
	code    string
	message string
	body    string
	drop    bool
	hang    bool
}

// None is no fault.
var None = Fault{}

// Drop breaks the connection off, and Hang never answers.
var (
	Drop = Fault{drop: true}
	Hang = Fault{hang: true}
)

// Answer answers a request for a token with something else.
func Answer(status int, body string) Fault { return Fault{status: status, body: body} }

// Refuse answers as STS does.
func Refuse(status int, code, message string) Fault {
	return Fault{status: status, code: code, message: message}
}

// Messages of STS.
var (
	Denied          = Refuse(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	NoProvider      = Refuse(400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for "+GitHubIssuer)
	WrongAudience   = Refuse(400, "InvalidIdentityToken", "Incorrect token audience")
	NoKey           = Refuse(400, "InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements")
	BadToken        = Refuse(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	BadSignature    = Refuse(400, "InvalidIdentityToken", "Provided Token is not a Login With Amazon token or its signature is not valid")
	Expired         = Refuse(400, "ExpiredTokenException", "Token expired: current date/time 1755504000 must be before the expiration date/time 1755503999")
	TooOld          = Refuse(400, "InvalidIdentityToken", "Token must be issued within timeframe")
	NoIDP           = Refuse(400, "IDPCommunicationError", "Could not communicate with the identity provider")
	TooLong         = Refuse(400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	Chained         = Refuse(400, "ValidationError", "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")
	PolicyTooLarge  = Refuse(400, "PackedPolicyTooLarge", "Packed policy consumes 104% of allotted space, please use smaller policy.")
	PolicyMalformed = Refuse(400, "MalformedPolicyDocument", "This policy contains invalid Json")
	RegionDisabled  = Refuse(403, "RegionDisabledException", "STS is not activated in this region for account:"+Account+". Your account administrator can activate STS in this region using the IAM Console.")
	Throttled       = Refuse(400, "Throttling", "Rate exceeded")
	Unavailable     = Refuse(503, "ServiceUnavailable", "Service is unavailable")
	Internal        = Refuse(500, "InternalFailure", "An internal error has occurred. Retry your request, but if the problem persists, contact us with details by posting a message on the AWS forums.")
)

// Always makes all requests fail.
func Always(f Fault) func(int) Fault { return func(int) Fault { return f } }

// First makes the first n requests fail.
func First(n int, f Fault) func(int) Fault {
	return func(i int) Fault {
		if i <= n {
			return f
		}
		return None
	}
}

// After makes all requests fail but the first n.
func After(n int, f Fault) func(int) Fault {
	return func(i int) Fault {
		if i > n {
			return f
		}
		return None
	}
}

// happens carries out a fault, and returns false for None.
func (f Fault) happens(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case f.drop:
		panic(http.ErrAbortHandler)
	case f.hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.code != "":
		type inner struct{ Type, Code, Message string }
		kind := "Sender"
		if f.status >= 500 {
			kind = "Receiver"
		}
		writeXML(w, f.status, struct {
			XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
			Error     inner
			RequestID string `xml:"RequestId"`
		}{Error: inner{kind, f.code, f.message}, RequestID: random(16)})
	case f.status != 0:
		w.WriteHeader(f.status)
		io.WriteString(w, f.body)
	default:
		return false
	}
	return true
}

func writeXML(w http.ResponseWriter, status int, document any) {
	text, err := xml.Marshal(document)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	w.WriteHeader(status)
	w.Write(text)
}
