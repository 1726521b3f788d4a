package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vantagecompute/slurm-factory-publish/test/faultproxy"
	"github.com/vantagecompute/slurm-factory-publish/test/reader"
	"github.com/vantagecompute/slurm-factory-publish/test/spackmirror"
)

// commands are what scripts have beside those of testscript. Where a command takes a
// layout and a directory it reads the mirror there as a Spack client does.
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"ends":      ends,
	"finds":     finds,
	"same":      same,
	"union":     union,
	"requests":  requests,
	"fault":     fault,
	"leftovers": leftovers,
	"replace":   replace,
	"fifo":      fifo,
	"tmpfs":     tmpfs,
	"generate":  generate,
	"snapshot":  snapshot,
	"count":     count,
	"biggest":   biggest,
	"header":    header,
	"rename":    rename,
	"humble":    humble,
	"fetch":     fetch,
	"told":      told,
	"stopped":   stopped,
	"forgotten": forgotten,
	"web":       webServer,
}

// ends CODE COMMAND... runs a command, which must end with that code.
func ends(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: ends code command...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func read(ts *testscript.TestScript, layout, dir string) *reader.Mirror {
	dir = ts.MkAbs(dir)
	mirror := reader.Dir(dir)
	w := worldOf(ts)
	if in, ok := strings.CutPrefix(dir, w.server.Path(w.bucket)+"/"); ok {
		mirror = w.server.Mirror(w.bucket, in)
	}
	switch layout {
	case "v3":
		return reader.V3(mirror)
	case "v2":
		return reader.V2(mirror)
	}
	if view, ok := strings.CutPrefix(layout, "view:"); ok {
		return reader.View(mirror, view)
	}
	ts.Fatalf("layout %q: want v3, v2 or view:NAME", layout)
	return nil
}

// finds LAYOUT DIR [SPECS [KEYS]] checks that the mirror works, with so many specs and
// keys. ! finds checks that it does not work.
func finds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] finds layout dir [specs [keys]]")
	}
	m := read(ts, args[0], args[1])
	if m.Works() == neg {
		ts.Fatalf("works: %v\n%v", m.Works(), m)
	}
	if !neg && len(m.Odd) > 0 {
		ts.Fatalf("odd: %v", m.Odd)
	}
	for i, got := range []int{len(m.Specs), len(m.Keys)} {
		if len(args) > 2+i && args[2+i] != strconv.Itoa(got) {
			ts.Fatalf("found %d, want %s\n%v", got, args[2+i], m)
		}
	}
}

// same LAYOUT DIR DIR checks that two indices mean the same.
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: [!] same layout dir dir")
	}
	compare(ts, neg, read(ts, args[0], args[1]).Index, read(ts, args[0], args[2]).Index)
}

// union LAYOUT DIR A B checks that an index is what Spack would make of A and B together.
func union(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: [!] union layout dir a b")
	}
	want := reader.Union(read(ts, args[0], args[2]).Index, read(ts, args[0], args[3]).Index)
	compare(ts, neg, read(ts, args[0], args[1]).Index, want)
}

func compare(ts *testscript.TestScript, neg bool, got, want reader.Database) {
	diff := got.Diff(want)
	if len(want) == 0 {
		ts.Fatalf("nothing to compare with")
	}
	if (len(diff) == 0) == neg {
		ts.Fatalf("the indices differ: %v\n%s", len(diff) > 0, strings.Join(diff, "\n"))
	}
}

// requests FILE writes down what was requested since the last time, one request a line:
// read or WRITE, operation, status, key.
func requests(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: requests file")
	}
	w := worldOf(ts)
	w.proxy.Wait()
	var lines strings.Builder
	for _, r := range w.proxy.Log() {
		kind := "read"
		if r.Mutating() {
			kind = "WRITE"
		}
		fmt.Fprintf(&lines, "%s %s %d %s%s\n", kind, r.Operation, r.Status, r.Key, r.Query.Get("prefix"))
	}
	w.proxy.Forget()
	ts.Logf("[requests]\n%s", &lines)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(lines.String()), 0o644))
}

