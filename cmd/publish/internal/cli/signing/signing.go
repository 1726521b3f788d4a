// Package signing opens the signing key that a command line, the environment, a configuration or a workflow
// names.
package signing

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/help"
	"github.com/vantagecompute/slurm-factory-publish/publish"
	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/field"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/gpg"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign/kms"
	"github.com/vantagecompute/slurm-factory-publish/publish/userfile"
)

// Variables that hold secrets themselves. All other settings are named by flags.
const (
	KeyVariable        = "PUBLISH_SIGN_KEY_TEXT"
	PassphraseVariable = "PUBLISH_SIGN_PASSPHRASE"
)

// A Config says which key signs. Secrets are in files or in the environment, never in arguments, which every
// user of a machine can read.
type Config struct {
	Key            string          // file with a private key, or the name of a key elsewhere; empty: KeyText
	PublicKey      string          // file with the public key of a KMS key
	PassphraseFile string          // file with the passphrase of the key
	PassphraseFD   userfile.Number // file descriptor to read the passphrase from
	Resign         bool            // replace the signatures of other keys

	KeyText, Passphrase string // the secrets themselves
	keyMissing          bool   // the variable of KeyText is set, but empty
	PublicText          string // the public key itself; empty: PublicKey

	AWS kms.Config // how a KMS is reached; called when something is signed
}

// Flags adds the flags for signing.
func Flags(fs *pflag.FlagSet, s *Config) {
	help.Group(fs, "Signing", func(fs *pflag.FlagSet) {
		KeyFlags(fs, s)
		fs.BoolVar(&s.Resign, "resign", false, "with a private key: also replace signatures by other keys, all of which must be among --trusted-keys")
	})
}

// KeyFlags adds the flags that name a private key.
func KeyFlags(fs *pflag.FlagSet, s *Config) {
	help.Group(fs, "Signing", func(fs *pflag.FlagSet) {
		fs.Var((*userfile.Name)(&s.Key), "sign-key", "`FILE` with a private key, as gpg --export-secret-keys writes it: sign unsigned packages. Or give the key itself in PUBLISH_SIGN_KEY_TEXT, gpg:FINGERPRINT for a key in gpg or on a smartcard, or awskms:///alias/NAME")
		fs.Var((*userfile.Name)(&s.PublicKey), "sign-public-key", "`FILE` with the public key of an awskms key, as publish keys create writes it")
		fs.Var((*userfile.Name)(&s.PassphraseFile), "sign-passphrase-file", "`FILE` with the passphrase of the private key. Or give the passphrase itself in PUBLISH_SIGN_PASSPHRASE")
		fs.Var(&s.PassphraseFD, "sign-passphrase-fd", "read the passphrase of the private key from the open file with this `NUMBER`")
	})
}

// ReadSecrets reads the secrets from the environment.
func (s *Config) ReadSecrets(lookup func(name string) (string, bool)) {
	text, asked := lookup(KeyVariable)
	s.KeyText, s.keyMissing = text, asked && strings.TrimSpace(text) == ""
	s.Passphrase, _ = lookup(PassphraseVariable)
}

// Open opens the key. Errors are of package field, and never show a secret.
func (s *Config) Open(trust buildcache.Trust) (publish.Signing, error) {
	given := s.Key != "" || s.KeyText != ""
	switch {
	case isKeyText(s.Key):
		return publish.Signing{}, field.Wrap("sign-key", fmt.Errorf("want the name of a file, not the text of a key: give the text in %s", KeyVariable))
	case s.keyMissing && s.Key == "":
		return publish.Signing{}, field.Wrap("sign-key", fmt.Errorf("%s is set and empty: does the secret that it comes from exist? Unset it to sign nothing", KeyVariable))
	case s.Key != "" && s.KeyText != "":
		return publish.Signing{}, field.Wrap("sign-key", fmt.Errorf("%s is given, too: want one", KeyVariable))
	case !given && s.Resign:
		return publish.Signing{}, field.Wrap("resign", errors.New("it needs a private key, and none is given"))
	case !given && s.PassphraseFile != "":
		return publish.Signing{}, field.Wrap("sign-passphrase-file", errNoKey)
	case !given && s.PassphraseFD.Given():
		return publish.Signing{}, field.Wrap("sign-passphrase-fd", errNoKey)
	case !given && s.Passphrase != "":
		return publish.Signing{}, field.Wrap("sign-key", errors.New("a passphrase is given, but no private key: is the secret that the key comes from set?"))
	case s.PublicKey+s.PublicText != "" && !kms.Named(s.Key):
		return publish.Signing{}, field.Wrap("sign-public-key", errors.New("it belongs to an awskms key, and none is given: other keys bring theirs along"))
	case !given:
		return publish.Signing{}, nil
	case s.Resign && trust.Keys == nil:
		return publish.Signing{}, field.Wrap("resign", errors.New("it needs trusted keys, to check the signatures that it replaces"))
	}
	keepSecrets()
	passphrase, err := s.readPassphrase()
	if err != nil {
		return publish.Signing{}, err
	}
	defer clear(passphrase)
	var k *sign.Key
	switch {
	case kms.Named(s.Key):
		k, err = s.openKMS(passphrase)
	case gpg.Named(s.Key):
		k, err = gpg.Open(s.Key, passphrase, time.Now())
	default:
		k, err = s.readKey(passphrase)
	}
	switch {
	case field.Name(err) != "":
		return publish.Signing{}, err
	case err != nil:
		return publish.Signing{}, field.Wrap("sign-key", err)
	}
	return publish.Signing{Key: k, Resign: s.Resign}, nil
}

