package key_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
)

// clearsignRegex is CLEARSIGN_FILE_REGEX of Spack 0.23 to 1.2 (spec.py), with what \s means for
// Python: white space of Unicode.
var clearsignRegex = regexp.MustCompile(strings.ReplaceAll(
	`(?ms)^-----BEGIN PGP SIGNED MESSAGE-----[SPACE]+Hash:[SPACE]+[^SPACE]+[SPACE]+(.+)-----BEGIN PGP SIGNATURE-----`,
	"SPACE", `\x{9}-\x{d}\x{1c}-\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`))

// spackReads is verify_and_extract_manifest (url_buildcache.py): Python decodes UTF-8 and
// translates line ends, gpg judges what comes of that, and the text is JSON.
func spackReads(k *keyring, document []byte) (any, bool) {
	if !utf8.Valid(document) {
		return nil, false
	}
	text := bytes.ReplaceAll(bytes.ReplaceAll(document, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
	if !bytes.HasPrefix(text, []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return nil, false
	}
	m := clearsignRegex.FindSubmatch(text)
	var read any
	if m == nil || json.Unmarshal(m[1], &read) != nil || !k.accepts(text) {
		return nil, false
	}
	return read, true
}

// tokens are what readers may take for something else.
var tokens = []string{
	"\n", "\n\n", "\r", "\r\n", " ", "\t", " \t", "\v", "\f", "\u00a0", "\u0085", "\u2028", "\x1c", "\x00", "\xff", "\ufeff",
	"-", "- ", "--", "-----", "- -", "From ", "=", "==", "=AAAA", "A", "{}", "[", `{"version":3,"data":[]}`,
	"-----BEGIN PGP SIGNATURE-----", "-----BEGIN PGP SIGNATURE-----\n", "\n-----BEGIN PGP SIGNATURE-----\n", "-----END PGP SIGNATURE-----", "\n-----END PGP SIGNATURE-----\n",
	"-----BEGIN PGP SIGNED MESSAGE-----", "\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n", "-----BEGIN PGP MESSAGE-----\n",
	"Hash: SHA512\n", "\nHash: SHA512", "Hash: SHA256\n", "Hash: SHA1\n", "Hash: SHA512,SHA256\n", "Hash:SHA512\n", "hash: sha512\n",
	"Charset: utf-8\n", "Comment: nothing\n", "Comment: -----BEGIN PGP SIGNATURE-----\n", "NotDashEscaped: yes\n", "Version: 1\n", ":", "X",
}

// mutate changes a document at one to three places, most of them at the ends of lines, and
// more often around the text than in the middle of it.
func mutate(r *rand.Rand, document []byte) (string, []byte) {
	var said []string
	for range 1 + r.IntN(5)/4 + r.IntN(8)/7 {
		lines := bytes.SplitAfter(document, []byte("\n"))
		i := r.IntN(len(lines))
		if j := 4 + r.IntN(len(lines)-4); r.IntN(2) == 0 && len(lines) > 8 {
			i = []int{0, 1, 2, 3, 4, len(lines) - 1, len(lines) - 2, len(lines) - 3, len(lines) - 4, j}[r.IntN(10)]
		}
		token := []byte(tokens[r.IntN(len(tokens))])
		line := bytes.Clone(lines[i])
		bare := bytes.TrimRight(line, "\n")
		end := line[len(bare):]
		what := ""
		switch r.IntN(9) {
		case 0, 1:
			what, line = fmt.Sprintf("%q before line %d", token, i), append(bytes.Clone(token), line...)
		case 2, 3:
			what, line = fmt.Sprintf("%q behind line %d", token, i), append(append(bare, token...), end...)
		case 4:
			what, line = fmt.Sprintf("%q for line %d", token, i), token
		case 5:
			what, line = fmt.Sprintf("without line %d", i), nil
		case 6:
			what, line = fmt.Sprintf("line %d twice", i), append(line, line...)
		case 7:
			j := r.IntN(len(lines))
			what = fmt.Sprintf("lines %d and %d exchanged", i, j)
			line, lines[j] = bytes.Clone(lines[j]), line
		default:
			at := r.IntN(len(line) + 1)
			what, line = fmt.Sprintf("%q at %d in line %d", token, at, i), append(append(bytes.Clone(line[:at]), token...), line[at:]...)
		}
		lines[i] = line
		document = bytes.Join(lines, nil)
		said = append(said, what)
	}
	return strings.Join(said, ", "), document
}

// mutations are how many are tried in each run of the tests. PUBLISH_MUTATIONS=20000 tries more.
func mutations() int {
	if n, err := strconv.Atoi(os.Getenv("PUBLISH_MUTATIONS")); err == nil {
		return n
	}
	return 240
}

// Never is a document accepted that a client refuses, or in which a client would read
// something else. The other way round, what is refused here alone is a form that neither gpg nor
// Spack writes, and the reason is one of a few.
func TestVerdictsAreThoseOfClients(t *testing.T) {
	k := newKeyring(t)
	text := []byte("{\n\"version\":3,\n\"data\":[\n{\n\"contentLength\":4304,\n\"mediaType\":\"application/vnd.spack.install.v2.tar+gzip\",\n\"compression\":\"gzip\",\n\"checksumAlgorithm\":\"sha256\",\n\"checksum\":\"2ef165edf3b00ca1e8709e0a09fe72ed30d258f6a5e752dcbcb1f8b90d8c3544\"\n}\n]\n}")
	documents := [][]byte{
		k.sign(k.key("ed", "ed25519", "sign", "never"), text, "--digest-algo", "SHA512"),
		k.sign(k.key("rsa", "rsa2048", "sign", "never"), text, "--digest-algo", "SHA256"),
	}
	r, err := key.ReadRing(k.run(nil, "--armor", "--export"))
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	type mutation struct {
		what     string
		document []byte
	}
	work := make(chan mutation)
	var mu sync.Mutex // guards what follows
	counts := make(map[string]int)
	judge := func(m mutation) {
		read, reads := spackReads(k, m.document)
		_, err := r.Verify(m.document)
		mu.Lock()
		defer mu.Unlock()
		counts[fmt.Sprintf("client %v, we %v", reads, err == nil)]++
		switch {
		case err == nil && !reads:
			t.Errorf("seed %d: %s: accepted, and no client accepts it:\n%q", seed, m.what, m.document)
		case err == nil && !reflect.DeepEqual(read, want):
			t.Errorf("seed %d: %s: a client reads %v", seed, m.what, read)
		case err != nil && reads && reflect.DeepEqual(read, want) && !stricter.MatchString(err.Error()):
			t.Errorf("seed %d: %s: a client accepts it, and we refuse it: %v", seed, m.what, err)
		case err != nil && reads:
			counts[stricter.FindString(err.Error())]++
		}
	}
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for m := range work {
				judge(m)
			}
		})
	}
	for i := range mutations() {
		document := documents[i%len(documents)]
		if i < len(documents) {
			work <- mutation{"nothing", document}
			continue
		}
		what, mutant := mutate(random, document)
		work <- mutation{what, mutant}
	}
	close(work)
	workers.Wait()
	t.Log(counts)
	if counts["client true, we true"] < len(documents) {
		t.Error("the documents themselves are refused")
	}
}

