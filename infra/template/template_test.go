package template

import (
	"slices"
	"strings"
	"testing"
)

const small = `{
  "Mappings": {"Zones": {"aws": {"id": "Z1"}}},
  "Resources": {
    "Role": {"Type": "AWS::IAM::Role", "Properties": {"Bucket": {"Fn::GetAtt": ["Bucket", "Arn"]}}, "DependsOn": "Site"},
    "Site": {"Type": "AWS::CloudFront::Distribution", "Properties": {"From": {"Fn::Join": ["", ["s3://", {"Ref": "Bucket"}, "/"]]}}},
    "Bucket": {"Type": "AWS::S3::Bucket"}
  }
}`

func parse(t *testing.T) Template {
	t.Helper()
	tpl, err := Parse([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestOrderPutsNeedsFirst(t *testing.T) {
	order, err := parse(t).Order()
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"Bucket", "Site", "Role"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestOrderRefusesACycle(t *testing.T) {
	tpl := Template{Resources: map[string]Resource{"A": {DependsOn: "B"}, "B": {DependsOn: []any{"A"}}}}
	if _, err := tpl.Order(); err == nil {
		t.Error("a cycle was put in order")
	}
}

func TestResolve(t *testing.T) {
	tpl := parse(t)
	w := World{
		Account: "1", Region: "us-east-1", StackName: "S",
		Ref:  map[string]string{"Bucket": "b"},
		Attr: map[string]map[string]string{"Bucket": {"Arn": "arn:aws:s3:::b"}},
	}
	for _, row := range []struct {
		name string
		in   any
		want string
	}{
		{"plain", "x", "x"},
		{"ref", map[string]any{"Ref": "Bucket"}, "b"},
		{"attribute", map[string]any{"Fn::GetAtt": []any{"Bucket", "Arn"}}, "arn:aws:s3:::b"},
		{"attribute, dotted", map[string]any{"Fn::GetAtt": "Bucket.Arn"}, "arn:aws:s3:::b"},
		{"join", map[string]any{"Fn::Join": []any{":", []any{map[string]any{"Ref": "AWS::AccountId"}, "z"}}}, "1:z"},
		{"map", map[string]any{"Fn::FindInMap": []any{"Zones", map[string]any{"Ref": "AWS::Partition"}, "id"}}, "Z1"},
		{"pseudo", map[string]any{"Ref": "AWS::Region"}, "us-east-1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := tpl.ResolveString(row.in, w)
			if err != nil || got != row.want {
				t.Errorf("%q %v, want %q", got, err, row.want)
			}
		})
	}
}

func TestResolveNeverGuesses(t *testing.T) {
	for name, in := range map[string]any{
		"unknown resource":  map[string]any{"Ref": "Nobody"},
		"unknown attribute": map[string]any{"Fn::GetAtt": []any{"Bucket", "Colour"}},
		"unknown function":  map[string]any{"Fn::Base64": "x"},
		"unknown mapping":   map[string]any{"Fn::FindInMap": []any{"A", "b", "c"}},
		"inside a list":     []any{map[string]any{"Ref": "Nobody"}},
	} {
		t.Run(name, func(t *testing.T) {
			if v, err := parse(t).Resolve(in, World{}); err == nil {
				t.Errorf("resolved to %v", v)
			}
		})
	}
}

func TestParseRefusesWhatIsNoTemplate(t *testing.T) {
	if _, err := Parse([]byte("Resources:\n")); err == nil || !strings.Contains(err.Error(), "parse template") {
		t.Errorf("%v", err)
	}
}
