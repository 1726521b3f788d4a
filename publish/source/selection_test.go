package source_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/publishtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/source"
)

func TestSelectionPicks(t *testing.T) {
	all := []string{"compiler-wrapper", "gcc", "gcc-runtime", "hwloc", "libevent", "munge", "openmpi", "openssl", "pmix", "slurm", "zlib"}
	for _, row := range []struct {
		include, exclude []string
		want             []string
	}{
		{nil, nil, all},
		{[]string{"zlib"}, nil, []string{"zlib"}},
		{[]string{"zlib@1.3.1"}, nil, []string{"zlib"}},
		{[]string{"zlib@1.3"}, nil, nil},
		{[]string{"zlib@1.*"}, nil, []string{"zlib"}},
		{[]string{"gcc"}, nil, []string{"gcc"}},
		{[]string{"gcc*"}, nil, []string{"gcc", "gcc-runtime"}},
		{[]string{"open???"}, nil, []string{"openmpi", "openssl"}},
		{[]string{"[hm]*"}, nil, []string{"hwloc", "munge"}},
		{[]string{"slurm@24-*"}, nil, []string{"slurm"}},
		{[]string{"/hyibvwk"}, nil, []string{"zlib"}},
		{[]string{"/hyibvwkwwrofa62pgbz2cra6xzfh7vst"}, nil, []string{"zlib"}},
		{[]string{"/yibvwk"}, nil, nil},
		{[]string{"zlib", "munge"}, []string{"zlib"}, []string{"munge"}},
		{nil, []string{"*"}, nil},
		{nil, []string{"o*", "*e*", "/hyibvwk"}, []string{"gcc", "hwloc", "pmix", "slurm"}},
		{[]string{"*@5.*"}, nil, []string{"openmpi", "pmix"}},
	} {
		for _, l := range []string{"v3", "v2"} {
			want := row.want
			if l == "v2" { // has no openmpi, no wrapper, and other hashes
				if strings.Contains(strings.Join(append(row.include, row.exclude...), " "), "/") {
					continue
				}
				want = slices.DeleteFunc(slices.Clone(want), func(p string) bool { return p == "openmpi" || p == "compiler-wrapper" })
			}
			src, err := source.Open(t.Context(), publishtest.Original(l+"-unsigned"), source.Selection{Include: row.include, Exclude: row.exclude})
			var got []string
			if err == nil {
				for _, p := range src.Mirrors[0].Packages {
					got = append(got, p.Package)
				}
				src.Close()
			}
			slices.Sort(got)
			if !slices.Equal(got, want) || (err != nil) != (len(want) == 0) {
				t.Errorf("%s, include %q, exclude %q: %q, %v, want %q", l, row.include, row.exclude, got, err, want)
			}
		}
	}
}

func TestSelectionValidates(t *testing.T) {
	for _, row := range []struct {
		sel   source.Selection
		wrong []string // the settings
	}{
		{source.Selection{}, nil},
		{source.Selection{Include: []string{"slurm", "slurm@25.*", "/hyibvwk", "[ab]?*"}, Exclude: []string{"*"}, OS: []string{"ubuntu*"}, Target: []string{"x86_64*"}, Files: []string{"dist/*.tar.gz"}}, nil},
		{source.Selection{Include: []string{""}}, []string{"include"}},
		{source.Selection{Include: []string{"@spack.lock", "@dir/[a.lock"}}, nil},
		{source.Selection{Include: []string{"@"}}, []string{"include"}},
		{source.Selection{Include: []string{"/"}}, []string{"include"}},
		{source.Selection{Exclude: []string{"[a"}}, []string{"exclude"}},
		{source.Selection{Exclude: []string{"slurm@[a"}}, []string{"exclude"}},
		{source.Selection{OS: []string{"[a"}}, []string{"expect-os"}},
		{source.Selection{OS: []string{""}}, []string{"expect-os"}},
		{source.Selection{Target: []string{"[a"}}, []string{"expect-target"}},
		{source.Selection{Files: []string{"[a"}}, []string{"files"}},
		{source.Selection{Exclude: []string{"--dry-run"}}, []string{"exclude"}},
		{source.Selection{Files: []string{"--dry-run"}}, []string{"files"}},
		{source.Selection{Layout: "v9"}, []string{"layout"}},
		{source.Selection{Include: []string{"/", "@"}, Layout: "v9", Target: []string{"["}}, []string{"include", "include", "layout", "expect-target"}},
	} {
		var wrong []string
		err := row.sel.Validate()
		for _, one := range field.Each(err) {
			wrong = append(wrong, field.Name(one))
		}
		if !slices.Equal(wrong, row.wrong) {
			t.Errorf("%+v: %v of %q, want %q", row.sel, err, wrong, row.wrong)
		}
	}
}

