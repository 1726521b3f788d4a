package install

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign/signtest"
	"github.com/vantagecompute/slurm-factory-publish/test/s3server"
)

// blocks are the scripts of a page that are marked as run, by who runs them.
func blocks(t *testing.T, section string) [][2]string {
	t.Helper()
	_, text, ok := strings.Cut(read(t, filepath.Join(root, "docs/daemon.md")), "\n"+section+"\n")
	if !ok {
		t.Fatalf("no section %s", section)
	}
	text, _, _ = strings.Cut(text, "\n"+strings.Repeat("#", strings.Count(section, "#"))+" ")
	var all [][2]string
	for _, m := range regexp.MustCompile("(?s)<!-- this runs in a test(?:, as (\\w+))? -->\n```sh\n(.*?)```").FindAllStringSubmatch(text, -1) {
		user := "root"
		if m[1] != "" {
			user = m[1]
		}
		all = append(all, [2]string{user, m[2]})
	}
	return all
}

// spack is what a builder has in the machine: a command that pushes what Spack itself has written elsewhere.
const spack = `#!/bin/sh
case "$1 $2" in
"mirror add") ;;
"buildcache push") cp -r /opt/mirror/. /srv/buildcache ;;
*) exit 2 ;;
esac
`

// host is a machine with a user who builds, Spack, and an S3 that takes its credentials, as docs/daemon.md
// expects it, and the package in root's directory.
func host(t *testing.T) (*machine, *s3server.Server) {
	t.Helper()
	name := deb(t, runtime.GOARCH)
	server := s3server.Start(t)
	if err := server.CreateBucket("my-cache"); err != nil {
		t.Fatal(err)
	}
	m := boot(t)
	m.run("useradd", "-m", "spack")
	m.write("/usr/bin/spack", spack, 0o755)
	m.write("/root/"+filepath.Base(name), read(t, name), 0o644)
	if err := os.CopyFS(filepath.Join(m.dir, "opt/mirror"), os.DirFS("../testdata/v3-signed")); err != nil {
		t.Fatal(err)
	}
	variables := make(map[string]string)
	for _, v := range server.Environ() {
		key, value, _ := strings.Cut(v, "=")
		variables[key] = value
	}
	m.write("/root/.aws/credentials", "[default]\naws_access_key_id = "+variables["AWS_ACCESS_KEY_ID"]+"\naws_secret_access_key = "+variables["AWS_SECRET_ACCESS_KEY"]+"\n", 0o600)
	// Where S3 is would be known to AWS's SDK.
	m.write("/root/.aws/config", "[default]\nendpoint_url = "+server.Endpoint+"\nregion = us-east-1\n", 0o600)
	m.write("/etc/default/slurm-factory-publish", "AWS_ENDPOINT_URL="+server.Endpoint+"\nAWS_REGION=us-east-1\n", 0o644)
	return m, server
}

// A build host from its first day to its last, under systemd: what docs/daemon.md shows works there as it stands.
func TestHost(t *testing.T) {
	t.Parallel()
	m, server := host(t)
	for _, s := range []struct {
		name string
		do   func(*testing.T, *machine)
	}{
		{"from an empty host to the first package", firstPackage},
		{"the daemon can do no more than it needs", confined},
		{"strangers are refused", strangers},
		{"more is given to it by a drop-in, and loaded", givenMore},
		{"it signs with credentials of systemd, and with a key that gpg has", signs},
		{"it is started anew, and who asks waits", killed},
		{"one that says nothing is ended, and tells what it was doing", silent},
		{"an upgrade restarts it", upgraded},
		{"an indexer runs beside it", indexing},
		{"it stops", stopped},
		{"removed, and purged", purged},
	} {
		if !t.Run(s.name, func(t *testing.T) {
			m.t = t
			s.do(t, m)
		}) {
			break
		}
	}
	m.t = t
	if _, err := server.Fetch("my-cache", "noble/spack/v3/manifests/index/index.manifest.json"); err != nil {
		t.Error(err)
	}
}

