package kms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/key/gpgtest"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms/kmstest"
)

// config leads to a stand-in.
func config(s *kmstest.Server) kms.Config {
	return func(context.Context) (aws.Config, error) {
		return aws.Config{
			Region: kmstest.Region, BaseEndpoint: &s.URL, HTTPClient: http.DefaultClient, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
			Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "a", SecretAccessKey: "s"}, nil
			}),
		}, nil
	}
}

func open(t *testing.T, s *kmstest.Server, name string) *kms.Key {
	t.Helper()
	n, err := kms.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return kms.Open(n, config(s))
}

func issue(ctx context.Context, k *kms.Key, expires time.Time) ([]byte, error) {
	public, err := k.Public(ctx)
	if err != nil {
		return nil, err
	}
	c := sign.Certificate{Key: public.Key, Created: public.Created, Name: "Cache releases", Email: "cache@example.org", Expires: expires}
	return c.Issue(ctx, k, time.Now())
}

// release is a key of the stand-in that signs, and its public key.
func release(t *testing.T, s *kmstest.Server, spec string) (*sign.Key, []byte, *kmstest.Key) {
	t.Helper()
	theirs := s.Add(t, spec, "release")
	k := open(t, s, "awskms:///alias/release")
	armored, err := issue(t.Context(), k, time.Now().AddDate(2, 0, 0))
	if err != nil {
		t.Fatal(spec, err)
	}
	signing, err := sign.NewRemote(armored, k, time.Now())
	if err != nil {
		t.Fatal(spec, err)
	}
	return signing, armored, theirs
}

