package userfile

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// A Number is that of a file that the caller has opened, as a flag. Its content is a secret, so what is given in its place is never shown: it may be the
// secret itself.
type Number struct {
	n     int // negative: what was given is no number
	given bool
}

// Given reports whether there is one.
func (f *Number) Given() bool { return f.given }

func (f *Number) String() string {
	if !f.given || f.n < 0 {
		return ""
	}
	return strconv.Itoa(f.n)
}

// Type is that of a flag.
func (f *Number) Type() string { return "number" }

// Set takes a number. What is none is refused when it is read, since an error of Set would show it.
func (f *Number) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		n = -1
	}
	*f = Number{n, true}
	return nil
}

// Read returns at most so many bytes of the file, and closes it.
func (f *Number) Read(most int64) ([]byte, error) {
	if f.n < 0 {
		return nil, errors.New("want the number of an open file (what is given is not shown: it may be the secret itself)")
	}
	file := os.NewFile(uintptr(f.n), "the open file of that number")
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most))
	if errors.Is(err, syscall.EBADF) || errors.Is(err, os.ErrInvalid) { // which os.NewFile does not find out
		err = errors.New("no file of that number is open for reading: open one, as the shell does with 3< FILE for the number 3")
	}
	return content, err
}