var faults = map[string]faultproxy.Fault{
	"denied":    faultproxy.Denied,
	"expired":   faultproxy.Expired,
	"elsewhere": faultproxy.Elsewhere("eu-west-1"),
	"slowdown":  faultproxy.SlowDown,
	"nobucket":  faultproxy.NoBucket,
	"internal":  faultproxy.Internal,
	"stall":     faultproxy.Stall(time.Hour),
}

// fault NAME [OPERATIONS [AFTER]] makes requests fail: those of the operations, joined
// by commas, or all; the first AFTER of them pass. fault none ends that. With a file after
// a colon, NAME:FILE, the file is removed at the first such request, which then passes.
func fault(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: fault name [operations [after]]")
	}
	w := worldOf(ts)
	if args[0] == "none" {
		w.proxy.Inject(nil)
		return
	}
	f, ok := faults[args[0]]
	if kind, file, isAct := strings.Cut(args[0], ":"); isAct {
		f, ok = faultproxy.Hold(sync.OnceFunc(func() { spoil(ts, kind, ts.MkAbs(file)) })), true
	}
	if !ok {
		ts.Fatalf("no fault %q", args[0])
	}
	var ops []string
	if len(args) > 1 && args[1] != "all" {
		ops = strings.Split(args[1], ",")
	}
	after := 0
	if len(args) > 2 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		after = n
	}
	w.proxy.Inject(func(r faultproxy.Request) faultproxy.Fault {
		if ops != nil && !slices.Contains(ops, r.Operation) {
			return faultproxy.Fault{}
		}
		if after--; after >= 0 {
			return faultproxy.Fault{}
		}
		return f
	})
}

// spoil does to a file what may happen to it while it is being published.
func spoil(ts *testscript.TestScript, how, file string) {
	content, err := os.ReadFile(file)
	if err == nil {
		switch how {
		case "vanish":
			err = os.Remove(file)
		case "shrink":
			err = os.Truncate(file, int64(len(content)/2))
		case "change":
			err = flipLast(file)
		default:
			err = fmt.Errorf("no way to spoil a file is called %q", how)
		}
	}
	if err != nil {
		ts.Logf("spoil: %v", err) // not Fatalf: this is another goroutine
	}
}

// flipLast inverts a bit of the last byte, in place.
func flipLast(file string) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	last[0] ^= 1
	_, err = f.WriteAt(last, info.Size()-1)
	return err
}

// leftovers N checks how many multipart uploads are unfinished.
func leftovers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: leftovers n")
	}
	w := worldOf(ts)
	left, err := w.server.Leftovers(w.bucket)
	ts.Check(err)
	if args[0] != strconv.Itoa(len(left)) {
		ts.Fatalf("%d uploads are left over, want %s", len(left), args[0])
	}
}

// replace FILE OLD NEW replaces text in the only file that a pattern matches. With
// the text :flip it inverts a bit, with :half it cuts the file in the middle.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: replace pattern :flip|:half|old new")
	}
	file := only(ts, args[0])
	content, err := os.ReadFile(file)
	ts.Check(err)
	switch {
	case args[1] == ":flip":
		content[len(content)/2] ^= 1
	case args[1] == ":half":
		content = content[:len(content)/2]
	case len(args) == 3 && strings.Contains(string(content), args[1]):
		content = []byte(strings.Replace(string(content), args[1], args[2], 1))
	default:
		ts.Fatalf("%s: nothing to replace", file)
	}
	info, err := os.Stat(file)
	ts.Check(err)
	ts.Check(os.WriteFile(file, content, 0o644))
	// With its old time, so that nobody can tell without looking.
	ts.Check(os.Chtimes(file, time.Time{}, info.ModTime()))
}

func only(ts *testscript.TestScript, pattern string) string {
	found, err := filepath.Glob(ts.MkAbs(pattern))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("%s matches %q", pattern, found)
	}
	return found[0]
}

// fifo FILE makes a named pipe.
func fifo(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o644))
}