func gpg(t *testing.T, home string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.Command("gpg", append([]string{"--homedir", home, "--no-options", "--batch", "--no-tty"}, args...)...).CombinedOutput()
	return string(out), err
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const text = "{\n\"a\": 1\n}"

// gpg imports the public key of a key of a KMS, and accepts what it signs, by its exit status.
func TestGPGAcceptsWhatAKMSSigns(t *testing.T) {
	for _, spec := range []string{"RSA_4096", "RSA_3072", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"} {
		t.Run(spec, func(t *testing.T) {
			s := kmstest.Start(t)
			k, armored, _ := release(t, s, spec)
			home := gpgtest.Home(t)
			if out, err := gpg(t, home, "--import", write(t, filepath.Join(home, "key"), armored)); err != nil || !strings.Contains(out, "imported: 1") || strings.Contains(out, "bad signature") {
				t.Fatalf("%v: %s", err, out)
			}
			document, err := k.Document(t.Context(), []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := gpg(t, home, "--verify", write(t, filepath.Join(home, "document"), document)); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			content := bytes.Repeat([]byte("release\r\n \x00"), 1000)
			signature, err := k.Detached(t.Context(), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
			if err != nil {
				t.Fatal(err)
			}
			file := write(t, filepath.Join(home, "content"), content)
			if out, err := gpg(t, home, "--verify", write(t, file+".asc", signature), file); err != nil {
				t.Errorf("%v: %s", err, out)
			}
			listing, err := gpg(t, home, "--with-colons", "--list-keys")
			if err != nil || !strings.Contains(listing, "Cache releases <cache@example.org>") || !strings.Contains(listing, ":scSC:") {
				t.Errorf("%v: %s", err, listing)
			}
			if n := s.Asked("Sign"); n != 3 {
				t.Errorf("%d signatures, want one for the public key, the document and the file", n)
			}
		})
	}
}

// A public key that is made again, to expire later, has the same fingerprint.
func TestAPublicKeyIsMadeAgain(t *testing.T) {
	s := kmstest.Start(t)
	s.Add(t, "RSA_2048", "release")
	k := open(t, s, "awskms:///alias/release")
	var all []*key.Public
	for _, expires := range []time.Time{time.Now().AddDate(1, 0, 0), time.Now().AddDate(2, 0, 0), {}} {
		armored, err := issue(t.Context(), k, expires)
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.ReadPublic(armored)
		if err != nil {
			t.Fatal(err)
		}
		if off := public.Expires().Sub(expires).Abs(); expires.IsZero() != public.Expires().IsZero() || off > time.Second {
			t.Errorf("it expires at %s, want %s", public.Expires(), expires)
		}
		all = append(all, public)
	}
	if all[0].Fingerprint() != all[1].Fingerprint() || all[1].Fingerprint() != all[2].Fingerprint() {
		t.Error("the fingerprints differ")
	}
}

// Each reason why a key of a KMS cannot sign has its own error, and nothing is returned.
func TestKeysOfAKMSThatCannotSign(t *testing.T) {
	s := kmstest.Start(t)
	k, _, theirs := release(t, s, "RSA_2048")
	other := s.Add(t, "RSA_2048", "other")
	curve := s.Add(t, "ECC_NIST_P256", "curve")
	for name, row := range map[string]struct {
		before func()
		is     error
		want   string
	}{
		"denied":          {func() { s.Deny("kms:Sign") }, mirror.ErrDenied, "kms:Sign on awskms:///alias/release"},
		"disabled":        {func() { s.Change(func() { theirs.State = "Disabled" }) }, kms.ErrKey, "it is disabled"},
		"deleted soon":    {func() { s.Change(func() { theirs.State = "PendingDeletion" }) }, kms.ErrKey, "pending deletion"},
		"another usage":   {func() { s.Change(func() { theirs.Usage = "ENCRYPT_DECRYPT" }) }, kms.ErrKey, "not meant to sign"},
		"gone":            {func() { s.Point("release", nil) }, kms.ErrKey, "no such key in this region and account"},
		"another key":     {func() { s.Point("release", other) }, sign.ErrOtherKey, "another key"},
		"another curve":   {func() { s.Point("release", curve) }, kms.ErrKey, "not by this algorithm"},
		"hashed twice":    {func() { s.Change(func() { theirs.Again = true }) }, sign.ErrOtherKey, "another key"},
		"throttled":       {func() { s.Fail(kmstest.Fault{Status: 400, Code: "ThrottlingException"}) }, nil, "ThrottlingException"},
		"broken":          {func() { s.Fail(kmstest.Fault{Status: 500, Code: "KMSInternalException"}) }, nil, "KMSInternalException"},
		"expired session": {func() { s.Fail(kmstest.Fault{Status: 400, Code: "ExpiredTokenException"}) }, mirror.ErrCredentials, "ExpiredTokenException"},
		"unknown session": {func() { s.Fail(kmstest.Fault{Status: 400, Code: "UnrecognizedClientException"}) }, mirror.ErrCredentials, "UnrecognizedClientException"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				s.Change(func() { theirs.State, theirs.Usage, theirs.Again = "Enabled", "SIGN_VERIFY", false })
				s.Point("release", theirs)
				s.Deny()
			}()
			row.before()
			document, err := k.Document(t.Context(), []byte(text))
			if document != nil || err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
	if _, err := k.Document(t.Context(), []byte(text)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := k.Document(ctx, []byte(text)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Of keys that cannot make signatures for gpg, no public key is made.
func TestKeysOfAKMSWithoutAPublicKey(t *testing.T) {
	for name, row := range map[string]struct {
		spec   string
		before func(*kmstest.Server, *kmstest.Key)
		is     error
		want   string
	}{
		"secp256k1":   {"ECC_SECG_P256K1", func(_ *kmstest.Server, k *kmstest.Key) {}, kms.ErrKey, "no signatures that gpg can check"},
		"SM2":         {"SM2", func(_ *kmstest.Server, k *kmstest.Key) {}, kms.ErrKey, "no signatures that gpg can check"},
		"ed25519":     {"ECC_NIST_EDWARDS25519", func(_ *kmstest.Server, k *kmstest.Key) {}, kms.ErrKey, "no signatures that gpg can check"},
		"ML-DSA":      {"ML_DSA_65", func(_ *kmstest.Server, k *kmstest.Key) {}, kms.ErrKey, "no signatures that gpg can check"},
		"encryption":  {"RSA_2048", func(_ *kmstest.Server, k *kmstest.Key) { k.Usage = "ENCRYPT_DECRYPT" }, kms.ErrKey, "meant for ENCRYPT_DECRYPT"},
		"symmetric":   {"SYMMETRIC_DEFAULT", func(_ *kmstest.Server, k *kmstest.Key) { k.Usage = "ENCRYPT_DECRYPT" }, kms.ErrKey, "meant for ENCRYPT_DECRYPT"},
		"disabled":    {"RSA_2048", func(_ *kmstest.Server, k *kmstest.Key) { k.State = "Disabled" }, kms.ErrKey, "Disabled"},
		"no describe": {"RSA_2048", func(s *kmstest.Server, _ *kmstest.Key) { s.Deny("kms:DescribeKey") }, mirror.ErrDenied, "kms:DescribeKey"},
		"no public":   {"RSA_2048", func(s *kmstest.Server, _ *kmstest.Key) { s.Deny("kms:GetPublicKey") }, mirror.ErrDenied, "kms:GetPublicKey"},
		"no sign":     {"RSA_2048", func(s *kmstest.Server, _ *kmstest.Key) { s.Deny("kms:Sign") }, mirror.ErrDenied, "kms:Sign"},
		"twice":       {"RSA_2048", func(_ *kmstest.Server, k *kmstest.Key) { k.Again = true }, nil, "not good"},
		"tomorrow":    {"RSA_2048", func(_ *kmstest.Server, k *kmstest.Key) { k.Created = time.Now().Add(24 * time.Hour) }, nil, "still to come"},
	} {
		t.Run(name, func(t *testing.T) {
			s := kmstest.Start(t)
			row.before(s, s.Add(t, row.spec, "release"))
			armored, err := issue(t.Context(), open(t, s, "awskms:///alias/release"), time.Time{})
			if armored != nil || err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

// What a public key is to hold is checked before anything is signed.
func TestCertificatesThatCannotBeMade(t *testing.T) {
	s := kmstest.Start(t)
	s.Add(t, "RSA_2048", "release")
	k := open(t, s, "awskms:///alias/release")
	public, err := k.Public(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good := sign.Certificate{Key: public.Key, Created: public.Created, Name: "Cache", Email: "cache@example.org"}
	for want, change := range map[string]func(*sign.Certificate){
		`name ""`:            func(c *sign.Certificate) { c.Name = "" },
		`name "a (b)"`:       func(c *sign.Certificate) { c.Name = "a (b)" },
		`name "a\nb"`:        func(c *sign.Certificate) { c.Name = "a\nb" },
		`name "\xff"`:        func(c *sign.Certificate) { c.Name = "\xff" },
		`email "x"`:          func(c *sign.Certificate) { c.Email = "x" },
		`email "a b@c"`:      func(c *sign.Certificate) { c.Email = "a b@c" },
		`email "<a@b>"`:      func(c *sign.Certificate) { c.Email = "<a@b>" },
		"would have expired": func(c *sign.Certificate) { c.Expires = time.Now().Add(-time.Minute) },
		"136 years":          func(c *sign.Certificate) { c.Expires = time.Now().AddDate(137, 0, 0) },
		"of the type":        func(c *sign.Certificate) { c.Key = "x" },
	} {
		c := good
		change(&c)
		if _, err := c.Issue(t.Context(), k, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if n := s.Asked("Sign"); n != 0 {
		t.Errorf("%d signatures", n)
	}
	good.Email = ""
	if _, err := good.Issue(t.Context(), k, time.Now()); err != nil {
		t.Error(err)
	}
}

// Names are those of KMS in the form of cosign. Names that are nearly right say what is meant.
func TestNamesOfKeys(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	for name, want := range map[string]kms.Name{
		"awskms:///alias/release":                                               {ID: "alias/release"},
		"awskms:///alias/team/release_1-a":                                      {ID: "alias/team/release_1-a"},
		"awskms:///" + id:                                                       {ID: id},
		"awskms:///mrk-1234abcd12ab34cd56ef1234567890ab":                        {ID: "mrk-1234abcd12ab34cd56ef1234567890ab"},
		"awskms:///arn:aws:kms:eu-west-1:123456789012:key/" + id:                {"arn:aws:kms:eu-west-1:123456789012:key/" + id, "eu-west-1"},
		"awskms:///arn:aws-cn:kms:cn-north-1:123456789012:alias/release":        {"arn:aws-cn:kms:cn-north-1:123456789012:alias/release", "cn-north-1"},
		"awskms:///arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/release": {"arn:aws-us-gov:kms:us-gov-west-1:123456789012:alias/release", "us-gov-west-1"},
	} {
		if got, err := kms.Parse(name); err != nil || got != want || !kms.Named(name) || got.String() != name {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{
		"awskms://alias/release":                           "did you mean awskms:///alias/release?",
		"awskms:alias/release":                             "did you mean awskms:///alias/release?",
		"kms:alias/release":                                "did you mean awskms:///alias/release?",
		"AWSKMS:///alias/release":                          "did you mean awskms:///alias/release?",
		"aws-kms:///alias/release":                         "did you mean awskms:///alias/release?",
		"arn:aws:kms:eu-west-1:123456789012:alias/release": "did you mean awskms:///arn:aws:kms:eu-west-1:123456789012:alias/release?",
		"awskms://localhost:4566/alias/release":            "AWS_ENDPOINT_URL_KMS",
		"awskms:///":                                       "want awskms:///alias/NAME",
		"awskms:///release":                                "want awskms:///alias/NAME",
		"awskms:///alias/":                                 "want awskms:///alias/NAME",
		"awskms:///alias/a b":                              "want awskms:///alias/NAME",
		"awskms:///alias/aws/s3":                           "encrypt only",
		"awskms:///arn:aws:s3:::bucket":                    "want awskms:///alias/NAME",
		"awskms:///arn:aws:kms:eu-west-1:1:key/" + id:      "want awskms:///alias/NAME",
		"awskms:///../" + id:                               "want awskms:///alias/NAME",
		"kms:":                                             "want awskms:///alias/NAME",
	} {
		if got, err := kms.Parse(name); err == nil || !strings.Contains(err.Error(), want) || !kms.Named(name) {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"key.asc", "./kms/key.asc", "gpg:" + id, "/run/kms:x", ""} {
		if kms.Named(name) {
			t.Errorf("%q is taken for a key of a KMS", name)
		}
	}
}

// Without a region, and without credentials, nothing is asked.
func TestNothingIsAskedWithoutARegion(t *testing.T) {
	s := kmstest.Start(t)
	s.Add(t, "RSA_2048", "release")
	n, err := kms.Parse("awskms:///alias/release")
	if err != nil {
		t.Fatal(err)
	}
	digest := sign.Digest{Algorithm: sign.RSA, Hash: 7, Sum: make([]byte, 64)}
	nowhere := func(ctx context.Context) (aws.Config, error) {
		cfg, err := config(s)(ctx)
		cfg.Region = ""
		return cfg, err
	}
	if _, err := kms.Open(n, nowhere).SignDigest(t.Context(), digest); !errors.Is(err, kms.ErrNoRegion) {
		t.Error(err)
	}
	nobody := func(ctx context.Context) (aws.Config, error) {
		cfg, err := config(s)(ctx)
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, fmt.Errorf("there are none")
		})
		return cfg, err
	}
	if _, err := kms.Open(n, nobody).SignDigest(t.Context(), digest); !errors.Is(err, mirror.ErrCredentials) {
		t.Error(err)
	}
	if n := s.Asked("Sign"); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