// A key file that is accepted is one that gpg imports without complaint, as that key and no other.
// What gpg imports and we refuse is a form that gpg does not write.
func TestKeyFilesAreReadAsByGPG(t *testing.T) {
	k := newKeyring(t)
	a, b := k.key("a", "ed25519", "sign", "never"), k.key("b", "ed25519", "sign", "never")
	k.run(nil, "--quick-add-uid", a, "a2 <a2@example.invalid>")
	k.run(nil, "--quick-add-key", a, "cv25519", "encr", "never")
	file, other := k.public(a), string(k.public(b))
	binary := string(k.run(nil, "--export", b))
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	accepted := 0
	for i := range mutations() / 3 {
		what, mutant := "nothing", file
		if i > 0 {
			what, mutant = mutateKey(random, file, other, binary)
		}
		p, err := key.ReadPublic(mutant)
		imported, fine := k.imports(mutant)
		damaged := strings.HasPrefix(what, aBit) // of which gpg may see more than we do
		switch {
		case err == nil && (slices.ContainsFunc(imported, func(f string) bool { return f != string(p.Fingerprint()) }) || !damaged && (!fine || len(imported) != 1)):
			t.Errorf("seed %d: %s: taken for %s, and gpg imports %q:\n%q", seed, what, p.Fingerprint(), imported, mutant)
		case err == nil:
			accepted++
		case i == 0:
			t.Errorf("what gpg exports is refused: %v", err)
		}
	}
	if accepted == 0 {
		t.Error("nothing was accepted")
	}
}

const aBit = "another bit"

// mutateKey changes a key file: as text, as a list of packets, or by putting another key beside it.
func mutateKey(r *rand.Rand, file []byte, other, binary string) (string, []byte) {
	switch r.IntN(4) {
	case 0:
		at := r.IntN(len(file) + 1)
		with := []string{other, binary, "\n" + other, "\n" + binary, strings.TrimSuffix(other, "\n")}[r.IntN(5)]
		return fmt.Sprintf("another key at %d", at), slices.Concat(file[:at], []byte(with), file[at:])
	case 1:
		block, err := armor.Decode(bytes.NewReader(file))
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(block.Body)
		if err != nil {
			panic(err)
		}
		at := r.IntN(len(body))
		body[at] ^= 1 << r.IntN(8)
		var out bytes.Buffer
		w, err := armor.Encode(&out, block.Type, nil)
		if err != nil {
			panic(err)
		}
		if _, err := w.Write(body); err != nil {
			panic(err)
		}
		if err := w.Close(); err != nil {
			panic(err)
		}
		return fmt.Sprintf("%s of byte %d", aBit, at), out.Bytes()
	}
	return mutate(r, file)
}

// imports are the keys that gpg imports of a file into an empty keyring, and whether it does so
// without complaint: Spack stops if it complains.
func (k *keyring) imports(file []byte) (all []string, fine bool) {
	k.t.Helper()
	fresh, err := os.MkdirTemp(k.home, "import")
	if err != nil {
		k.t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	cmd := exec.Command("gpg", "--homedir", fresh, "--no-options", "--batch", "--quiet", "--no-autostart", "--status-fd", "1", "--import")
	cmd.Stdin = bytes.NewReader(file)
	out, err := cmd.Output()
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "IMPORT_OK" {
			all = append(all, fields[3])
		}
	}
	return all, err == nil
}

// stricter are the reasons for which a document is refused that clients accept (docs/signatures.md).
var stricter = regexp.MustCompile(`want one Hash header|begins with a dash|armored blocks|there is a carriage return|want one block|times, want one|is no base64|is no header|something behind its first marker`)