func firstPackage(t *testing.T, m *machine) {
	scripts := blocks(t, "## From an empty build host to the first published package")
	if len(scripts) != 6 {
		t.Fatalf("%d scripts", len(scripts))
	}
	for i, s := range scripts {
		out := m.sh(s[0], "cd ~\n"+s[1])
		switch i {
		case 0: // installed
			for _, u := range []string{service, socket, indexer} {
				if m.property(u, "ActiveState") != "inactive" || m.property(u, "UnitFileState") != "disabled" {
					t.Errorf("%s is not left alone by an installation", u)
				}
			}
			if out := m.run("stat", "-c", "%A %U %G", "/etc/slurm-factory-publish"); out != "drwxr-x--- root slurm-factory-publish\n" {
				t.Error(out)
			}
		case len(scripts) - 1: // pushed
			if !strings.Contains(out, "11 packages: s3://my-cache/noble/spack: published: ") {
				t.Errorf("%s", out)
			}
		}
	}
	out := m.sh("root", "AWS_SHARED_CREDENTIALS_FILE=/etc/slurm-factory-publish/aws publish verify s3://my-cache/noble/spack")
	if !strings.Contains(out, "11 packages") {
		t.Error(out)
	}
}

func confined(t *testing.T, m *machine) {
	pid := m.property(service, "MainPID")
	status := m.run("cat", "/proc/"+pid+"/status")
	for _, line := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, "\n"+line+"\n") {
			t.Errorf("not %q:\n%s", line, status)
		}
	}
	if m.property(service, "NRestarts") != "0" || m.property(service, "StatusErrno") != "0" {
		t.Error(m.run("systemctl", "show", service))
	}
	for file, want := range map[string]string{
		"/run/slurm-factory-publish/publish.sock":  "srw-rw---- slurm-factory-publish slurm-factory-publish\n",
		"/run/slurm-factory-publish":               "drwxr-xr-x slurm-factory-publish slurm-factory-publish\n",
		"/var/lib/slurm-factory-publish":           "drwxr-x--- slurm-factory-publish slurm-factory-publish\n",
		"/var/lib/slurm-factory-publish/queue.db":  "-rw------- slurm-factory-publish slurm-factory-publish\n",
		"/etc/slurm-factory-publish/aws":           "-rw------- root root\n",
		"/proc/" + pid + "/root/var/lib/dpkg/lock": "",
	} {
		if out := m.run("stat", "-c", "%A %U %G", file); want != "" && out != want {
			t.Errorf("%s: %s", file, out)
		}
	}
	// As it sees the machine, and as systemd's view of it would let it write.
	inside := func(script string) error {
		_, err := m.try("nsenter", "-t", pid, "-m", "sh", "-c", script)
		return err
	}
	for script, may := range map[string]bool{
		"touch /srv/buildcache/x": false, "touch /etc/x": false, "touch /usr/x": false, "ls /home/spack": false, "ls /root/.aws": false,
		"touch /var/lib/slurm-factory-publish/x && rm /var/lib/slurm-factory-publish/x": true, "cat /srv/buildcache/v3/layout.json": true,
	} {
		if err := inside(script); (err == nil) != may {
			t.Errorf("%s: %v", script, err)
		}
	}
}

func strangers(t *testing.T, m *machine) {
	m.run("useradd", "-m", "stranger")
	if out, err := m.try("runuser", "-u", "stranger", "--", "publish", "status"); err == nil || !strings.Contains(out, "permission denied") {
		t.Errorf("%v: %s", err, out)
	}
}

func givenMore(t *testing.T, m *machine) {
	scripts := blocks(t, "### What the service may do")
	if len(scripts) != 1 {
		t.Fatalf("%d scripts", len(scripts))
	}
	m.sh(scripts[0][0], scripts[0][1])
	pid := m.property(service, "MainPID")
	m.sh("root", `cat >>/etc/slurm-factory-publish/config.yaml <<END
  - source: /home/spack/builds
    destination: file:///srv/mirror
END
chmod 755 /home/spack
install -d -o spack /home/spack/builds
cp -r /opt/mirror/. /home/spack/builds
systemctl reload slurm-factory-publish`)
	m.until("the mirror is there", func() bool {
		out, err := m.try("runuser", "-u", "spack", "--", "publish", "push", "--wait", "/home/spack/builds")
		return err == nil && strings.Contains(out, "11 packages: file:///srv/mirror: published: ")
	})
	// A configuration that is wrong is an error in the journal, and changes nothing.
	m.sh("root", "cp /etc/slurm-factory-publish/config.yaml /tmp/right; echo nonsense: 1 >>/etc/slurm-factory-publish/config.yaml; systemctl reload "+service)
	m.until("it is said that it is wrong", func() bool {
		out, err := m.try("journalctl", "-u", service, "-p", "err", "-o", "cat", "--no-pager")
		return err == nil && strings.HasPrefix(out, "{") && strings.Contains(out, "the configuration was not loaded")
	})
	m.sh("root", "cp /tmp/right /etc/slurm-factory-publish/config.yaml; systemctl reload "+service)
	if m.property(service, "MainPID") != pid {
		t.Error("loading the configuration has restarted it")
	}
	if out := m.sh("stranger", "publish verify file:///srv/mirror"); !strings.Contains(out, "11 packages") {
		t.Error(out)
	}
}

