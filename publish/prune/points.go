package prune

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/vantagecompute/slurm-factory-publish/publish/buildcache"
	"github.com/vantagecompute/slurm-factory-publish/publish/mirror"
	"github.com/vantagecompute/slurm-factory-publish/publish/parallel"
)

const manifestSuffix = ".manifest.json"

// readOthers reads all other objects of layout v3 and keeps everything that they point at: the manifests of keys,
// of indices, and of unknown kinds. For an object that is not a manifest, it keeps everything that may be a digest.
func (s *scan) readOthers(ctx context.Context) error {
	var mu sync.Mutex
	return parallel.EachReading(ctx, readers, s.others, func(ctx context.Context, info mirror.Info) error {
		var digests []key
		var err error
		if strings.HasSuffix(info.Name, manifestSuffix) {
			digests, _, err = s.manifest(ctx, info.Name)
		} else {
			digests, err = digestsIn(ctx, s.reader, info.Name)
		}
		if errors.Is(err, mirror.ErrNotExist) {
			return nil // deleted or replaced since the listing: it is gone or young
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			s.blind = append(s.blind, buildcache.Error.In(info.Name, fmt.Sprintf("it is not known what it points at: %v", err)))
			return nil
		}
		for _, k := range digests {
			s.need(k)
		}
		return nil
	})
}

// manifest returns the digests that a manifest names and the number of its records. The error says why they are
// unknown.
func (s *scan) manifest(ctx context.Context, name string) (points []key, records int, err error) {
	text, _, err := mirror.Read(ctx, s.reader, name, buildcache.MaxDocument)
	if err != nil {
		return nil, 0, err
	}
	m, err := buildcache.ReadManifest(text)
	if err != nil {
		return nil, 0, err
	}
	all := []key{}
	for _, r := range m.Records {
		if err := r.Unusable(); err != nil {
			return nil, 0, fmt.Errorf("record of type %s: %w", r.MediaType, err)
		}
		all = append(all, key(r.Digest))
	}
	// Members unknown to Spack may name more digests: of a withdrawn package, or of an earlier version.
	for _, extra := range m.Extra {
		all = append(all, digestsOf(extra)...)
	}
	return all, len(m.Records), nil
}

// digestsIn returns everything that may be a digest in an object of any size.
func digestsIn(ctx context.Context, r mirror.Reader, name string) ([]key, error) {
	o, err := r.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	var all []key
	in := bufio.NewReaderSize(o.Body, 64<<10)
	run := make([]byte, 0, hexDigest+1)
	for {
		c, err := in.ReadByte()
		if err != nil && err != io.EOF {
			return nil, err
		}
		if err == nil && isHex(c) {
			if len(run) <= hexDigest {
				run = append(run, c)
			}
			continue
		}
		if len(run) == hexDigest {
			all = append(all, digestsOf(run)...)
		}
		run = run[:0]
		if err == io.EOF {
			return all, nil
		}
	}
}

const hexDigest = 64

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func digestsOf(text []byte) []key {
	var all []key
	for from := 0; from < len(text); {
		end := from
		for end < len(text) && isHex(text[end]) {
			end++
		}
		var k key
		if n, err := hex.Decode(k[:], text[from:min(end, from+hexDigest)]); end-from == hexDigest && err == nil && n == len(k) {
			all = append(all, k)
		}
		from = end + 1
	}
	return all
}
