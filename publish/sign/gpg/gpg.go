// Package gpg signs with a key that GnuPG holds: in its agent, in an agent that is forwarded from another machine,
// or on a smartcard. The private key never enters this process.
//
// Each signature is one run of gpg, which finds its keyring and its agent as usual (GNUPGHOME). The user's gpg.conf
// is not read, since some of its options change what is signed.
package gpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

const scheme = "gpg:"

// Named reports whether the name of a key refers to gpg's keyring: gpg:FINGERPRINT.
func Named(name string) bool { return strings.HasPrefix(strings.ToLower(name), scheme) }

// Reasons why gpg cannot sign, in addition to those of package sign.
var (
	// ErrNoGPG: gpg is not installed.
	ErrNoGPG = errors.New("gpg is not installed here")
	// ErrUnknownKey: gpg has no private key of that fingerprint.
	ErrUnknownKey = errors.New("gpg has no private key of that fingerprint")
	// ErrNoAnswer: gpg, its agent or a card did nothing for too long.
	ErrNoAnswer = errors.New("gpg did nothing for too long: it may wait for a passphrase, for a card, or for an agent that does not answer")
	// ErrAgent: the agent cannot be reached.
	ErrAgent = errors.New("the agent of gpg cannot be reached")
)

var fingerprint = regexp.MustCompile(`^(?:0[xX])?([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})(!?)$`)

// parse splits a name. If exact is true, only the named key or subkey signs, and no other key of the certificate.
func parse(name string) (f key.Fingerprint, exact bool, err error) {
	m := fingerprint.FindStringSubmatch(strings.Join(strings.Fields(name[len(scheme):]), ""))
	if m == nil {
		return "", false, fmt.Errorf("%q: want gpg:FINGERPRINT with all of its 40 digits, as gpg --list-secret-keys shows it: shorter ones can be forged", name)
	}
	return key.Fingerprint(strings.ToUpper(m[1])), m[2] != "", nil
}

// A signer is a key or subkey in gpg's keyring. It implements sign.Signer.
type signer struct {
	public     []byte
	signs      key.Fingerprint
	passphrase []byte
	patience   time.Duration
	running    chan struct{} // holds one element for each gpg that runs
}

// atOnce is the maximum number of gpg processes that sign at once. With 16, the agent runs out of its secure
// memory. With 4, this was never observed.
const atOnce = 4

// patience is the maximum time without progress of gpg. A person has that time to enter a passphrase or to find a
// card.
const patience = 2 * time.Minute

// Open returns a key that can sign at a time. A passphrase is passed to gpg for each signature. If it is nil, the
// agent has it, prompts for it, or needs none. Like gpg, Open chooses the newest subkey that may sign, unless the
// name is that of a subkey or ends with an exclamation mark.
func Open(name string, passphrase []byte, at time.Time) (*sign.Key, error) {
	f, exact, err := parse(name)
	if err != nil {
		return nil, err
	}
	if bytes.ContainsAny(bytes.TrimSuffix(passphrase, []byte("\n")), "\n\x00") {
		return nil, fmt.Errorf("%w: it has several lines, of which gpg reads the first one", sign.ErrPassphrase)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), patience, ErrNoAnswer)
	defer cancel()
	secret, err := secrets(ctx, f)
	if err != nil {
		return nil, err
	}
	armored, err := run(ctx, nil, nil, "--armor", "--export-options", "export-minimal", "--export", string(f))
	if err != nil {
		return nil, err
	}
	public, err := key.ReadPublic(armored)
	if err != nil {
		return nil, err
	}
	candidates := public.Candidates(at)
	if exact || f != public.Fingerprint() {
		candidates = only(candidates, f)
	}
	chosen, err := sign.Choose(candidates, secret.usable)
	if errors.Is(err, sign.ErrNoSecret) { // a forwarded agent does not list its keys, but signs with them
		chosen, err = sign.Choose(candidates, func(key.Fingerprint) error { return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", chosen[0], err)
	}
	var all []sign.Signer
	running := make(chan struct{}, atOnce)
	for _, f := range chosen {
		all = append(all, &signer{armored, f, bytes.Clone(passphrase), patience, running})
	}
	return sign.New(all[0], all[1:]...)
}

// only returns the candidate with a fingerprint, or all candidates if there is none.
func only(all []key.Candidate, f key.Fingerprint) []key.Candidate {
	for i := range all {
		if all[i].Fingerprint == f {
			return all[i : i+1]
		}
	}
	return all
}

// held records for the keys and subkeys of a certificate whether the agent has the private part, in a file or on a
// card.
type held map[key.Fingerprint]bool

func (h held) usable(f key.Fingerprint) error {
	if !h[f] {
		return sign.ErrNoSecret
	}
	return nil
}

// secrets lists the private parts of a certificate. If there is none, the error is ErrUnknownKey.
func secrets(ctx context.Context, f key.Fingerprint) (held, error) {
	listing, err := run(ctx, nil, nil, "--with-colons", "--fingerprint", "--fingerprint", "--list-secret-keys", string(f))
	var failed *Error
	switch {
	case errors.As(err, &failed) && failed.has("error reading key"), err == nil && len(listing) == 0:
		return nil, fmt.Errorf("%s: %w: gpg --list-secret-keys shows those that it has", f, ErrUnknownKey)
	case err != nil:
		return nil, err
	}
	there := make(held)
	usable := false
	for line := range strings.Lines(string(listing)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		switch {
		case len(fields) > 14 && (fields[0] == "sec" || fields[0] == "ssb"):
			usable = fields[14] != "#" // + in a file, otherwise the number of a card
		case len(fields) > 9 && fields[0] == "fpr":
			there[key.Fingerprint(fields[9])] = usable
		}
	}
	return there, nil
}

// Public implements sign.Signer.
func (s *signer) Public() []byte { return s.public }

// Key implements sign.Signer.
func (s *signer) Key() key.Fingerprint { return s.signs }

// tries is the maximum number of attempts for a signature if the agent has no memory left.
const tries = 3

// Sign implements sign.Signer.
func (s *signer) Sign(ctx context.Context, kind sign.Kind, content io.Reader) ([]byte, error) {
	select {
	case s.running <- struct{}{}:
		defer func() { <-s.running }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	args := []string{"--local-user", string(s.signs) + "!", "--digest-algo", "SHA512", "--detach-sign", "--output", "-"}
	if kind == sign.OfText {
		args = append([]string{"--textmode"}, args...)
	}
	for n := 1; ; n++ {
		signature, err := s.runPatiently(ctx, content, args)
		var failed *Error
		again, seekable := content.(io.Seeker)
		if n == tries || !seekable || !errors.As(err, &failed) || !failed.has("Cannot allocate memory") {
			return signature, err
		}
		if _, err := again.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
	}
}

// runPatiently runs gpg on content, and ends it if it makes no progress for too long.
func (s *signer) runPatiently(ctx context.Context, content io.Reader, args []string) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(s.patience, func() { cancel(ErrNoAnswer) })
	defer idle.Stop()
	return run(ctx, readerFunc(func(p []byte) (int, error) {
		idle.Reset(s.patience)
		return content.Read(p)
	}), s.passphrase, args...)
}

// A readerFunc is a function as an io.Reader.
type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
