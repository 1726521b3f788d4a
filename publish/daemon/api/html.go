package api

import (
	"html"
	"strings"
)

// The page shows names chosen by others: packages, paths, reasons. Therefore it is built as a tree of nodes, not as
// text. Words and attribute values are escaped when they are written, and the names of elements and attributes are
// constants of this package. No shown text can become markup.
//
// A template package would do that, too, but it looks up methods by name at run time. The linker would then keep
// all methods of all types, including the whole API of S3 and CloudFront, and the program would have 40 MB instead
// of 25.

// A node is a part of a page: an element, text, or several nodes.
type node interface{ write(*strings.Builder) }

// A name is the name of an element or an attribute. It must be a constant.
type name string

// An attribute is passed to el among the content of the element.
type attribute struct {
	name  name
	value string
}

type element struct {
	name       name
	attributes []attribute
	inside     nodes
}

// void lists the elements without content and end tag.
var void = map[name]bool{"meta": true, "link": true}

// el returns an element with its attributes and content.
func el(n name, holds ...node) element {
	e := element{name: n}
	for _, h := range holds {
		if a, ok := h.(attribute); ok {
			e.attributes = append(e.attributes, a)
		} else {
			e.inside = append(e.inside, h)
		}
	}
	return e
}

func attr(n name, value string) attribute { return attribute{n, value} }
func class(value string) attribute        { return attribute{"class", value} }

type words string

type nodes []node

func (a attribute) write(b *strings.Builder) {
	b.WriteString(" " + string(a.name) + `="` + html.EscapeString(a.value) + `"`)
}

func (w words) write(b *strings.Builder) { b.WriteString(html.EscapeString(string(w))) }

func (n nodes) write(b *strings.Builder) {
	for _, one := range n {
		one.write(b)
	}
}

func (e element) write(b *strings.Builder) {
	b.WriteString("<" + string(e.name))
	for _, a := range e.attributes {
		a.write(b)
	}
	b.WriteString(">")
	if void[e.name] {
		return
	}
	e.inside.write(b)
	b.WriteString("</" + string(e.name) + ">")
}

// markup returns a node as HTML.
func markup(n node) string {
	var b strings.Builder
	n.write(&b)
	return b.String()
}

// A table has a row of headings, and rows of cells.
type table struct {
	class    string
	headings []string
	rows     []nodes
}

func (t table) write(b *strings.Builder) {
	var head, body nodes
	for _, h := range t.headings {
		head = append(head, el("th", attr("scope", "col"), words(h)))
	}
	for _, r := range t.rows {
		body = append(body, el("tr", t.labelled(r)...))
	}
	whole := el("table", el("thead", el("tr", head...)), el("tbody", body...))
	if t.class != "" {
		whole.attributes = []attribute{class(t.class)}
	}
	whole.write(b)
}

// labelled returns the cells of a row, each with the heading of its column, which narrow screens show beside it.
func (t table) labelled(row nodes) nodes {
	var out nodes
	for i, n := range row {
		if cell, ok := n.(element); ok && cell.name == "td" && i < len(t.headings) {
			cell.attributes = append([]attribute{attr("data-of", t.headings[i])}, cell.attributes...)
			n = cell
		}
		out = append(out, n)
	}
	return out
}

// cells returns the cells of a row.
func cells(texts ...string) nodes {
	var row nodes
	for _, t := range texts {
		row = append(row, el("td", words(t)))
	}
	return row
}

// titled returns a cell with a tooltip.
func titled(text, title string) node { return el("td", attr("title", title), words(text)) }
