package action

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vantagecompute/slurm-factory-publish/publish/nearest"
	"github.com/vantagecompute/slurm-factory-publish/publish/redact"
)

// tokens are the placeholders of a destination whose values are in layout-vars, so that one destination serves
// all jobs of a matrix.
var tokens = []string{"toolchain", "slurm", "compiler", "arch"}

var (
	token      = regexp.MustCompile(`\{[^{}/]*\}`)
	tokenValue = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~@-]*$`)
)

// fill replaces the tokens of a destination by the values of vars. The rest stays.
func fill(destination string, vars []string) (string, error) {
	values := make(map[string]string)
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		values[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	var wrong []error
	filled := token.ReplaceAllStringFunc(destination, func(t string) string {
		name := t[1 : len(t)-1]
		switch {
		case !slices.Contains(tokens, name):
			wrong = append(wrong, fmt.Errorf("there is no token %s%s; there are {%s}", t, nearest.DidYouMean(name, tokens), strings.Join(tokens, "} {")))
		case values[name] == "":
			wrong = append(wrong, fmt.Errorf("layout-vars has no value for %s: add a line that begins with %s=", t, name))
		}
		return values[name]
	})
	if err := errors.Join(wrong...); err != nil {
		return "", err
	}
	if strings.ContainsAny(filled, "{}") {
		return "", fmt.Errorf("%q has a brace that belongs to no token", redact.URL(destination))
	}
	return filled, nil
}

// checkVars finds invalid values of tokens. A value is one part of a path.
func checkVars(vars []string) error {
	var wrong []error
	seen := make(map[string]bool)
	for _, v := range vars {
		name, value, ok := strings.Cut(v, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		switch {
		case !ok:
			wrong = append(wrong, fmt.Errorf("%q: want NAME=VALUE", v))
		case !slices.Contains(tokens, name):
			wrong = append(wrong, fmt.Errorf("%q: there is no token {%s}%s", v, name, nearest.DidYouMean(name, tokens)))
		case seen[name]:
			wrong = append(wrong, fmt.Errorf("%q: {%s} has a value already", v, name))
		case value != "" && !tokenValue.MatchString(value): // a missing value is an error only where it is used
			wrong = append(wrong, fmt.Errorf("%q: a value has letters, digits and . _ + ~ @ -", v))
		}
		seen[name] = true
	}
	return errors.Join(wrong...)
}
