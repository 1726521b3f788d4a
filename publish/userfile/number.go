package userfile

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
)

// A Number is the number of an open file of the caller, as the value of a flag. The file holds a secret. A
// wrong value is never shown, because it may be the secret itself.
type Number struct {
	n     int // negative: the value is not a number
	given bool
}

// Given reports whether a number was given.
func (f *Number) Given() bool { return f.given }

func (f *Number) String() string {
	if !f.given || f.n < 0 {
		return ""
	}
	return strconv.Itoa(f.n)
}

// Type is the type of the flag.
func (f *Number) Type() string { return "number" }

// Set sets the number. Read reports a wrong value, since an error of Set would show it.
func (f *Number) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		n = -1
	}
	*f = Number{n, true}
	return nil
}

// Read returns at most the given number of bytes of the file, and closes it.
func (f *Number) Read(most int64) ([]byte, error) {
	if f.n < 0 {
		return nil, errors.New("want the number of an open file (what is given is not shown: it may be the secret itself)")
	}
	file := os.NewFile(uintptr(f.n), "the open file of that number")
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most))
	if errors.Is(err, syscall.EBADF) || errors.Is(err, os.ErrInvalid) { // os.NewFile does not detect it
		err = errors.New("no file of that number is open for reading: open one, as the shell does with 3< FILE for the number 3")
	}
	return content, err
}