// A lock file stands for all that the environment consists of, what it was built with included, if it is there.
func TestSelectionByLockFile(t *testing.T) {
	for _, row := range []struct {
		layout           string
		include, exclude []string
		want             string
	}{
		{"v3", []string{"@v6.lock"}, nil, "compiler-wrapper gcc gcc-runtime munge openssl zlib"},
		{"v3", []string{"@v6.lock", "pmix"}, []string{"gcc"}, "compiler-wrapper gcc-runtime munge openssl pmix zlib"},
		{"v3", nil, []string{"@v6.lock"}, "hwloc libevent openmpi pmix slurm"},
		{"v3", []string{"@v6-included.lock"}, []string{"@v6.lock"}, "hwloc libevent pmix slurm"},
		{"v2", []string{"@v5.lock"}, nil, "gcc-runtime munge openssl zlib"},
	} {
		sel := source.Selection{Include: row.include, Exclude: row.exclude}
		if err := sel.ReadLocks(func(name string) ([]byte, error) { return os.ReadFile("../lockfile/testdata/" + name) }); err != nil {
			t.Fatal(err)
		}
		src, err := source.Open(t.Context(), publishtest.Original(row.layout+"-unsigned"), sel)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range src.Mirrors[0].Packages {
			got = append(got, p.Package)
		}
		src.Close()
		if len(src.Findings) > 0 {
			t.Errorf("include %q: %v", row.include, src.Findings)
		}
		slices.Sort(got)
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s, include %q, exclude %q: %q, want %q", row.layout, row.include, row.exclude, got, row.want)
		}
	}
}

// What a lock file was made for and SOURCE does not have is said.
func TestALockFileWhoseRootIsNotThere(t *testing.T) {
	const ghost = "gggggggggggggggggggggggggggggggg"
	text := `{"_meta":{"file-type":"spack-lockfile","lockfile-version":6},"roots":[{"hash":"` + ghost + `","spec":"x"}],"concrete_specs":{"` + ghost + `":{"name":"ghost","version":"1"}}}`
	for _, row := range []struct {
		sel  source.Selection
		want int
	}{
		{source.Selection{Include: []string{"zlib", "@x.lock"}}, 1},
		{source.Selection{Include: []string{"zlib", "@x.lock"}, Exclude: []string{"ghost"}}, 0},
		{source.Selection{Exclude: []string{"@x.lock"}}, 0},
	} {
		if err := row.sel.ReadLocks(func(string) ([]byte, error) { return []byte(text), nil }); err != nil {
			t.Fatal(err)
		}
		src, err := source.Open(t.Context(), publishtest.Original("v3-unsigned"), row.sel)
		if err != nil {
			t.Fatal(err)
		}
		src.Close()
		if len(src.Findings) != row.want || row.want > 0 && (src.Findings[0].Severity != buildcache.Warning || !strings.Contains(src.Findings[0].String(), "ghost@1/ggggggg")) {
			t.Errorf("include %q: %v", row.sel.Include, src.Findings)
		}
	}
}

func TestLockFilesThatCannotBeRead(t *testing.T) {
	for _, sel := range []source.Selection{{Include: []string{"@x.lock"}}, {Exclude: []string{"zlib", "@x.lock"}}} {
		for _, text := range []string{"", "{}", `{"_meta":{"file-type":"spack-lockfile","lockfile-version":2},"concrete_specs":{}}`} {
			err := sel.ReadLocks(func(string) ([]byte, error) { return []byte(text), nil })
			if err == nil || !strings.Contains(err.Error(), "x.lock") {
				t.Errorf("%q: %v", text, err)
			}
		}
		if err := sel.ReadLocks(func(string) ([]byte, error) { return nil, os.ErrNotExist }); !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	}
}

// What was built for something else is refused, not left out.
func TestForeignPackagesAreRefused(t *testing.T) {
	for _, l := range []string{"v3", "v2"} {
		for _, row := range []struct {
			os, target []string
			want       string // a part of the reason; empty where all is well
		}{
			{[]string{"ubuntu22.04"}, nil, ""},
			{[]string{"rocky9", "ubuntu*"}, nil, ""},
			{nil, []string{"x86_64*"}, ""},
			{[]string{"rocky9"}, nil, "it was built for the os ubuntu22.04, expected is rocky9"},
			{[]string{"ubuntu22.04"}, []string{"aarch64", "zen*"}, "it was built for the target x86_64_v3, expected is aarch64 or zen*"},
		} {
			m := publishtest.EmptyMirror(t)
			for range 2 { // also when it is there already
				o := publishtest.Only("zlib")
				o.Selection.OS, o.Selection.Target = row.os, row.target
				out, err := publishtest.PublishTo(t, m, publishtest.Original(l+"-signed"), o)
				if row.want == "" {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				if err == nil || len(out.Findings) != 1 || !strings.Contains(out.Findings[0].Reason, row.want) || !strings.Contains(out.Findings[0].File, "zlib") {
					t.Errorf("%s: %v", l, err)
				}
				m = publishtest.EmptyMirror(t)
				publishtest.MustPublish(t, m, publishtest.Original(l+"-signed"), publishtest.Only("zlib"))
			}
		}
	}
}
