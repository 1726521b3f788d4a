package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
)

// runRead reads every file below a directory, 256 KiB at a time, hashes it with SHA-256, and
// encrypts it as TLS does: the least of what a client does that checks what it sends.
func runRead(ctx context.Context, args []string) error {
	var r reader
	flags := flag.NewFlagSet("read", flag.ContinueOnError)
	flags.BoolVar(&r.hash, "hash", true, "hash what is read")
	flags.BoolVar(&r.inPairs, "pairs", false, "hash two files at a time on each processor")
	flags.BoolVar(&r.encrypt, "encrypt", false, "encrypt what is read")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%d arguments, want DIRECTORY", flags.NArg())
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sha256x2.PerProcessor() * runtime.GOMAXPROCS(0))
	err := filepath.WalkDir(flags.Arg(0), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		g.Go(func() error { return r.read(name) })
		return ctx.Err()
	})
	if readErr := g.Wait(); readErr != nil {
		return readErr
	}
	return err
}

// A reader says what is done with what is read.
type reader struct {
	hash, inPairs, encrypt bool
	pairs                  sha256x2.Pairs
}

func (r *reader) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var to []io.Writer
	switch {
	case r.hash && r.inPairs:
		h := r.pairs.New()
		defer h.Close()
		to = append(to, h)
	case r.hash:
		to = append(to, sha256.New())
	}
	if r.encrypt {
		s, err := newSealer()
		if err != nil {
			return err
		}
		to = append(to, s)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, struct{ io.Reader }{f}, make([]byte, 256<<10))
	return err
}

// A sealer encrypts what is written to it with AES-128-GCM, in records of the size of TLS.
type sealer struct {
	aead  cipher.AEAD
	nonce []byte
	out   []byte
}

const record = 16 << 10

func newSealer() (*sealer, error) {
	block, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead, make([]byte, aead.NonceSize()), make([]byte, 0, record+aead.Overhead())}, nil
}

func (s *sealer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), record)
		s.out = s.aead.Seal(s.out[:0], s.nonce, rest[:n], nil)
		rest = rest[n:]
	}
	return len(p), nil
}