// signs lets the daemon sign as docs/signing.md shows it: the key and its passphrase are credentials that only the service can read.
func signs(t *testing.T, m *machine) {
	const passphrase = "correct-horse-CANARY-staple"
	private, public := signtest.Protected(t, passphrase, "ed25519")
	m.write("/root/signing-key.asc", private, 0o600)
	m.write("/root/passphrase", passphrase+"\n", 0o600)
	m.write("/root/release.pub", public, 0o644)
	_, page, ok := strings.Cut(read(t, filepath.Join(root, "docs/signing.md")), "## On a build host\n")
	dropIn := regexp.MustCompile("(?s)```ini\n(.*?)```").FindStringSubmatch(page)
	keys := regexp.MustCompile(`(?m)^ +(sign_key|sign_passphrase_file): \S+$`).FindAllString(page, 2)
	if !ok || dropIn == nil || len(keys) != 2 {
		t.Fatalf("%q, %q", dropIn, keys)
	}
	m.write("/etc/systemd/system/slurm-factory-publish.service.d/signing.conf", dropIn[1], 0o644)
	if err := os.CopyFS(filepath.Join(m.dir, "srv/unsigned"), os.DirFS("../testdata/v3-unsigned")); err != nil {
		t.Fatal(err)
	}
	out := m.sh("root", `cd ~
systemd-creds encrypt --name=signing-key signing-key.asc /etc/slurm-factory-publish/signing-key.cred
systemd-creds encrypt --name=signing-passphrase passphrase /etc/slurm-factory-publish/signing-passphrase.cred
export GNUPGHOME=/var/lib/slurm-factory-publish/gnupg
install -d -m 700 $GNUPGHOME
gpg --batch --quiet --passphrase "" --quick-generate-key "build host <host@example.invalid>" ed25519 sign never
gpg --armor --export >host.pub
gpgconf --kill all
chown -R slurm-factory-publish: $GNUPGHOME
echo "GNUPGHOME=$GNUPGHOME" >>/etc/default/slurm-factory-publish
fingerprint=$(gpg --with-colons --list-keys 2>&1 | awk -F: '$1 == "fpr" { print $10; exit }')
cat >>/etc/slurm-factory-publish/config.yaml <<END
  - source: /srv/unsigned
    destination: file:///srv/mirror/signed
`+strings.Join(keys, "\n")+`
  - source: /srv/unsigned
    destination: file:///srv/mirror/by-gpg
    sign_key: gpg:$fingerprint
END
systemctl daemon-reload
systemctl restart slurm-factory-publish`)
	for mirror, key := range map[string]string{"signed": "release.pub", "by-gpg": "host.pub"} {
		m.until(mirror+" is there", func() bool {
			said, err := m.try("publish", "verify", "--require-signed", "--trusted-keys", "/root/"+key, "file:///srv/mirror/"+mirror)
			return err == nil && strings.Contains(said, "11 packages")
		})
	}
	pid := m.property(service, "MainPID")
	out += m.run("journalctl", "--no-pager", "-u", service) + m.run("systemctl", "show", service) + m.run("cat", "/proc/"+pid+"/cmdline", "/proc/"+pid+"/environ") +
		m.sh("root", "cat /var/lib/slurm-factory-publish/queue.db* /etc/slurm-factory-publish/*")
	signtest.WantNoSecret(t, passphrase, private, "the service", out)
	if limits := m.run("cat", "/proc/"+pid+"/limits"); !regexp.MustCompile(`Max core file size\s+0\s+0\s`).MatchString(limits) {
		t.Errorf("the daemon may write a core: %s", limits)
	}
}

func killed(t *testing.T, m *machine) {
	m.write("/etc/systemd/system/slurm-factory-publish.service.d/soon.conf", "[Service]\nRestartSec=1s\n", 0o644)
	m.run("systemctl", "daemon-reload")
	m.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", service)
	m.sh("spack", "publish push --wait /srv/buildcache")
	if n := m.property(service, "NRestarts"); n != "1" {
		t.Errorf("%s restarts", n)
	}
}

