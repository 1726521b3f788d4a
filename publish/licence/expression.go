package licence

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// An expression is an SPDX expression: a licence, or several of which all or any apply.
type expression struct {
	name string // name of a licence, with its exception; empty: see of
	any  bool   // one of them is enough
	of   []expression
}

var errExpression = errors.New("no expression of SPDX")

var identifier = regexp.MustCompile(`^[A-Za-z0-9.-]+\+?( WITH [A-Za-z0-9.-]+)?$`)

// IsExpression reports whether a licence has the form of an SPDX expression. It does not check whether SPDX
// lists the licences.
func IsExpression(text string) bool {
	e, err := parse(text)
	return err == nil && e.listed()
}

func (e expression) listed() bool {
	if e.name != "" {
		return identifier.MatchString(e.name) && !strings.HasPrefix(e.name, "LicenseRef-") && !strings.HasPrefix(e.name, "DocumentRef-")
	}
	return !slices.ContainsFunc(e.of, func(part expression) bool { return !part.listed() })
}

// parse parses an SPDX expression. AND binds more tightly than OR.
func parse(text string) (expression, error) {
	p := parser{strings.Fields(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(text))}
	e, err := p.either()
	if err == nil && len(p.words) > 0 {
		err = errExpression
	}
	return e, err
}

type parser struct{ words []string }

// accept consumes the next word if it is the given one.
func (p *parser) accept(word string) bool {
	if len(p.words) == 0 || !strings.EqualFold(p.words[0], word) {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *parser) either() (expression, error) { return p.joined("OR", true, p.both) }
func (p *parser) both() (expression, error)   { return p.joined("AND", false, p.one) }

func (p *parser) joined(word string, any bool, next func() (expression, error)) (expression, error) {
	e, err := next()
	all := []expression{e}
	for err == nil && p.accept(word) {
		e, err = next()
		all = append(all, e)
	}
	if err != nil || len(all) == 1 {
		return all[0], err
	}
	return expression{any: any, of: all}, nil
}

func (p *parser) one() (expression, error) {
	if p.accept("(") {
		e, err := p.either()
		if err == nil && !p.accept(")") {
			err = errExpression
		}
		return e, err
	}
	name, err := p.name()
	if err == nil && p.accept("WITH") {
		var exception string
		exception, err = p.name()
		name += " WITH " + exception
	}
	return expression{name: name}, err
}

func (p *parser) name() (string, error) {
	if len(p.words) == 0 {
		return "", errExpression
	}
	switch w := p.words[0]; strings.ToUpper(w) {
	case "(", ")", "AND", "OR", "WITH":
		return "", errExpression
	default:
		p.words = p.words[1:]
		return w, nil
	}
}

// refused returns the first licence for which an expression is not permitted; empty: it is permitted.
func (e expression) refused(permits func(string) bool) string {
	if e.name != "" {
		if permits(e.name) {
			return ""
		}
		return e.name
	}
	first := ""
	for _, part := range e.of {
		bad := part.refused(permits)
		if e.any && bad == "" {
			return ""
		}
		if first == "" {
			first = bad
		}
	}
	return first
}
