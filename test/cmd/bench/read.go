package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/vantagecompute/slurm-factory-publish/publish/sha256x2"
)

// runRead reads every file below a directory, 256 KiB at a time, hashes it with SHA-256, and
// sends it: the least of what a client does that checks what it sends.
func runRead(ctx context.Context, args []string) error {
	var r reader
	flags := flag.NewFlagSet("read", flag.ContinueOnError)
	flags.BoolVar(&r.hash, "hash", true, "hash what is read")
	flags.BoolVar(&r.inPairs, "pairs", false, "hash two files at a time on each processor")
	to := flags.String("to", "", "`URL` below which each file is put, in one request without signature and checksum; default: nothing is sent")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%d arguments, want DIRECTORY", flags.NArg())
	}
	dir, atOnce := flags.Arg(0), sha256x2.PerProcessor()*runtime.GOMAXPROCS(0)
	if *to != "" {
		u, err := url.Parse(*to)
		if err != nil {
			return err
		}
		r.sender = &sender{to: u, idle: make(chan *connection, atOnce)}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		g.Go(func() error { return r.read(dir, name) })
		return ctx.Err()
	})
	if readErr := g.Wait(); readErr != nil {
		return readErr
	}
	return err
}

// A reader says what is done with what is read.
type reader struct {
	hash, inPairs bool
	pairs         sha256x2.Pairs
	sender        *sender // nil: nothing is sent
}

// piece is how much is read, hashed and sent at a time.
const piece = 256 << 10

func (r *reader) read(dir, name string) error {
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
	finish := func() error { return nil }
	if r.sender != nil {
		below, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		c, err := r.sender.begin(filepath.ToSlash(below), info.Size())
		if err != nil {
			return err
		}
		to, finish = append(to, c), func() error { return r.sender.finish(c) }
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, struct{ io.Reader }{f}, make([]byte, piece)); err != nil {
		return err
	}
	return finish()
}
