package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
)

func allowing(c Condition) Document {
	return New(Statement{Sid: "S", Effect: Allow, Action: Strings{"s3:Get*"}, Resource: Strings{"arn:aws:s3:::b/p/*"}, Condition: c})
}

func TestDecide(t *testing.T) {
	get := Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/p/x"}
	with := func(keys ...string) Request {
		r := get
		r.Keys = map[string]string{}
		for i := 0; i < len(keys); i += 2 {
			r.Keys[keys[i]] = keys[i+1]
		}
		return r
	}
	one := func(op, key, value string) Condition { return Condition{op: {key: {value}}} }
	for _, row := range []struct {
		name string
		doc  Document
		req  Request
		want bool
	}{
		{"action and resource match", allowing(nil), get, true},
		{"action's letter case does not matter", allowing(nil), Request{Action: "S3:getobject", Resource: get.Resource}, true},
		{"other action", allowing(nil), Request{Action: "s3:PutObject", Resource: get.Resource}, false},
		{"other resource", allowing(nil), Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/q/x"}, false},
		{"resource's letter case matters", allowing(nil), Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/P/x"}, false},
		{"equals", allowing(one("StringEquals", "k", "v")), with("k", "v"), true},
		{"equals is no pattern", allowing(one("StringEquals", "k", "*")), with("k", "v"), false},
		{"key's letter case does not matter", allowing(one("StringEquals", "AWS:K", "v")), with("aws:k", "v"), true},
		{"equals needs the key", allowing(one("StringEquals", "k", "v")), get, false},
		{"equals if exists does not", allowing(one("StringEqualsIfExists", "k", "v")), get, true},
		{"like", allowing(one("StringLike", "k", "a*c?e")), with("k", "abbcde"), true},
		{"like must reach the end", allowing(one("StringLike", "k", "a*c")), with("k", "abcd"), false},
		{"not equals", allowing(one("StringNotEquals", "k", "v")), with("k", "w"), true},
		{"not equals holds without the key", allowing(one("StringNotEquals", "k", "v")), get, true},
		{"arn not equals takes patterns", allowing(one("ArnNotEquals", "k", "arn:*:james")), with("k", "arn:x:james"), false},
		{"bool", allowing(one("Bool", "k", "true")), with("k", "true"), true},
		{"bool needs the key", allowing(one("Bool", "k", "false")), get, false},
		{"null true without the key", allowing(one("Null", "k", "true")), get, true},
		{"null true with the key", allowing(one("Null", "k", "true")), with("k", ""), false},
		{"null false with the key", allowing(one("Null", "k", "false")), with("k", "x"), true},
		{"numeric", allowing(one("NumericLessThan", "k", "1.2")), with("k", "1.1"), true},
		{"numeric, not less", allowing(one("NumericLessThan", "k", "1.2")), with("k", "1.2"), false},
		{"numeric, no number", allowing(one("NumericLessThan", "k", "1.2")), with("k", "tls"), false},
		{"every condition must hold", allowing(Condition{"StringEquals": {"k": {"v"}, "l": {"w"}}}), with("k", "v"), false},
		{"any value is enough", allowing(Condition{"StringEquals": {"k": {"u", "v"}}}), with("k", "v"), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := row.doc.Decide(row.req)
			if err != nil || got.Allowed != row.want {
				t.Errorf("%v %v, want allowed %v", got, err, row.want)
			}
		})
	}
}

func TestDenyWinsInAnyOrderAndAnyDocument(t *testing.T) {
	allow := allowing(nil)
	deny := New(Statement{Sid: "No", Effect: Deny, Action: Strings{"s3:*"}, Resource: Strings{"*"}})
	req := Request{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/p/x"}
	for _, docs := range [][]Document{{allow, deny}, {deny, allow}} {
		got, err := Decide(req, docs...)
		if err != nil || got.Allowed || !got.Denied || got.Sid != "No" {
			t.Errorf("%+v %v", got, err)
		}
	}
}

func TestPrincipals(t *testing.T) {
	trust := New(Statement{Effect: Allow, Principal: Federated("arn:p"), Action: Strings{"sts:AssumeRoleWithWebIdentity"}})
	for _, row := range []struct {
		who  Principal
		want bool
	}{
		{Federated("arn:p"), true},
		{Federated("arn:q"), false},
		{Principal{"AWS": {"arn:p"}}, false},
		{nil, false},
	} {
		got, err := trust.Decide(Request{Action: "sts:AssumeRoleWithWebIdentity", Principal: row.who})
		if err != nil || got.Allowed != row.want {
			t.Errorf("%v: %v %v, want %v", row.who, got, err, row.want)
		}
	}
}

func TestParseIsTheInverseOfMarshal(t *testing.T) {
	in := New(
		Statement{Sid: "A", Effect: Deny, Principal: Anyone(), Action: Strings{"s3:*"}, Resource: Strings{"a", "b"},
			Condition: Condition{"Bool": {"aws:SecureTransport": {"false"}}}},
		Statement{Sid: "B", Effect: Allow, Action: Strings{"s3:GetObject"}, Resource: Strings{"a"}},
	)
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(out)
	if err != nil || string(b) != string(again) {
		t.Errorf("%s\n%s %v", b, again, err)
	}
}

func TestParseReadsWhatAWSAlsoAccepts(t *testing.T) {
	d, err := Parse([]byte(`{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "*",
		"Condition": {"Bool": {"aws:SecureTransport": false}, "NumericLessThan": {"s3:TlsVersion": 1.2}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Decide(Request{Action: "s3:GetObject", Resource: "x", Principal: Principal{"AWS": {"me"}},
		Keys: map[string]string{"aws:SecureTransport": "false", "s3:TlsVersion": "1.0"}})
	if err != nil || !got.Denied {
		t.Errorf("%v %v", got, err)
	}
}

func TestWhatIsNotModelledIsRefused(t *testing.T) {
	for name, doc := range map[string]string{
		"element":  `{"Statement": [{"Effect": "Allow", "Action": "s3:*", "NotResource": "*"}]}`,
		"both":     `{"Statement": [{"Effect": "Allow", "Action": "a", "NotAction": "s3:*", "Resource": "*"}]}`,
		"neither":  `{"Statement": [{"Effect": "Allow", "Resource": "*"}]}`,
		"operator": `{"Statement": [{"Effect": "Allow", "Action": "a", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}]}`,
		"set":      `{"Statement": [{"Effect": "Allow", "Action": "a", "Resource": "*", "Condition": {"ForAllValues:StringLike": {"k": "v"}}}]}`,
		"effect":   `{"Statement": [{"Effect": "Maybe", "Action": "a", "Resource": "*"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(doc)); !errors.Is(err, ErrNotModelled) {
				t.Errorf("%v, want ErrNotModelled", err)
			}
		})
	}
	if _, err := Decide(Request{}, New(Statement{Effect: Allow, Condition: Condition{"DateLessThan": {"k": {"v"}}}})); !errors.Is(err, ErrNotModelled) {
		t.Errorf("Decide: %v, want ErrNotModelled", err)
	}
}

func TestParseRefusesWhatIsNoPolicy(t *testing.T) {
	for _, doc := range []string{``, `{}`, `[]`, `{"Statement": "x"}`, `{"Statement": [{"Effect": "Allow", "Action": {"a": 1}}]}`,
		`{"Statement": [{"Effect": "Allow", "Principal": "me", "Action": "a"}]}`} {
		if _, err := Parse([]byte(doc)); err == nil {
			t.Errorf("%q was accepted", doc)
		}
	}
}

func TestNotActionCoversEverythingElse(t *testing.T) {
	d, err := Parse([]byte(`{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"},
		{"Effect": "Deny", "NotAction": ["s3:Get*", "s3:PutObject"], "Resource": "*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]bool{
		"s3:GetObject": true, "S3:getobject": true, "s3:PutObject": true, "s3:PutObjectAcl": false, "s3:AnythingNew": false, "iam:CreateUser": false,
	} {
		if got, err := d.Decide(Request{Action: action, Resource: "x"}); err != nil || got.Allowed != want {
			t.Errorf("%s: %v %v, want allowed %v", action, got, err, want)
		}
	}
}

// TestManyStarsAreNotSlow guards doctor, which evaluates whatever policy somebody wrote.
func TestManyStarsAreNotSlow(t *testing.T) {
	started := time.Now()
	if like(strings.Repeat("*a", 100)+"b", strings.Repeat("a", 10_000)) {
		t.Error("matched")
	}
	if d := time.Since(started); d > time.Second {
		t.Errorf("took %s", d)
	}
}
