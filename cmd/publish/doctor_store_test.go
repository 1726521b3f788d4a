package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/clitest"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/doctor"
	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror/s3/s3test"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
)

// doctorOf lets the doctor look at a store.
func doctorOf(t *testing.T, o s3test.Options, hook func(*http.Request) s3test.Fault, args ...string) (*s3test.Server, int, string) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	server := s3test.New(o)
	t.Cleanup(server.Close)
	server.Hook(func(r *http.Request) s3test.Fault {
		if r.URL.Query().Has("lifecycle") {
			return s3test.Refuse(404, "NoSuchLifecycleConfiguration")
		}
		if hook != nil {
			return hook(r)
		}
		return s3test.None
	})
	code, stdout, stderr := execute(t, nil, append([]string{"doctor", "--endpoint-url", server.URL, "s3://bucket/noble"}, args...)...)
	return server, code, stdout + stderr
}

// The doctor finds nothing in a store that is as Amazon S3 is, and leaves nothing in it.
func TestDoctorFindsAGoodStoreGood(t *testing.T) {
	server, code, said := doctorOf(t, s3test.Options{PageSize: 3}, nil)
	if code != cli.ExitDone || strings.Contains(said, "FAIL") || strings.Count(said, "note") != 1 {
		t.Errorf("exit %d:\n%s", code, said)
	}
	for _, name := range append([]string{doctor.Object}, doctor.Names...) {
		for _, key := range []string{"noble/" + name, "noble/" + doctor.Directory + name} {
			if _, there := server.Object(key); there {
				t.Errorf("%s is left behind", key)
			}
		}
	}
	if n := server.OpenUploads(); n != 0 {
		t.Errorf("%d uploads are left behind", n)
	}
	if v := server.Violations(); len(v) > 0 {
		t.Errorf("this should never have been sent: %v", v)
	}
}

// The doctor names what a store lacks. What publishing can do without is no failure.
func TestDoctorNamesWhatAStoreLacks(t *testing.T) {
	on := func(operation string, f s3test.Fault) func(*http.Request) s3test.Fault {
		return s3test.Always(operation, f)
	}
	for what, row := range map[string]struct {
		o     s3test.Options
		hook  func(*http.Request) s3test.Fault
		fails bool
		words []string
	}{
		"If-Match":         {s3test.Options{Ignores: []string{"If-Match"}}, nil, true, []string{"FAIL  conditional writes", "ignores the condition If-Match", "--unsafe-single-writer"}},
		"If-None-Match":    {s3test.Options{Ignores: []string{"If-None-Match"}}, nil, true, []string{"FAIL  conditional writes", "FAIL  uploads in parts, and their conditions"}},
		"checksums":        {s3test.Options{NoChecksums: true}, nil, false, []string{"note  checksums of what arrives", "verify --deep"}},
		"tokens":           {s3test.Options{}, on("ListObjectsV2", s3test.NoToken), true, []string{"FAIL  credentials, and the permission to list", "NextContinuationToken"}},
		"order":            {s3test.Options{}, on("ListObjectsV2", s3test.Backwards), true, []string{"FAIL  listing in pages", "increasing byte order"}},
		"lists of uploads": {s3test.Options{}, on("ListMultipartUploads", s3test.Refuse(501, "NotImplemented")), false, []string{"note  finding unfinished uploads"}},
		"copies":           {s3test.Options{Overwrites: true}, nil, false, []string{"note  copies within the storage, and their conditions", "ignores If-None-Match on copies"}},
		"no copies":        {s3test.Options{}, on("CopyObject", s3test.Refuse(501, "NotImplemented")), false, []string{"note  copies within the storage"}},
		"deleting":         {s3test.Options{}, on("DeleteObject", s3test.Refuse(403, "AccessDenied")), false, []string{"note  cleaning up"}},
		"501": {s3test.Options{}, on("PutObject", s3test.Refuse(501, "NotImplemented").Saying("If-None-Match is not supported")), true,
			[]string{"does not implement the condition If-None-Match"}},
	} {
		t.Run(what, func(t *testing.T) {
			_, code, said := doctorOf(t, row.o, row.hook)
			if (code == cli.ExitUpload) != row.fails || code != cli.ExitDone && code != cli.ExitUpload || strings.Contains(said, "FAIL") != row.fails {
				t.Errorf("exit %d", code)
			}
			for _, w := range row.words {
				if !strings.Contains(said, w) {
					t.Errorf("%q is missing", w)
				}
			}
			if t.Failed() {
				t.Log(said)
			}
		})
	}
}

func TestDoctorOnlyReads(t *testing.T) {
	server, code, said := doctorOf(t, s3test.Options{}, nil, "--no-write")
	for _, e := range server.Log() {
		if e.Mutates() {
			t.Errorf("%s %s", e.Operation, e.Key)
		}
	}
	if code != cli.ExitDone || !strings.Contains(said, "--no-write") {
		t.Errorf("exit %d:\n%s", code, said)
	}
}