// tmpfs DIR KILOBYTES mounts a small file system, which takes root.
func tmpfs(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	ts.Check(syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+args[1]+"k"))
	ts.Defer(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// generate LAYOUT DIR FIRST END [KILOBYTES] writes the mirror that holds some of the
// 1000 specs of a universe.
func generate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: generate layout dir first end [kilobytes]")
	}
	var n [3]int
	for i, a := range args[2:] {
		v, err := strconv.Atoi(a)
		ts.Check(err)
		n[i] = v
	}
	u := spackmirror.New(map[string]spackmirror.Layout{"v2": spackmirror.V2, "v3": spackmirror.V3}[args[0]], 1000)
	u.Tarball = func(int) int { return n[2] << 10 }
	ts.Check(u.Write(ts.MkAbs(args[1]), u.Range(n[0], n[1])))
}

// snapshot DIR FILE writes down the names and digests of all files in a directory.
func snapshot(ts *testscript.TestScript, neg bool, args []string) {
	src := reader.Dir(ts.MkAbs(args[0]))
	names, err := src.List()
	ts.Check(err)
	var lines strings.Builder
	for _, name := range names {
		content, err := src.Get(name)
		ts.Check(err)
		fmt.Fprintf(&lines, "%x %s\n", sha256.Sum256(content), name)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(lines.String()), 0o644))
}

// count N PATTERN FILE checks how many lines of a file match.
func count(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count n pattern file")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[2])) {
		if pattern.MatchString(line) {
			n++
		}
	}
	if args[0] != strconv.Itoa(n) {
		ts.Fatalf("%d lines match, want %s", n, args[0])
	}
}

// biggest DIR VARIABLE sets the variable to the largest file below DIR, and VARIABLE
// followed by NAME to its base name.
func biggest(ts *testscript.TestScript, neg bool, args []string) {
	var found string
	var size int64
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Size() > size {
			found, size = path, info.Size()
		}
		return err
	}))
	ts.Setenv(args[1], found)
	ts.Setenv(args[1]+"NAME", filepath.Base(found))
}

// header NAME FIELD VALUE checks a header that the server sends with an object in $S3:
// it must contain the value.
func header(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	resp, err := (&http.Client{Transport: w.server.Signed()}).Head(w.server.Endpoint + "/" + w.bucket + "/site/" + args[0])
	ts.Check(err)
	resp.Body.Close()
	if got := resp.Header.Get(args[1]); strings.Contains(got, args[2]) == neg {
		ts.Fatalf("%s: %q", args[1], got)
	}
}

// rename PATTERN NAME gives the only file that matches another name in its directory,
// which is written as a Go string.
func rename(ts *testscript.TestScript, neg bool, args []string) {
	file := only(ts, args[0])
	name, err := strconv.Unquote(`"` + args[1] + `"`)
	ts.Check(err)
	ts.Check(os.Rename(file, filepath.Join(filepath.Dir(file), name)))
}

// passed are the variables that a command gets from a script.
var passed = []string{"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_EC2_METADATA_DISABLED"}

// nobody is a user without rights, by custom.
const nobody = 65534

// humble CODE COMMAND... is ends for a user without rights: root could read everything.
func humble(ts *testscript.TestScript, neg bool, args []string) {
	bin := worldOf(ts).bin
	cmd := exec.Command(bin, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range passed {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		open(ts, bin)
		open(ts, cmd.Dir)
	}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		ts.Check(err)
	}
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// open lets everybody pass through the temporary directories above path.
func open(ts *testscript.TestScript, path string) {
	for dir := filepath.Dir(path); strings.HasPrefix(dir, os.TempDir()) && dir != os.TempDir(); dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		ts.Check(err)
		ts.Check(os.Chmod(dir, info.Mode()|0o011))
	}
}

// fetch PATH FILE reads from $CDN into a file.
func fetch(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := http.Get(ts.Getenv("CDN") + "/" + args[0])
	ts.Check(err)
	defer resp.Body.Close()
	if (resp.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("%s: %s", args[0], resp.Status)
	}
	content, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if len(args) > 1 {
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), content, 0o644))
	}
}

