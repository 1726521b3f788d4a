package buildcache

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
)

// Trust says whose packages may be published.
type Trust struct {
	// RequireSigned refuses unsigned packages.
	RequireSigned bool
	// Keys check the signatures of signed packages. No other keys are published. Nil: signatures are not
	// checked.
	Keys *key.Ring
	// Checked, if set, remembers which documents of the destination were checked against Keys, so that a
	// process that publishes often reads each document once.
	Checked *Checked
}

// CheckKeyFile returns an error if a key file does not hold exactly the key that its name says: clients would
// trust every other key in it.
func CheckKeyFile(armored []byte, f key.Fingerprint) (*key.Public, error) {
	p, err := key.ReadPublic(armored)
	if err != nil {
		return nil, err
	}
	if got := p.Fingerprint(); got != f {
		return nil, fmt.Errorf("it holds the key %s", got)
	}
	return p, nil
}

// Untrusted returns what is wrong with a key that a mirror offers; empty if it is a trusted key, or if no
// trusted keys were given.
func (t Trust) Untrusted(f key.Fingerprint) string {
	if t.Keys == nil || t.Keys.Holds(f) {
		return ""
	}
	return "this key is not among the trusted keys, and clients that install the keys of the mirror would trust it: remove it, and run publish index --trusted-keys"
}

// Signer returns the trusted key that a signature names, either the key itself or one of its subkeys.
func (t Trust) Signer(by key.Issuer) (*key.Public, bool) {
	if t.Keys == nil {
		return nil, false
	}
	return t.Keys.Public(by)
}

// KeyObjects returns the uploads that publish one of the trusted keys.
func (t Trust) KeyObjects(l Layout, f key.Fingerprint) ([]Object, error) {
	armored, err := t.Keys.Armored(f)
	if err != nil {
		return nil, err
	}
	return l.KeyObjects(f, armored)
}

// Checked remembers which documents of a mirror were checked. Its zero value remembers none.
type Checked struct {
	mu   sync.Mutex // guards seen, and is held while one document is looked up or added
	seen map[[sha256.Size]byte]bool
}

// maxRemembered bounds the memory of a process that sees many mirrors: 32 bytes for each document.
const maxRemembered = 100_000

func checkedID(path string, info mirror.Info) [sha256.Size]byte {
	return sha256.Sum256([]byte(path + "\x00" + info.Name + "\x00" + string(info.Version)))
}

func (j *Checked) Has(path string, info mirror.Info) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.seen[checkedID(path, info)]
}

func (j *Checked) Add(path string, info mirror.Info) {
	if j == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil || len(j.seen) >= maxRemembered {
		j.seen = make(map[[sha256.Size]byte]bool)
	}
	j.seen[checkedID(path, info)] = true
}

// Objection returns what is wrong with the signature of a document; nil if nothing.
func (t Trust) Objection(document []byte) error {
	signed := key.Signed(document)
	if !signed && t.RequireSigned {
		return errors.New("it is not signed, and signatures are required")
	}
	if !signed || t.Keys == nil {
		return nil
	}
	_, err := t.Keys.Verify(document)
	return err
}
