package policy

import (
	"slices"
	"strconv"
	"strings"
)

// A Request is one call as IAM sees it. Keys holds the condition keys that AWS
// puts into the request context; a key that is absent there is absent in AWS too.
type Request struct {
	Action    string
	Resource  string
	Principal Principal // who calls; looked at by resource and trust policies only
	Keys      map[string]string
}

// A Decision is what a set of documents says to a request.
type Decision struct {
	Allowed bool
	// Denied is true when a Deny matched; false with Allowed false means that
	// nothing allowed the request.
	Denied bool
	// Sid is the statement that decided, empty when none matched.
	Sid string
}

func (d Decision) String() string {
	switch {
	case d.Allowed:
		return "allowed by " + d.Sid
	case d.Denied:
		return "denied by " + d.Sid
	}
	return "no statement allows it"
}

// Decide evaluates the documents together, as IAM does for the policies of one
// identity: a matching Deny anywhere wins, else one matching Allow suffices.
func Decide(r Request, docs ...Document) (Decision, error) {
	var found Decision
	for _, d := range docs {
		if err := d.check(); err != nil {
			return Decision{}, err
		}
		for _, st := range d.Statement {
			if !st.matches(r) {
				continue
			}
			if st.Effect == Deny {
				return Decision{Denied: true, Sid: st.Sid}, nil
			}
			if !found.Allowed {
				found = Decision{Allowed: true, Sid: st.Sid}
			}
		}
	}
	return found, nil
}

// Decide evaluates the document alone.
func (d Document) Decide(r Request) (Decision, error) { return Decide(r, d) }

func (st Statement) matches(r Request) bool {
	return matchesPrincipal(st.Principal, r.Principal) &&
		st.covers(r.Action) &&
		(len(st.Resource) == 0 || anyMatch(st.Resource, r.Resource, like)) &&
		st.Condition.holds(r.Keys)
}

// covers reports whether the statement speaks of the action.
func (st Statement) covers(action string) bool {
	if len(st.NotAction) > 0 {
		return !anyMatch(st.NotAction, action, foldLike)
	}
	return anyMatch(st.Action, action, foldLike)
}

// matchesPrincipal holds for identity policies, which name nobody, for "*", and for
// a caller of the same kind and name.
func matchesPrincipal(want, have Principal) bool {
	if len(want) == 0 || slices.Contains(want["AWS"], "*") {
		return true
	}
	for kind, names := range have {
		for _, n := range names {
			if slices.Contains(want[kind], n) {
				return true
			}
		}
	}
	return false
}

func (c Condition) holds(keys map[string]string) bool {
	for op, byKey := range c {
		test, ifExists, _ := operator(op)
		for key, values := range byKey {
			have, present := lookup(keys, key)
			if !present && ifExists {
				continue
			}
			if !test(have, present, values) {
				return false
			}
		}
	}
	return true
}

// lookup finds a condition key; IAM compares their names without regard to case.
func lookup(keys map[string]string, name string) (string, bool) {
	for k, v := range keys {
		if strings.EqualFold(k, name) {
			return v, true
		}
	}
	return "", false
}

// A test decides one condition key. A key that is absent fails every positive
// operator and passes every negated one, as in IAM.
type test func(have string, present bool, values []string) bool

// operator finds the test behind an operator's name and whether it is an IfExists.
func operator(name string) (test, bool, bool) {
	base, ifExists := strings.CutSuffix(name, "IfExists")
	switch base {
	case "Null":
		return isNull, false, !ifExists
	case "StringEquals", "ArnEquals", "Bool":
		// IAM treats ArnEquals as ArnLike.
		if base == "ArnEquals" {
			return positive(like), ifExists, true
		}
		return positive(equal), ifExists, true
	case "NumericLessThan":
		return positive(less), ifExists, true
	case "StringLike", "ArnLike":
		return positive(like), ifExists, true
	case "StringNotEquals":
		return negated(equal), ifExists, true
	case "StringNotLike", "ArnNotLike", "ArnNotEquals":
		return negated(like), ifExists, true
	}
	return nil, false, false
}

func isNull(_ string, present bool, values []string) bool {
	return slices.Contains(values, "true") == !present
}

func positive(match func(pattern, s string) bool) test {
	return func(have string, present bool, values []string) bool {
		return present && anyMatch(values, have, match)
	}
}

func negated(match func(pattern, s string) bool) test {
	return func(have string, present bool, values []string) bool {
		return !present || !anyMatch(values, have, match)
	}
}

func anyMatch(patterns []string, s string, match func(pattern, s string) bool) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return match(p, s) })
}

func equal(a, b string) bool { return a == b }

// less holds for two numbers; IAM lets what is no number fail.
func less(bound, s string) bool {
	b, err1 := strconv.ParseFloat(bound, 64)
	n, err2 := strconv.ParseFloat(s, 64)
	return err1 == nil && err2 == nil && n < b
}

// foldLike matches actions, whose names IAM compares without regard to case.
func foldLike(pattern, s string) bool { return like(strings.ToLower(pattern), strings.ToLower(s)) }

// like matches IAM's wildcards: * for any run, also across / and :, ? for one byte.
// It is greedy with one point of return, so it is linear for one * and never
// exponential.
func like(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
