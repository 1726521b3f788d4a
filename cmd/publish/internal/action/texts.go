package action

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/key"
	"github.com/vantagecompute/slurm-factory-publish/publish/licence"
	"github.com/vantagecompute/slurm-factory-publish/publish/session"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/action/workflow"
	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli"
)

// Inputs that hold a text, or the path of a file with the text.

// readRoots adds the certificates of a file to the authorities of the system.
func readRoots(file string, r *workflow.Runner) (*x509.CertPool, error) {
	pem, err := r.Read(file)
	if err != nil {
		return nil, err
	}
	roots, err := session.SystemRoots()
	if err != nil {
		return nil, err
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%q holds no certificate in PEM", file)
	}
	return roots, nil
}

// trusted reads keys: the input itself, or the file that it names.
func trusted(given string, r *workflow.Runner) (*key.Ring, error) {
	if given == "" {
		return nil, nil
	}
	text, err := keyText(given, r)
	if err != nil {
		return nil, err
	}
	return key.ReadRing([]byte(text))
}

// licences reads rules: the input itself, or the file that it names.
func licences(given string, r *workflow.Runner) (*licence.Rules, error) {
	if given == "" {
		return nil, nil
	}
	text := []byte(given)
	if !strings.Contains(given, ":") {
		var err error
		if text, err = r.Read(given); err != nil {
			return nil, err
		}
	}
	return cli.ParseLicences(text)
}

// keyText returns the armored keys in an input, or in the file that it names.
func keyText(given string, r *workflow.Runner) (string, error) {
	if given == "" || strings.Contains(given, "-----BEGIN") {
		return given, nil
	}
	if err := oneLine(given); err != nil {
		return "", errors.New("want armored public keys, or the path of a file of them")
	}
	content, err := r.Read(given)
	return string(content), err
}
