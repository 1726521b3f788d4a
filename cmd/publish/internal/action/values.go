package action

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/vantagecompute/slurm-factory-publish/cmd/publish/internal/cli/quantity"
)

// A value parses the text of an input and stores it.
type value func(text string) error

// text is one line, without surrounding space.
func text(to *string, check ...func(string) error) value {
	return func(s string) error {
		if strings.ContainsFunc(s, unicode.IsControl) {
			return fmt.Errorf("%q: want one line", s)
		}
		for _, c := range check {
			if err := c(s); s != "" && err != nil {
				return err
			}
		}
		*to = s
		return nil
	}
}

// block is text of any number of lines.
func block(to *string) value {
	return func(s string) error {
		*to = s
		return nil
	}
}

// choice is one of a few words.
func choice(to *string, words ...string) value {
	return func(s string) error {
		if !slices.Contains(words, s) {
			return fmt.Errorf("%q: want %s", s, orOf(words))
		}
		*to = s
		return nil
	}
}

// orOf joins the choices: a, b or c.
func orOf(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// truth is a boolean as in YAML 1.2, and as GitHub's own actions parse it.
func truth(to *bool) value {
	return func(s string) error {
		switch s {
		case "true", "True", "TRUE":
			*to = true
		case "false", "False", "FALSE":
			*to = false
		default:
			return fmt.Errorf("%q: want true or false", s)
		}
		return nil
	}
}

// number is a whole number within bounds.
func number(least, most int, to func(int)) value {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q: want a number from %d to %d", s, least, most)
		}
		to(n)
		return nil
	}
}

func into(to *int) func(int) { return func(n int) { *to = n } }

// span is a duration such as 15m.
func span(to *time.Duration) value {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return fmt.Errorf("%q: want a time such as 90s, 15m or 1h30m", s)
		}
		*to = d
		return nil
	}
}

// rate is a number of bytes per second.
func rate(to *int64) value {
	return func(s string) error {
		return quantity.Rate(to).Set(s)
	}
}

// optional is a value that may be missing.
func optional(v value) value {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return v(s)
	}
}

// lines is a list: one item per line, with space and empty lines ignored.
func lines(to *[]string, check ...func(string) error) value {
	return func(s string) error {
		var wrong []error
		for line := range strings.Lines(s) {
			line = strings.TrimSpace(line)
			if line == "" {
				continue
			}
			for _, c := range check {
				if err := c(line); err != nil {
					wrong = append(wrong, err)
				}
			}
			*to = append(*to, line)
		}
		return errors.Join(wrong...)
	}
}

// oneLine returns an error if a line has invisible characters.
func oneLine(s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%q: want no control characters", s)
	}
	return nil
}
