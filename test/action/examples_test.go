package action

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/rhysd/actionlint"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/test/program"
)

// exampleBucket is the one that the documentation publishes to.
const exampleBucket = "slurm-factory-spack-buildcache-4b670"

// examples are the steps of a page that use the action or its image, by the names of their workflows.
func examples(t *testing.T, page string) map[string][]*actionlint.ExecAction {
	t.Helper()
	source, err := program.Source()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(source, page))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]*actionlint.ExecAction)
	for _, m := range regexp.MustCompile("(?s)\n```yaml\n(name: .*?)```").FindAllSubmatch(data, -1) {
		w, problems := actionlint.Parse(m[1])
		if w == nil {
			t.Fatalf("%s: %v", page, problems)
		}
		for _, job := range w.Jobs {
			for _, s := range job.Steps {
				if e, ok := s.Exec.(*actionlint.ExecAction); ok && strings.Contains(e.Uses.Value, "vantagecompute/slurm-factory-publish") {
					all[w.Name.Value] = append(all[w.Name.Value], e)
				}
			}
		}
	}
	return all
}

// What the documentation shows is run as it stands there, with the variables of the world.
func TestExamples(t *testing.T) {
	w := newWorld(t)
	if err := w.s3.CreateBucket(exampleBucket); err != nil {
		t.Fatal(err)
	}
	w.serve(exampleBucket)
	values := map[string]string{
		"vars.AWS_ROLE_ARN": w.sts.Role(), "vars.AWS_PLAN_ROLE_ARN": w.sts.Role(), "vars.AWS_ACCOUNT_ID": "123456789012",
		"secrets.SIGNING_KEY": string(signtest.Private(t, "release", 0)), "secrets.SIGNING_PASSPHRASE": "",
		"vars.CLOUDFRONT_DISTRIBUTION_ID": distribution, "vars.CACHE_URL": w.site,
		"matrix.toolchain": "jammy", "matrix.os": "ubuntu22.04", "matrix.slurm": "25.11", "matrix.arch": "amd64", "matrix.compiler": "13.4.0",
	}
	expression := regexp.MustCompile(`\$\{\{ ([\w.]+) \}\}`)
	fill := func(s string) string {
		return expression.ReplaceAllStringFunc(s, func(e string) string {
			value, ok := values[expression.FindStringSubmatch(e)[1]]
			if !ok {
				t.Fatalf("no value for %s", e)
			}
			return value
		})
	}
	j := w.job(t)
	j.copyIn(t, "../testdata/v3-signed", "buildcache")
	signedTarball(t, j)
	j.own(t, j.workspace)

	shown := examples(t, "docs/workflows.md")
	for _, c := range []struct {
		workflow string
		results  []string
	}{
		{"plan", []string{"dry-run"}},
		{"build and publish slurm", []string{"published", "published"}},
		{"build and publish slurm", []string{"unchanged", "unchanged"}},
		{"compilers", []string{"published"}},
		{"verify", []string{""}},
	} {
		steps := shown[c.workflow]
		if len(steps) != len(c.results) {
			t.Fatalf("%s: %d steps", c.workflow, len(steps))
		}
		for i, e := range steps {
			with := make(map[string]string)
			for name, in := range e.Inputs {
				with[name] = fill(in.Value.Value)
			}
			if e.Args != nil {
				with["args"] = fill(e.Args.Value)
			}
			o := j.run(t, with)
			if o.code != 0 || o.outputs["result"] != c.results[i] {
				t.Errorf("%s: %v", c.workflow, o)
			}
		}
	}
	for _, name := range []string{
		"jammy/spack/v3/manifests/index/index.manifest.json", "compilers/13.4.0/buildcache/v3/manifests/index/index.manifest.json",
		"jammy/25.11/amd64/slurm-25.11-jammy-amd64-software.tar.gz", "jammy/25.11/amd64/slurm-25.11-jammy-amd64-software.tar.gz.asc",
	} {
		if _, err := os.Stat(filepath.Join(w.s3.Path(exampleBucket), name)); err != nil {
			t.Error(err)
		}
	}
	if refused := w.sts.Refusals(); len(refused) > 0 {
		t.Errorf("refused: %v", refused)
	}
}

// signedTarball puts a tarball and its signature below dist, and beside the key that signed the
// packages the one that signed it.
func signedTarball(t *testing.T, j *job) {
	t.Helper()
	signer, err := openpgp.NewEntity("slurm-factory", "test", "test@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var public, signature bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.Serialize(w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	tarball := []byte("a tarball")
	if err := openpgp.ArmoredDetachSign(&signature, signer, bytes.NewReader(tarball), nil); err != nil {
		t.Fatal(err)
	}
	keys := public.Bytes()
	keys = append(keys, '\n')
	for _, name := range []string{"one.pub", "two.pub"} {
		key, err := os.ReadFile(filepath.Join("../testdata/keys", name))
		if err != nil {
			t.Fatal(err)
		}
		keys = append(append(keys, key...), '\n')
	}
	const name = "dist/slurm-25.11-jammy-amd64-software.tar.gz"
	for name, data := range map[string][]byte{name: tarball, name + ".asc": signature.Bytes(), "keys/slurm-factory.asc": keys} {
		name = filepath.Join(j.workspace, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
