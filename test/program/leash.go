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

// Leashed starts a server that says in its first line where it is, and that ends when its
// standard input does: with stop, or with this process, however that ends.
func Leashed(bin string, args ...string) (line string, stop func(), err error) {
	cmd := exec.Command(bin, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	leash, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	if line, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		leash.Close()
		return "", nil, fmt.Errorf("%w\n%s", errors.Join(err, cmd.Wait()), &stderr)
	}
	return strings.TrimSpace(line), func() {
		leash.Close()
		done := time.AfterFunc(5*time.Second, func() { cmd.Process.Kill() })
		defer done.Stop()
		cmd.Wait()
	}, nil
}
