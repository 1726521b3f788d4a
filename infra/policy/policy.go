// Package policy is IAM policy documents as plain values, and an evaluator that
// says what they allow. It does no I/O and knows nothing of CDK.
//
// The evaluator refuses what it does not understand: a document with an operator
// or an element that is not modelled here is an error, never a silent "allowed".
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Version is the only policy language version in use.
const Version = "2012-10-17"

// An Effect is what a statement does to a request that it matches.
type Effect string

// The two effects. A matching Deny wins over any Allow.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// A Document is an identity policy, a resource policy or a trust policy.
type Document struct {
	Version   string      `json:"Version"`
	Statement []Statement `json:"Statement"`
}

// New returns a document of the given statements.
func New(statements ...Statement) Document {
	return Document{Version: Version, Statement: statements}
}

// A Statement allows or denies actions on resources under conditions. Principal is
// set in trust and resource policies only; Resource is empty in trust policies.
// Exactly one of Action and NotAction is set; NotAction covers every action but those.
type Statement struct {
	Sid       string    `json:"Sid,omitempty"`
	Effect    Effect    `json:"Effect"`
	Principal Principal `json:"Principal,omitzero"`
	Action    Strings   `json:"Action,omitempty"`
	NotAction Strings   `json:"NotAction,omitempty"`
	Resource  Strings   `json:"Resource,omitempty"`
	Condition Condition `json:"Condition,omitempty"`
}

// A Condition maps operator to condition key to accepted values. Operators and keys
// are joined by AND, the values of one key by OR.
type Condition map[string]map[string]Strings

// Strings is a list that IAM also writes as a single string.
type Strings []string

// MarshalJSON writes one value as a plain string, as AWS itself stores it.
func (s Strings) MarshalJSON() ([]byte, error) {
	if len(s) == 1 {
		return json.Marshal(s[0])
	}
	return json.Marshal([]string(s))
}

// UnmarshalJSON reads a string, a boolean, a number or a list of them.
func (s *Strings) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	*s = nil
	for _, e := range list {
		switch e := e.(type) {
		case string:
			*s = append(*s, e)
		case bool, float64:
			*s = append(*s, fmt.Sprint(e))
		default:
			return fmt.Errorf("want a string or a list of strings, have %s", b)
		}
	}
	return nil
}

// A Principal is who a resource or trust policy speaks of: kinds such as "AWS",
// "Service" or "Federated", each with its names. "*" stands for everybody.
type Principal map[string]Strings

// Anyone is the principal "*".
func Anyone() Principal { return Principal{"AWS": {"*"}} }

// Service is an AWS service, such as cloudfront.amazonaws.com.
func Service(name string) Principal { return Principal{"Service": {name}} }

// Federated is an identity provider, by ARN.
func Federated(arn string) Principal { return Principal{"Federated": {arn}} }

// UnmarshalJSON reads the map form and the bare "*".
func (p *Principal) UnmarshalJSON(b []byte) error {
	var all string
	if json.Unmarshal(b, &all) == nil {
		if all != "*" {
			return fmt.Errorf("principal %q is neither * nor a map", all)
		}
		*p = Anyone()
		return nil
	}
	var m map[string]Strings
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("principal: %w", err)
	}
	*p = m
	return nil
}

// ErrNotModelled is returned for documents that use parts of the policy language
// that the evaluator does not implement.
var ErrNotModelled = errors.New("not modelled")

// Parse reads a document as AWS stores it and refuses what Decide could not judge.
func Parse(b []byte) (Document, error) {
	var d Document
	var raw struct{ Statement json.RawMessage }
	if err := json.Unmarshal(b, &raw); err != nil {
		return d, fmt.Errorf("parse policy: %w", err)
	}
	var elements []map[string]json.RawMessage
	if err := json.Unmarshal(raw.Statement, &elements); err != nil {
		// IAM accepts a single statement without the list around it.
		var one map[string]json.RawMessage
		if err := json.Unmarshal(raw.Statement, &one); err != nil {
			return d, fmt.Errorf("parse policy: %w", err)
		}
		elements = append(elements, one)
	}
	d.Version = Version
	for i, e := range elements {
		st, err := parseStatement(e)
		if err != nil {
			return d, fmt.Errorf("parse policy: statement %d: %w", i, err)
		}
		d.Statement = append(d.Statement, st)
	}
	return d, d.check()
}

func parseStatement(elements map[string]json.RawMessage) (Statement, error) {
	var st Statement
	for name := range elements {
		if !slices.Contains([]string{"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"}, name) {
			return st, fmt.Errorf("element %s: %w", name, ErrNotModelled)
		}
	}
	b, err := json.Marshal(elements)
	if err != nil {
		return st, err
	}
	return st, json.Unmarshal(b, &st)
}

// check reports the first part that Decide would not understand.
func (d Document) check() error {
	for _, st := range d.Statement {
		if st.Effect != Allow && st.Effect != Deny {
			return fmt.Errorf("statement %q: effect %q: %w", st.Sid, st.Effect, ErrNotModelled)
		}
		if (len(st.Action) == 0) == (len(st.NotAction) == 0) {
			return fmt.Errorf("statement %q: want either Action or NotAction: %w", st.Sid, ErrNotModelled)
		}
		for op := range st.Condition {
			if _, _, ok := operator(op); !ok {
				return fmt.Errorf("statement %q: operator %s: %w", st.Sid, op, ErrNotModelled)
			}
		}
	}
	return nil
}