// The doctor takes a destination or a configuration, and says so.
func TestDoctorOfAStoreOrOfADaemon(t *testing.T) {
	for _, row := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"doctor", "file://" + t.TempDir() + "/mirror"}, cli.ExitDone, "ok    conditional writes"},
		{[]string{"doctor", "--config", "x.yaml", "s3://bucket"}, cli.ExitUsage, "not both"},
		{[]string{"doctor", "s3://bucket", "s3://other"}, cli.ExitUsage, "want: publish doctor [DESTINATION]"},
		{[]string{"doctor", "s3://a--use1-az4--x-s3"}, cli.ExitUsage, "general purpose bucket"},
	} {
		code, stdout, stderr := execute(t, nil, row.args...)
		if code != row.code || !strings.Contains(stdout+stderr, row.words) {
			t.Errorf("%v: exit %d\n%s%s", row.args, code, stdout, stderr)
		}
	}
}

// The doctor warns 60 days before a key expires that clients are offered, as verify does: not before, and not of one that is retired.
func TestDoctorWarnsBeforeAKeyExpires(t *testing.T) {
	const day = 24 * time.Hour
	for _, fixture := range []string{"v3-signed", "v2-signed"} {
		dir := t.TempDir()
		to := "file://" + filepath.Join(dir, "cache")
		if code, _, stderr := execute(t, nil, clitest.Spack(t, fixture), to); code != cli.ExitDone {
			t.Fatal(stderr)
		}
		offer := func(name string, life time.Duration) string {
			k, err := sign.ReadKey(signtest.Private(t, name, life), nil, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			armored, err := k.Public().Armored()
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, name)
			clitest.Write(t, file, string(armored))
			if code, _, stderr := execute(t, nil, "keys", "add", "--public-key", file, to); code != cli.ExitDone {
				t.Fatal(stderr)
			}
			return string(k.Fingerprint())
		}
		soon, later, retired := offer("soon", 59*day), offer("later", 62*day), offer("retired", 59*day)
		if code, _, stderr := execute(t, nil, "keys", "retire", to, retired); code != cli.ExitDone {
			t.Fatal(stderr)
		}
		code, said, stderr := execute(t, nil, "doctor", "--no-write", to)
		if want := "note  key " + soon + ": it expires on "; code != cli.ExitDone || !strings.Contains(said, want) {
			t.Errorf("%s: exit %d, no %q in %s%s", fixture, code, want, said, stderr)
		}
		if strings.Contains(said, later) || strings.Contains(said, retired) {
			t.Errorf("%s: it warns of others: %s", fixture, said)
		}
	}
}

// Of a key with subkeys, what counts is the one that gpg signs with, as publish verify and publish keys list have it.
func TestDoctorJudgesTheSubkeyThatSigns(t *testing.T) {
	home, dir := gpgtest.Home(t), t.TempDir()
	gpg := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--no-tty", "--passphrase", "", "--armor"}, args...)...).Output()
		if err != nil {
			t.Fatal(args, err)
		}
		return string(out)
	}
	ago := func(d time.Duration) string { return time.Now().Add(-d).UTC().Format("20060102T150405") }
	to := "file://" + filepath.Join(dir, "cache")
	if code, _, stderr := execute(t, nil, clitest.Spack(t, "v3-unsigned"), to); code != cli.ExitDone {
		t.Fatal(stderr)
	}
	const day = 24 * time.Hour
	for name, row := range map[string]struct {
		subkeys []string // how long each lives, from a day to the next
		want    string
		expires time.Duration // as it is listed
	}{
		"soon":    {[]string{"30d"}, "it expires on ", 20 * day},
		"newer":   {[]string{"30d", "2y"}, "", 720 * day},
		"shorter": {[]string{"2y", "30d"}, "it expires on ", 21 * day},
		"expired": {[]string{"3d"}, "it expired on ", -7 * day},
	} {
		made := 10 * day
		gpg("--faked-system-time", ago(made+time.Hour), "--quick-generate-key", name, "ed25519", "cert", "never")
		f := ""
		for _, line := range strings.Split(gpg("--with-colons", "--list-keys", name), "\n") {
			if fields := strings.Split(line, ":"); fields[0] == "fpr" && f == "" {
				f = fields[9]
			}
		}
		for i, life := range row.subkeys {
			gpg("--faked-system-time", ago(made-time.Duration(i)*day), "--quick-add-key", f, "ed25519", "sign", life)
		}
		file := filepath.Join(dir, name)
		clitest.Write(t, file, gpg("--export", f))
		if code, _, stderr := execute(t, nil, "keys", "add", "--public-key", file, to); code != cli.ExitDone {
			t.Fatal(stderr)
		}
		code, said, stderr := execute(t, nil, "doctor", "--no-write", to)
		noted := "note  key " + f + ": "
		if code != cli.ExitDone || strings.Contains(said, noted) != (row.want != "") || row.want != "" && !strings.Contains(said, noted+row.want) {
			t.Errorf("%s: exit %d, want %q of %s in %s%s", name, code, row.want, f, said, stderr)
		}
		_, listed, _ := execute(t, nil, "keys", "list", to)
		if !regexp.MustCompile(f + " +0 +(expired )?" + time.Now().Add(row.expires).UTC().Format("2006-01")).MatchString(listed) {
			t.Errorf("%s: listed is %s", name, listed)
		}
	}
}
