package index_test

import (
	"maps"
	"math"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/vantagecompute/slurm-factory-publish/publish/index"
)

func TestCoverageText(t *testing.T) {
	want := index.Sum{Count: 3, Total: 0xfe}
	text, err := want.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	var got index.Sum
	if err := got.UnmarshalText(text); err != nil || got != want {
		t.Errorf("%s reads back as %+v, %v", text, got, err)
	}
	for _, bad := range []string{"", "x", "3", "3-", "-fe", "3-fg", "-3-fe", "+3-fe", "3-fe-", " 3-fe", "3-10000000000000000", "2147483648-0"} {
		if err := got.UnmarshalText([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestCoverageReadsWhatItWrites(t *testing.T) {
	for _, want := range []index.Coverage{{}, {"a": {Count: 1, Total: 2}, `q"uo\te`: {Count: 40_000, Total: math.MaxUint64}}} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := index.Coverage{"before": {}}
		if err := json.Unmarshal(text, &got); err != nil || !maps.Equal(got, want) {
			t.Errorf("%s reads back as %v, %v", text, got, err)
		}
	}
	for _, bad := range []string{`[]`, `"a"`, `1`, `{"a":1}`, `{"a":{"b":"1-2"}}`, `{"a":"1"}`, `{"a":"1-2"`, `{"a":"1-2","a":"1-2"}`} {
		var got index.Coverage
		if err := json.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("%s accepted as %v", bad, got)
		}
	}
}
