package s3test

import (
	"bytes"
	"io"
)

// Memory is a Store that keeps everything in memory.
var Memory Store = memory{}

type memory struct{}

func (memory) New(_ string, size int64) Body { return &inMemory{make([]byte, 0, size)} }

type inMemory struct{ content []byte }

func (m *inMemory) Write(p []byte) (int, error) {
	m.content = append(m.content, p...)
	return len(p), nil
}

func (m *inMemory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.content).ReadAt(p, off)
}

// Discard is a Store that stores nothing. Bodies read as zeroes.
var Discard Store = discard{}

type discard struct{}

func (discard) New(_ string, size int64) Body { return zeroes(size) }

type zeroes int64

func (zeroes) Write(p []byte) (int, error) { return len(p), nil }

func (z zeroes) ReadAt(p []byte, off int64) (int, error) {
	n := max(0, min(int64(len(p)), int64(z)-off))
	clear(p[:n])
	if int(n) < len(p) {
		return int(n), io.EOF
	}
	return int(n), nil
}
