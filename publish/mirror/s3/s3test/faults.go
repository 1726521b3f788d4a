package s3test

import (
	"net/http"
)

// A Fault is a failure of a request.
type Fault struct {
	kind    kind
	status  int
	code    string
	said    string // the message with code; empty for a default
	header  http.Header
	rewrite func(*Answer)
}

type kind int

const (
	none kind = iota
	drop
	lie
	reset
	stall
	hang
	truncate
	refuse
	late
	altered
	drip
)

// None is the absence of a fault.
var None = Fault{}

// Faults that break the connection.
var (
	Drop     = Fault{kind: drop}     // the request is not carried out, and there is no answer
	Lie      = Fault{kind: lie}      // the request is carried out, and there is no answer
	Reset    = Fault{kind: reset}    // the connection is reset in the middle of the request
	Stall    = Fault{kind: stall}    // the request is neither read to its end nor answered
	Hang     = Fault{kind: hang}     // the request is carried out, and the answer never comes
	Truncate = Fault{kind: truncate} // the request is carried out, and half of the answer arrives
)

// Refuse answers with an error and does not carry out the request.
func Refuse(status int, code string) Fault { return Fault{kind: refuse, status: status, code: code} }

// Late carries out the request and then answers with an error.
func Late(status int, code string) Fault { return Fault{kind: late, status: status, code: code} }

// Saying sets the message of an error.
func (f Fault) Saying(message string) Fault {
	f.said = message
	return f
}

// With adds a header to the answer.
func (f Fault) With(name, value string) Fault {
	f.header = f.header.Clone()
	if f.header == nil {
		f.header = http.Header{}
	}
	f.header.Set(name, value)
	return f
}

// Hook is called before each request and returns its fault. Nil means no faults. It is called for one request at a
// time.
func (s *Server) Hook(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = f
}

// Once makes the n-th request (from 1) of an operation fail, and no other.
func Once(operation string, n int, f Fault) func(*http.Request) Fault {
	seen := 0
	return func(r *http.Request) Fault {
		if Operation(r) != operation {
			return None
		}
		if seen++; seen == n {
			return f
		}
		return None
	}
}

// Always makes all requests of an operation fail.
func Always(operation string, f Fault) func(*http.Request) Fault {
	return func(r *http.Request) Fault {
		if Operation(r) == operation {
			return f
		}
		return None
	}
}