// forgotten FILE writes down what was invalidated, one path a line.
func forgotten(ts *testscript.TestScript, neg bool, args []string) {
	var lines strings.Builder
	for _, paths := range worldOf(ts).control.Invalidations(distribution) {
		for _, p := range paths {
			fmt.Fprintln(&lines, p)
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(lines.String()), 0o644))
}

// A report is what the tests read of a JSON report.
type report struct {
	Mirrors []struct {
		Path, Layout string
		Packages     []struct{ Name, Version, Hash, Status string }
		Index        struct{ Before, After int }
	}
	Estimate     struct{ Requests int }
	Invalidation struct{ Paths []string }
}

// told PLAN RUN REQUESTS checks that the JSON report of a dry run says what that of the
// run says, and as many writes as there were.
func told(ts *testscript.TestScript, neg bool, args []string) {
	var plan, run report
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &plan))
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &run))
	requests := ts.ReadFile(args[2])
	// A write that is to be refused, to prove that conditions are obeyed, writes nothing.
	writes := strings.Count(requests, "WRITE ") - strings.Count(requests, "WRITE PutObject 404 ") - strings.Count(requests, "WRITE PutObject 412 ")
	if writes == 0 || plan.Estimate.Requests != writes {
		ts.Fatalf("%d writes, the plan says %d", writes, plan.Estimate.Requests)
	}
	run.Estimate = plan.Estimate
	if !reflect.DeepEqual(plan, run) {
		ts.Fatalf("plan %+v, done %+v", plan, run)
	}
}

// stopped CODE SIGNAL OPERATION [NAME=VALUE...] publish... runs a command, with variables
// beside the usual ones, and sends it a signal when the first request of that operation has
// come in. The request is answered a little later, and no other that writes may come in after that:
// what it has written it may take back. The command ends within seconds.
func stopped(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	sig := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[args[1]]
	running := make(chan *os.Process, 1)
	var late atomic.Int64
	var deaf atomic.Bool
	signal := sync.OnceFunc(func() {
		p := <-running
		p.Signal(sig)
		time.Sleep(500 * time.Millisecond)
		deaf.Store(true)
	})
	w.proxy.Inject(func(r faultproxy.Request) faultproxy.Fault {
		switch {
		case deaf.Load() && r.Mutating() && r.Operation != "AbortMultipartUpload" && r.Operation != "DeleteObject":
			late.Add(1)
		case r.Operation == args[2]:
			return faultproxy.Hold(signal)
		}
		return faultproxy.Fault{}
	})
	defer w.proxy.Inject(nil)
	at := slices.Index(args, "publish")
	cmd := exec.Command(w.bin, args[at+1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range passed {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Env = append(cmd.Env, args[3:at]...)
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	began := time.Now()
	ts.Check(cmd.Start())
	running <- cmd.Process
	cmd.Wait()
	if got := strconv.Itoa(cmd.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
	if took := time.Since(began); took > 10*time.Second {
		ts.Fatalf("ended after %v", took)
	}
	if n := late.Load(); n > 0 {
		ts.Fatalf("%d writes began after the signal", n)
	}
}

// webServer starts a server that gives every request one answer, and sets $WEB to its URL:
//
//	web [--tls] STATUS TEXT [HEADER VALUE]...
func webServer(ts *testscript.TestScript, neg bool, args []string) {
	start := httptest.NewServer
	if len(args) > 0 && args[0] == "--tls" { // with a certificate that nobody vouches for
		start, args = httptest.NewTLSServer, args[1:]
	}
	if neg || len(args) < 2 || len(args)%2 != 0 {
		ts.Fatalf("usage: web [--tls] STATUS TEXT [HEADER VALUE]...")
	}
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	s := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := 2; i < len(args); i += 2 {
			w.Header().Set(args[i], args[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, args[1])
	}))
	ts.Defer(s.Close)
	ts.Setenv("WEB", s.URL)
}
