package query

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Format writes a package as Spack's --format does: {name}{@version}{/hash:7}.
type Format []piece

// A piece is literal text, or an attribute with a prefix. The prefix is written only if the attribute is not empty.
type piece struct {
	text      string
	attribute func(*Node) string
	cut       int // maximum length in characters; 0: no limit
}

// formatAttributes are the attributes that a format can name, except variants.NAME.
var formatAttributes = map[string]func(*Node) string{
	"name":         func(n *Node) string { return n.Name },
	"version":      func(n *Node) string { return n.Version.String() },
	"hash":         func(n *Node) string { return n.Hash },
	"namespace":    func(n *Node) string { return n.Namespace },
	"fullname":     func(n *Node) string { return n.Namespace + "." + n.Name },
	"platform":     func(n *Node) string { return n.Platform },
	"os":           func(n *Node) string { return n.OS },
	"target":       func(n *Node) string { return n.Target },
	"arch":         (*Node).Architecture,
	"architecture": (*Node).Architecture,
	"variants":     (*Node).VariantText,
	"compilers":    func(n *Node) string { return strings.Join(n.Compilers(), ",") },
}

// Architecture returns platform-os-target.
func (n *Node) Architecture() string { return n.Platform + "-" + n.OS + "-" + n.Target }

// VariantText returns all variants and compiler flags in one line.
func (n *Node) VariantText() string {
	var words []string
	for _, v := range n.Variants {
		words = append(words, v.String())
	}
	for _, name := range slices.Sorted(maps.Keys(n.Flags)) {
		if flags := n.Flags[name]; len(flags) > 0 {
			words = append(words, name+`="`+strings.Join(flags, " ")+`"`)
		}
	}
	return strings.Join(words, " ")
}

// Compilers returns the compilers of a package as name@version: the providers of its languages.
func (n *Node) Compilers() []string {
	names := []string{}
	if n.Compiler != "" {
		return append(names, n.Compiler+"@"+n.CompilerVersion.String())
	}
	for _, d := range n.Dependencies {
		if d.Types&Build != 0 && slices.ContainsFunc(d.Virtuals, isLanguage) {
			names = append(names, d.To.Name+"@"+d.To.Version.String())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func isLanguage(virtual string) bool {
	return slices.Contains([]string{"c", "cxx", "fortran", "cuda-lang", "hip-lang"}, virtual)
}

// ParseFormat parses a format. \n and \t stand for a new line and a tab.
func ParseFormat(text string) (Format, error) {
	text = strings.NewReplacer(`\n`, "\n", `\t`, "\t").Replace(text)
	var f Format
	for text != "" {
		before, rest, found := strings.Cut(text, "{")
		f = append(f, piece{text: before})
		if !found {
			break
		}
		inside, rest, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("format: {%s has no }", inside)
		}
		p, err := parseAttribute(inside)
		if err != nil {
			return nil, err
		}
		f = append(f, p)
		text = rest
	}
	return f, nil
}

func parseAttribute(inside string) (piece, error) {
	var p piece
	name := strings.TrimLeft(inside, " @%/")
	p.text = inside[:len(inside)-len(name)]
	if key, attribute, ok := strings.Cut(name, "="); ok {
		p.text, name = p.text+key+"=", attribute
	}
	name, cut, ok := strings.Cut(name, ":")
	if ok {
		if _, err := fmt.Sscanf(cut, "%d", &p.cut); err != nil || p.cut < 1 || fmt.Sprint(p.cut) != cut {
			return p, fmt.Errorf("format: {%s}: %q is no length", inside, cut)
		}
	}
	if variant, ok := strings.CutPrefix(name, "variants."); ok && variant != "" {
		p.attribute = func(n *Node) string {
			v, _ := n.variant(variant)
			return v.orEmpty()
		}
		return p, nil
	}
	if p.attribute = formatAttributes[name]; p.attribute == nil {
		known := slices.Sorted(maps.Keys(formatAttributes))
		return p, fmt.Errorf("format: {%s}: there is no %q: want %s or variants.NAME", inside, name, strings.Join(known, ", "))
	}
	return p, nil
}

// orEmpty returns String, or an empty string for a variant that the package does not have.
func (v Variant) orEmpty() string {
	if v.Name == "" {
		return ""
	}
	return v.String()
}

// Of formats a package. It passes each value of an attribute through show. If an attribute is empty, the text
// before it in its braces is omitted, too.
func (f Format) Of(n *Node, show func(string) string) string {
	var b strings.Builder
	for _, p := range f {
		if p.attribute == nil {
			b.WriteString(p.text)
			continue
		}
		value := p.attribute(n)
		if p.cut > 0 {
			value = string([]rune(value)[:min(p.cut, len([]rune(value)))])
		}
		if value != "" {
			b.WriteString(p.text + show(value))
		}
	}
	return b.String()
}
