// Package reader is the oracle of the tests: it reads a mirror as a Spack client does
// and says what it finds and what does not work.
//
// It shares no code with the product and was written from the description of Spack's
// formats alone, so the two cannot be wrong in the same way by accident.
package reader

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Source is where a mirror is read from.
type Source struct {
	// Get returns the content of an object; the error matches fs.ErrNotExist if
	// there is none of that name.
	Get func(name string) ([]byte, error)
	// List returns the names of all objects. A client cannot list; but it may ask for any
	// spec by its name, so with a list everything that it could ask for is tried too.
	List func() ([]string, error)
}

// Dir reads the mirror in a directory.
func Dir(root string) Source {
	return Source{
		Get: func(name string) ([]byte, error) { return os.ReadFile(filepath.Join(root, filepath.FromSlash(name))) },
		List: func() ([]string, error) {
			var names []string
			err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil // a mirror that is not there, or a file that was temporary
				}
				if err != nil || e.IsDir() {
					return err
				}
				name, err := filepath.Rel(root, path)
				names = append(names, filepath.ToSlash(name))
				return err
			})
			return names, err
		},
	}
}

// HTTP reads the mirror at a URL.
func HTTP(c *http.Client, url string) Source {
	return Source{Get: func(name string) ([]byte, error) {
		resp, err := c.Get(url + "/" + name)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			return io.ReadAll(resp.Body)
		case http.StatusNotFound, http.StatusForbidden:
			return nil, fmt.Errorf("%s: %s: %w", name, resp.Status, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("%s: %s", name, resp.Status)
	}}
}

// A Finding is something that is not as it should be.
type Finding struct{ Name, Reason string }

func (f Finding) String() string { return f.Name + ": " + f.Reason }

// A Mirror is what a client finds.
type Mirror struct {
	// Index is what the index says; nil if there is none, which is a mirror that works and
	// offers nothing.
	Index Database
	// Specs holds the hash of every spec that the index offers and that can be installed.
	Specs map[string]bool
	// Keys holds the fingerprint of every key that the key index names.
	Keys map[string]bool
	// Broken says what a client would stumble over. A mirror works if it is empty.
	Broken []Finding
	// Odd says what a client does not mind.
	Odd []Finding
}

// Works reports whether a client finds everything that it was promised.
func (m *Mirror) Works() bool { return len(m.Broken) == 0 }

func (m *Mirror) String() string {
	return fmt.Sprintf("index of %d records, %d specs, %d keys, broken %v, odd %v", len(m.Index), len(m.Specs), len(m.Keys), m.Broken, m.Odd)
}

// Hashes returns the hashes of m.Specs in order.
func (m *Mirror) Hashes() []string {
	hashes := make([]string, 0, len(m.Specs))
	for h := range m.Specs {
		hashes = append(hashes, h)
	}
	slices.Sort(hashes)
	return hashes
}

// walk is a mirror being read.
type walk struct {
	Mirror
	src  Source
	done map[string]bool // what was read already and need not be read again
}

func begin(src Source) *walk {
	return &walk{
		Mirror: Mirror{Specs: map[string]bool{}, Keys: map[string]bool{}},
		src:    src, done: map[string]bool{},
	}
}

func (w *walk) broken(name, format string, args ...any) {
	w.Broken = append(w.Broken, Finding{name, fmt.Sprintf(format, args...)})
}

func (w *walk) odd(name, format string, args ...any) {
	w.Odd = append(w.Odd, Finding{name, fmt.Sprintf(format, args...)})
}

// optional returns an object that may be absent.
func (w *walk) optional(name string) (content []byte, ok bool) {
	content, err := w.src.Get(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		w.broken(name, "%v", err)
		return nil, false
	}
	return content, true
}

// required returns an object that something points at.
func (w *walk) required(name, by string) (content []byte, ok bool) {
	content, err := w.src.Get(name)
	if err != nil {
		w.broken(name, "named by %s: %v", by, err)
		return nil, false
	}
	return content, true
}

// list returns the names of all objects, if they can be known.
func (w *walk) list() []string {
	if w.src.List == nil {
		return nil
	}
	names, err := w.src.List()
	if err != nil {
		w.broken("", "list: %v", err)
	}
	return names
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

const (
	signedBegin    = "-----BEGIN PGP SIGNED MESSAGE-----"
	signatureBegin = "-----BEGIN PGP SIGNATURE-----"
	keyBegin       = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
)

// plain returns the text of a document that may be clearsigned. It is as picky as
// Spack is: one Hash header with one algorithm.
func plain(content []byte) ([]byte, error) {
	text := string(content)
	if !strings.HasPrefix(text, signedBegin) {
		return content, nil
	}
	header, text, ok := strings.Cut(strings.TrimLeft(strings.TrimPrefix(text, signedBegin), "\r\n"), "\n")
	algorithm, isHash := strings.CutPrefix(strings.TrimSpace(header), "Hash: ")
	if !ok || !isHash || strings.ContainsAny(algorithm, ", ") {
		return nil, fmt.Errorf("clearsigned text with the header %q", header)
	}
	text, _, ok = strings.Cut(text, signatureBegin)
	if !ok {
		return nil, errors.New("clearsigned text without a signature")
	}
	return []byte(text), nil
}

// component is how Spack spells a part of a file name.
func component(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r >= '0' && r <= '9', strings.ContainsRune("_+.-", r):
			return r
		}
		return '_'
	}, s)
}

// stem joins the parts of a file name.
func stem(parts ...string) string {
	for i, p := range parts {
		parts[i] = component(p)
	}
	return strings.Join(parts, "-")
}

// keyIndex notes the fingerprints of a key index.
func (w *walk) keyIndex(name string, content []byte) []string {
	var doc struct {
		Keys map[string]json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(content, &doc); err != nil {
		w.broken(name, "%v", err)
	}
	var prints []string
	for fpr := range doc.Keys {
		w.Keys[fpr] = true
		prints = append(prints, fpr)
	}
	slices.Sort(prints)
	return prints
}

func (w *walk) key(name string, content []byte) {
	if !strings.HasPrefix(string(content), keyBegin) {
		w.broken(name, "is not an armored public key")
	}
}
