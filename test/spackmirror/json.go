package spackmirror

import (
	"bytes"
	"encoding/json"
)

// compact is JSON without blanks, as Python writes it with the separators "," and ":".
func compact(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own structs
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// indent0 is what Python writes with an indent of 0: a line end after every token
// group, which keeps lines short enough for gpg.
func indent0(v any) []byte {
	var out bytes.Buffer
	in := compact(v)
	quoted := false
	for i := 0; i < len(in); i++ {
		c := in[i]
		switch {
		case quoted:
			if c == '\\' {
				out.WriteByte(c)
				i++
				c = in[i]
			} else if c == '"' {
				quoted = false
			}
			out.WriteByte(c)
		case c == '"':
			quoted = true
			out.WriteByte(c)
		case c == ',':
			out.WriteString(",\n")
		case c == '{' || c == '[':
			out.WriteByte(c)
			if next := in[i+1]; next == '}' || next == ']' {
				out.WriteByte(next)
				i++
			} else {
				out.WriteByte('\n')
			}
		case c == '}' || c == ']':
			out.WriteByte('\n')
			out.WriteByte(c)
		default:
			out.WriteByte(c)
		}
	}
	return out.Bytes()
}
