package session

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Claims are the statements of a token about its job. They are not secret; the token is.
type Claims struct {
	Issuer            string   `json:"iss"`
	Audience          []string `json:"-"`
	Subject           string   `json:"sub"`
	Repository        string   `json:"repository"`
	RepositoryID      string   `json:"repository_id"`
	RepositoryOwnerID string   `json:"repository_owner_id"`
	Ref               string   `json:"ref"`
	Environment       string   `json:"environment"`
	EventName         string   `json:"event_name"`
	JobWorkflowRef    string   `json:"job_workflow_ref"`
	RunnerEnvironment string   `json:"runner_environment"`

	IssuedAt time.Time `json:"-"`
	Expires  time.Time `json:"-"`
}

// Rows returns the claims that a trust policy may refer to, with their names, in a fixed order. It omits claims
// that the token lacks.
func (c *Claims) Rows() [][2]string {
	var rows [][2]string
	for _, row := range [][2]string{
		{"iss", c.Issuer},
		{"aud", strings.Join(c.Audience, ", ")},
		{"sub", c.Subject},
		{"repository", c.Repository},
		{"repository_id", c.RepositoryID},
		{"repository_owner_id", c.RepositoryOwnerID},
		{"ref", c.Ref},
		{"environment", c.Environment},
		{"event_name", c.EventName},
		{"job_workflow_ref", c.JobWorkflowRef},
		{"runner_environment", c.RunnerEnvironment},
	} {
		if row[1] != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

// readClaims decodes a token of this job. AWS checks the signature.
func readClaims(token string) (*Claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, fmt.Errorf("a token of %d parts, a JWT has 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, errors.New("a token that is not in base64")
	}
	var c Claims
	var rest struct {
		Audience audience `json:"aud"`
		IssuedAt float64  `json:"iat"`
		Expires  float64  `json:"exp"`
	}
	if json.Unmarshal(payload, &c) != nil || json.Unmarshal(payload, &rest) != nil {
		return nil, errors.New("a token whose claims are not what a JWT has")
	}
	c.Audience = rest.Audience
	c.IssuedAt, c.Expires = moment(rest.IssuedAt), moment(rest.Expires)
	return &c, nil
}

func moment(seconds float64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// audience is a list, or a single string in its place.
type audience []string

func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}
