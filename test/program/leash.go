package program

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// A Leash holds a server that ends with Stop, or with this process, however that ends.
type Leash struct {
	Line string // its first, which says where it is
	PID  int
	Stop func()
}

// Leashed starts a server that says in its first line where it is, and that ends when its
// standard input does.
func Leashed(bin string, args ...string) (*Leash, error) {
	cmd := exec.Command(bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stdin.Close()
		return nil, fmt.Errorf("%w\n%s", errors.Join(err, cmd.Wait()), &stderr)
	}
	return &Leash{Line: strings.TrimSpace(line), PID: cmd.Process.Pid, Stop: func() {
		stdin.Close()
		done := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer done.Stop()
		cmd.Wait()
	}}, nil
}