// maxName is the maximum length of the name of a key in bytes. Keys in base64 are longer.
const maxName = 512

// isKeyText reports whether the given name of a key may be the key itself, which no error may show.
func isKeyText(name string) bool {
	return len(name) > maxName || strings.ContainsAny(name, "\r\n") || strings.Contains(name, "-----")
}

func isThere(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// readKey reads a private key into memory.
func (s *Config) readKey(passphrase []byte) (*sign.Key, error) {
	content := []byte(s.KeyText)
	if s.Key != "" {
		var err error
		content, err = userfile.Read(s.Key)
		if errors.Is(err, fs.ErrNotExist) && otherScheme.MatchString(s.Key) {
			return nil, fmt.Errorf("%q: unknown kind of key: want a file, gpg:FINGERPRINT or awskms:///alias/NAME; a PKCS #11 token is used through gpg", s.Key)
		}
		if err != nil {
			return nil, err
		}
	}
	defer clear(content)
	return sign.ReadKey(content, passphrase, time.Now())
}

// otherScheme matches the scheme of a key elsewhere, of any kind.
var otherScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+:`)

// openKMS opens a key in a KMS. It makes no request.
func (s *Config) openKMS(passphrase []byte) (*sign.Key, error) {
	name, err := kms.Parse(s.Key)
	switch {
	case err != nil:
		return nil, err
	case len(passphrase) > 0:
		return nil, errors.New("a passphrase is given, but an awskms key has none")
	case s.PublicKey+s.PublicText == "":
		return nil, field.Wrap("sign-public-key", errors.New("an awskms key needs it: make the file once, with publish keys create --kms"))
	}
	armored := []byte(s.PublicText)
	if s.PublicKey != "" {
		if armored, err = userfile.Read(s.PublicKey); err != nil {
			return nil, field.Wrap("sign-public-key", err)
		}
	}
	k, err := sign.NewRemote(armored, kms.Open(name, s.AWS), time.Now())
	return k, field.Wrap("sign-public-key", err)
}

var errNoKey = errors.New("the private key that it belongs to is not given")

// maxPassphrase is the maximum length of a passphrase in bytes.
const maxPassphrase = 4096

func (s *Config) readPassphrase() ([]byte, error) {
	n := 0
	for _, given := range []bool{s.Passphrase != "", s.PassphraseFile != "", s.PassphraseFD.Given()} {
		if given {
			n++
		}
	}
	switch {
	case n > 1:
		return nil, field.Wrap("sign-passphrase-file", fmt.Errorf("the passphrase is given more than once: want one of --sign-passphrase-file, --sign-passphrase-fd and %s", PassphraseVariable))
	case s.PassphraseFile != "":
		content, err := userfile.Read(s.PassphraseFile)
		if err != nil && !isThere(s.PassphraseFile) {
			err = errors.New("there is no such file (its name is not shown: it may be the passphrase itself)")
		}
		if err == nil {
			content, err = checkPassphrase(content)
		}
		return content, field.Wrap("sign-passphrase-file", err)
	case s.PassphraseFD.Given():
		content, err := s.PassphraseFD.Read(maxPassphrase + 1)
		if err == nil {
			content, err = checkPassphrase(content)
		}
		return content, field.Wrap("sign-passphrase-fd", err)
	}
	return []byte(s.Passphrase), nil
}

func checkPassphrase(content []byte) ([]byte, error) {
	content = bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	switch {
	case len(content) == 0:
		return nil, errors.New("it is empty")
	case len(content) > maxPassphrase:
		return nil, fmt.Errorf("it has more than %d bytes", maxPassphrase)
	}
	return content, nil
}