func silent(t *testing.T, m *machine) {
	dropIn := "/etc/systemd/system/slurm-factory-publish.service.d/watchdog.conf"
	m.write(dropIn, "[Service]\nWatchdogSec=4s\n", 0o644)
	m.sh("root", "systemctl daemon-reload; systemctl restart "+service)
	m.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", service)
	m.sh("spack", "publish push --wait /srv/buildcache") // of the next one
	if n := m.property(service, "NRestarts"); n != "1" {
		t.Errorf("%s restarts", n)
	}
	for _, said := range []string{"Watchdog timeout", "SIGABRT: abort", "daemon.(*Daemon).Run"} {
		if out := m.run("journalctl", "--no-pager", "-u", service); !strings.Contains(out, said) {
			t.Errorf("no %q in the journal", said)
		}
	}
	m.sh("root", "rm "+dropIn+"; systemctl daemon-reload; systemctl restart "+service)
}

func upgraded(t *testing.T, m *machine) {
	pid := m.property(service, "MainPID")
	m.sh("root", "dpkg -i ~/slurm-factory-publish_*.deb")
	if now := m.property(service, "MainPID"); now == pid || now == "0" {
		t.Errorf("the process was %s and is %s", pid, now)
	}
	if s := m.property(indexer, "ActiveState"); s != "inactive" {
		t.Errorf("the indexer is %s", s)
	}
	m.sh("spack", "publish status")
}

func indexing(t *testing.T, m *machine) {
	page := read(t, filepath.Join(root, "docs/indexer.md"))
	config := regexp.MustCompile("(?s)```yaml\n(mode: indexer.*?)```").FindStringSubmatch(page)
	if config == nil {
		t.Fatal("docs/indexer.md shows no configuration")
	}
	// The network is shared, and with it the ports.
	m.write("/etc/slurm-factory-publish/indexer.yaml", strings.Replace(config[1], "listen: 127.0.0.1:9465\n", "", 1), 0o644)
	m.sh("root", `cp /etc/default/slurm-factory-publish /etc/default/slurm-factory-publish-indexer
install -m 644 -D -t /etc/systemd/system/slurm-factory-publish-indexer.service.d /usr/share/slurm-factory-publish/credentials.conf
systemctl daemon-reload
systemctl start slurm-factory-publish-indexer`)
	if s := m.property(indexer, "ActiveState"); s != "active" {
		t.Error(s)
	}
	m.run("publish", "status", "--socket", "/run/slurm-factory-publish-indexer/publish.sock")
}

func stopped(t *testing.T, m *machine) {
	m.run("systemctl", "stop", socket, service, indexer)
	for _, u := range []string{socket, service, indexer} {
		if m.property(u, "ActiveState") != "inactive" || m.property(u, "Result") != "success" {
			t.Errorf("%s: %s, %s", u, m.property(u, "ActiveState"), m.property(u, "Result"))
		}
	}
	if code := m.property(service, "ExecMainStatus"); code != "0" {
		t.Errorf("exit code %s", code)
	}
	m.run("systemctl", "start", service)
}

func purged(t *testing.T, m *machine) {
	m.run("apt-get", "remove", "-y", "slurm-factory-publish")
	if s := m.property(service, "ActiveState"); s != "inactive" || m.has("usr/bin/publish") {
		t.Errorf("the service is %s", s)
	}
	if !m.has("var/lib/slurm-factory-publish/queue.db") || !m.has("etc/slurm-factory-publish/config.yaml") {
		t.Error("queue or configuration were removed")
	}
	m.run("apt-get", "purge", "-y", "slurm-factory-publish")
	for name, stays := range map[string]bool{
		"var/lib/slurm-factory-publish":                                       false,
		"etc/slurm-factory-publish/config.yaml":                               false,
		"etc/slurm-factory-publish/aws":                                       true,
		"etc/systemd/system/multi-user.target.wants/" + service:               false,
		"etc/systemd/system/sockets.target.wants/" + socket:                   false,
		"etc/systemd/system/slurm-factory-publish.service.d/credentials.conf": true,
	} {
		if m.has(name) != stays {
			t.Errorf("%s: %t", name, m.has(name))
		}
	}
}
