package cloudfront_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront"
	"github.com/vantagecompute/slurm-factory-publish/publish/cloudfront/cloudfronttest"
)

func TestPath(t *testing.T) {
	for _, test := range []struct{ prefix, name, want string }{
		{"", "v3/manifests/index/index.manifest.json", "/v3/manifests/index/index.manifest.json"},
		{"/", "a", "/a"},
		{"/x/y", "a/b", "/x/y/a/b"},
		{"x/y/", "a/b", "/x/y/a/b"},
		{"/x y", "a", "/x%20y/a"},
		{"", "plain-._/A9", "/plain-._/A9"},
		{"", "a+b@c!d$e&f'g(h)i*j,k;l=m:n", "/a+b@c!d$e&f'g(h)i*j,k;l=m:n"},
		{"", "with space", "/with%20space"},
		{"", "100%", "/100%25"},
		{"", "%41", "/%2541"},
		{"", `<>"#{}|\^[]` + "`?", "/%3C%3E%22%23%7B%7D%7C%5C%5E%5B%5D%60%3F"},
		{"", "ü", "/%C3%BC"},
		{"", "日本", "/%E6%97%A5%E6%9C%AC"},
		{"", "a\x7fb\n", "/a%7Fb%0A"},
		{"", "dir/a~b/c", "/dir/a*"},
		{"/~me", "a", "/*"},
	} {
		if got := cloudfront.Path(test.prefix, test.name); got != test.want {
			t.Errorf("path of %q under %q is %s, want %s", test.name, test.prefix, got, test.want)
		}
	}
}

func TestPaths(t *testing.T) {
	many := func(n int, format string) []string {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf(format, i))
		}
		return names
	}
	for _, test := range []struct {
		what   string
		prefix string
		names  []string
		limit  int
		want   []string
	}{
		{"none", "x", nil, 1, nil},
		{"one", "x", []string{"a"}, 1, []string{"/x/a"}},
		{"as many as may be, sorted, each once", "", []string{"b", "a", "b"}, 2, []string{"/a", "/b"}},
		{"more, in one directory", "", []string{"v3/index/a", "v3/index/b"}, 1, []string{"/v3/index/*"}},
		{"more, in several", "", []string{"v3/index/a", "v3/layout.json", "v3/index/b"}, 2, []string{"/v3/*"}},
		{"names that only begin alike", "", []string{"index-a", "index-b"}, 1, []string{"/*"}},
		{"one below the other", "", []string{"a/b", "a/b/c"}, 1, []string{"/a/*"}},
		{"nothing in common but the prefix", "/x/y", []string{"a", "b/c"}, 1, []string{"/x/y/*"}},
		{"no limit", "", many(3000, "n%d"), 0, nil},
		{"CloudFront's own limit", "", many(3001, "d/n%d"), 0, []string{"/d/*"}},
		{"a limit above CloudFront's", "", many(3001, "d/n%d"), 5000, []string{"/d/*"}},
		{"too many wildcards", "", many(16, "d/n%d~"), 100, []string{"/d/*"}},
		{"a wildcard beside others", "", []string{"d/a~1", "d/a~2", "d/b"}, 2, []string{"/d/a*", "/d/b"}},
	} {
		got := cloudfront.Paths(test.prefix, test.names, test.limit)
		if test.want == nil {
			if len(got) != len(test.names) {
				t.Errorf("%s: got %d paths of %d names", test.what, len(got), len(test.names))
			}
		} else if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
}

// TestPathsCover: whatever the names, CloudFront takes the paths, and each object is
// forgotten, under the URL that viewers have for it, and nothing outside of the prefix is.
func TestPathsCover(t *testing.T) {
	s := cloudfronttest.New(id)
	c := client(t, s, cloudfront.Options{})
	rapid.Check(t, func(t *rapid.T) {
		element := rapid.StringMatching(`[a-c ~%+@ü?*\[]{1,3}`)
		name := rapid.Map(rapid.SliceOfN(element, 1, 3), func(e []string) string { return strings.Join(e, "/") })
		names := rapid.SliceOfN(name, 1, 30).Draw(t, "names")
		paths := cloudfront.Paths("/pre/fix", names, rapid.IntRange(0, 10).Draw(t, "limit"))
		for _, n := range names {
			viewed := (&url.URL{Path: "/pre/fix/" + n}).EscapedPath()
			if !slices.ContainsFunc(paths, func(p string) bool { return forgets(p, viewed) }) {
				t.Fatalf("%q does not cover %q", paths, viewed)
			}
		}
		for _, p := range paths {
			if !strings.HasPrefix(p, "/pre/fix/") {
				t.Fatalf("%s is outside of the prefix", p)
			}
		}
		if _, err := c.Invalidate(t.Context(), fmt.Sprint(names), paths); err != nil {
			t.Fatal(err)
		}
	})
}

// forgets matches as an edge does that takes an encoded character for the bare one.
func forgets(pattern, viewed string) bool {
	if cloudfronttest.Match(pattern, viewed) {
		return true
	}
	plainPattern, err1 := url.PathUnescape(pattern)
	plain, err2 := url.PathUnescape(viewed)
	return err1 == nil && err2 == nil && cloudfronttest.Match(plainPattern, plain)
}

func TestReference(t *testing.T) {
	one := cloudfront.Reference("E1", "token", []string{"/a", "/b"})
	if len(one) != 32 || strings.Trim(one, "0123456789abcdef") != "" {
		t.Errorf("got %q, want 32 hexadecimal digits", one)
	}
	if again := cloudfront.Reference("E1", "token", []string{"/b", "/a"}); again != one {
		t.Errorf("the order of the paths makes %s of %s", again, one)
	}
	seen := map[string]string{}
	for _, r := range []struct {
		distribution, token string
		paths               []string
	}{
		{"E1", "token", []string{"/a", "/b"}}, {"E2", "token", []string{"/a", "/b"}}, {"E1", "other", []string{"/a", "/b"}}, {"E1", "token", []string{"/a"}},
		{"E1", "token", []string{"/a/b"}}, {"E1t", "oken", []string{"/a"}}, {"E1", "token", []string{"/a,2:/b"}}, {"E1", "token", nil},
	} {
		ref := cloudfront.Reference(r.distribution, r.token, r.paths)
		if other, ok := seen[ref]; ok {
			t.Errorf("%v and %s have one reference", r, other)
		}
		seen[ref] = fmt.Sprint(r)
	}
}
