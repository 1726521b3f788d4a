package gpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/vantagecompute/slurm-factory-publish/publish/sign"
)

// An Error is a failure of gpg.
type Error struct {
	Said   string // its standard error, on one line
	Reason error  // the meaning; nil if it is unknown
}

func (e *Error) Error() string {
	if e.Reason != nil {
		return fmt.Sprintf("%v (gpg: %s)", e.Reason, e.Said)
	}
	return "gpg: " + e.Said
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Reason }

func (e *Error) has(text string) bool { return strings.Contains(e.Said, text) }

// closing is the time for which gpg may keep its outputs open after it was ended.
const closing = 5 * time.Second

// maxOutput is the maximum output of gpg, in bytes. Public keys are smaller.
const maxOutput = 4 << 20

// run runs gpg. The passphrase is neither an argument nor in the environment: gpg reads it from an open file.
func run(ctx context.Context, stdin io.Reader, passphrase []byte, args ...string) ([]byte, error) {
	all := []string{"--no-options", "--batch", "--no-tty", "--status-fd", "2"}
	if len(passphrase) > 0 {
		all = append(all, "--pinentry-mode", "loopback", "--passphrase-fd", "3")
	}
	cmd := exec.CommandContext(ctx, "gpg", append(all, args...)...)
	cmd.WaitDelay = closing
	cmd.Env = append(cmd.Environ(), "LC_ALL=C") // explain reads the messages
	cmd.Stdin = stdin
	var out, errs limited
	cmd.Stdout, cmd.Stderr = &out, &errs
	if len(passphrase) > 0 {
		r, err := handOver(passphrase)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		cmd.ExtraFiles = []*os.File{r}
	}
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%w: install GnuPG, or give a key in a file (the container image has no gpg)", ErrNoGPG)
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, explain(err, errs.String(), len(passphrase) > 0)
	case out.cut:
		return nil, errors.New("gpg wrote more than any key or signature has")
	}
	return out.Bytes(), nil
}

// handOver returns an open file that holds a passphrase and then ends. The buffer of a pipe is far larger than a
// passphrase.
func handOver(passphrase []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	if _, err := w.Write(append(bytes.Clone(passphrase), '\n')); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// A limited buffer keeps the first bytes of what is written to it.
type limited struct {
	bytes.Buffer
	cut bool
}

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	rest := maxOutput - l.Len()
	if len(p) > rest {
		l.cut = true
		l.Buffer.Write(p[:rest])
		return len(p), nil
	}
	return l.Buffer.Write(p)
}

// Codes of libgpg-error, without their source.
const (
	codeBadPassphrase = 11
	codeNoSecretKey   = 17
	codeTimeout       = 62
	codeNoAgent       = 77
	codeNoPinentry    = 86
	codeBadPIN        = 87
	codeCanceled      = 99
)

// explain returns the meaning of a failure of gpg. Its status lines are for programs, the other lines for people.
func explain(err error, stderr string, withPassphrase bool) error {
	var said []string
	code, launched := 0, false
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		status, ok := strings.CutPrefix(line, "[GNUPG:] ")
		if !ok {
			line = strings.TrimPrefix(line, "gpg: ")
			if line != "" && !strings.HasPrefix(line, "using \"") {
				said = append(said, line)
			}
			continue
		}
		switch fields := strings.Fields(status); {
		case fields[0] == "PINENTRY_LAUNCHED":
			launched = true
		case len(fields) == 3 && (fields[0] == "FAILURE" || fields[0] == "ERROR"):
			if n, err := strconv.ParseUint(fields[2], 10, 32); err == nil && code == 0 {
				code = int(n & 0xffff)
			}
		}
	}
	if len(said) == 0 {
		said = []string{err.Error()}
	}
	e := &Error{Said: strings.Join(said, "; ")}
	switch {
	case code == codeBadPassphrase && withPassphrase, code == codeBadPIN:
		e.Reason = sign.ErrPassphrase
	case code == codeBadPassphrase, code == codeNoPinentry, launched && e.has("Inappropriate ioctl"):
		e.Reason = sign.ErrNoPassphrase
	case code == codeNoSecretKey:
		e.Reason = ErrUnknownKey
	case code == codeNoAgent, e.has("connect to the agent"), e.has("IPC connect call failed"), e.has("No agent running"):
		e.Reason = ErrAgent
	case code == codeTimeout:
		e.Reason = ErrNoAnswer
	case code == codeCanceled:
		e.Reason = errors.New("the passphrase was not entered")
	}
	return e
}
