package sessiontest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A policy is a document of IAM. What is not understood is refused when it is read, so that
// nothing is taken for allowed by mistake.
type policy struct {
	Version   string
	ID        string `json:"Id"`
	Statement []statement
}

type statement struct {
	Sid       string
	Effect    string
	Principal map[string]list
	Action    list
	Resource  list
	Condition map[string]map[string]list
}

// A list is also written as one string.
type list []string

func (l *list) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(l))
}

// A request is one as IAM sees it.
type request struct {
	action, resource string
	principal        string // looked at by trust policies only
	keys             map[string]string
}

func parsePolicy(text string) (*policy, error) {
	for _, r := range text {
		if r > 0xff || r < ' ' && r != '\t' && r != '\n' && r != '\r' {
			return nil, fmt.Errorf("the character %q", r)
		}
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	var p policy
	if err := d.Decode(&p); err != nil {
		return nil, err
	}
	if d.More() || p.Version != "2012-10-17" || len(p.Statement) == 0 {
		return nil, fmt.Errorf("no document of version 2012-10-17, or more than one")
	}
	for _, st := range p.Statement {
		if err := st.check(); err != nil {
			return nil, err
		}
	}
	return &p, nil
}

func (st statement) check() error {
	if st.Effect != "Allow" || len(st.Action) == 0 || (len(st.Resource) == 0) == (len(st.Principal) == 0) {
		return fmt.Errorf("a statement that is none: %+v", st)
	}
	for _, r := range st.Resource {
		if r != "*" && len(strings.SplitN(r, ":", 6)) != 6 {
			return fmt.Errorf("resource %q is no ARN", r)
		}
	}
	for op := range st.Condition {
		if !slices.Contains([]string{"StringEquals", "StringLike", "ForAnyValue:StringEquals"}, op) {
			return fmt.Errorf("operator %s", op)
		}
	}
	return nil
}

func (p *policy) allows(r request) bool {
	return slices.ContainsFunc(p.Statement, func(st statement) bool { return st.matches(r) })
}

func (st statement) matches(r request) bool {
	if len(st.Principal) > 0 && !slices.Contains(st.Principal["Federated"], r.principal) {
		return false
	}
	action := func(pattern string) bool { return like(strings.ToLower(pattern), strings.ToLower(r.action)) }
	resource := func(pattern string) bool { return like(pattern, r.resource) }
	return slices.ContainsFunc(st.Action, action) &&
		(len(st.Resource) == 0 || slices.ContainsFunc(st.Resource, resource)) &&
		st.holds(r.keys)
}

func (st statement) holds(keys map[string]string) bool {
	for op, wanted := range st.Condition {
		for key, values := range wanted {
			have, ok := keys[key]
			if !ok || !slices.ContainsFunc(values, func(v string) bool { return op == "StringLike" && like(v, have) || v == have }) {
				return false
			}
		}
	}
	return true
}

// like matches * and ?, and the ways to write them when they are meant themselves.
func like(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	for _, meant := range []string{"*", "?", "$"} {
		if rest, ok := strings.CutPrefix(pattern, "${"+meant+"}"); ok {
			return strings.HasPrefix(s, meant) && like(rest, s[1:])
		}
	}
	switch pattern[0] {
	case '*':
		for i := range len(s) + 1 {
			if like(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	case '?':
		return s != "" && like(pattern[1:], s[1:])
	}
	return s != "" && s[0] == pattern[0] && like(pattern[1:], s[1:])
}
