package spec

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// recordOf returns a node in the form that an index has.
func recordOf(raw jsontext.Value, d dialect) ([]byte, error) {
	r, err := Normalize(raw)
	if err == nil && d.written == Format4 && d.index != Format4 {
		r, err = upgrade(r)
	}
	return r, err
}

// Normalize returns a compact copy of a node without dependencies[].parameters.direct, which Spack's
// update-index drops and its migrate keeps.
func Normalize(raw jsontext.Value) ([]byte, error) {
	compact := raw.Clone()
	if err := compact.Compact(); err != nil {
		return nil, err
	}
	if !bytes.Contains(compact, []byte(`"direct"`)) {
		return compact, nil
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(compact), jsontext.AllowDuplicateNames(true))
	enc := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true), jsontext.PreserveRawStrings(true))
	for dec.PeekKind() != 0 {
		if dec.PeekKind() != '{' && dec.PeekKind() != '[' && dec.PeekKind() != '}' && dec.PeekKind() != ']' {
			v, err := dec.ReadValue()
			if err != nil {
				return nil, err
			}
			if isEdgeDirect(string(dec.StackPointer())) {
				if _, err := dec.ReadValue(); err != nil {
					return nil, err
				}
				continue
			}
			if err := enc.WriteValue(v); err != nil {
				return nil, err
			}
			continue
		}
		t, err := dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if err := enc.WriteToken(t); err != nil {
			return nil, err
		}
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// isEdgeDirect reports whether a JSON pointer is /dependencies/N/parameters/direct.
func isEdgeDirect(pointer string) bool {
	rest, ok := strings.CutPrefix(pointer, "/dependencies/")
	if !ok {
		return false
	}
	_, member, _ := strings.Cut(rest, "/")
	return member == "parameters/direct"
}

// upgrade converts a record of Format4 to Format5 as Spack does when it reads it (spack 1.2, spec.py): the
// compiler, which is a dependency in Format5, becomes an annotation. If the node already has annotations,
// they name its compiler.
func upgrade(record []byte) ([]byte, error) {
	var n struct {
		Annotations jsontext.Value `json:"annotations"`
		Compiler    *compiler      `json:"compiler"`
	}
	if err := json.Unmarshal(record, &n); err != nil {
		return nil, err
	}
	annotations := ""
	if n.Annotations == nil {
		annotations = annotationsOf(n.Compiler)
	}
	var out bytes.Buffer
	dec := jsontext.NewDecoder(bytes.NewReader(record))
	enc := jsontext.NewEncoder(&out, jsontext.PreserveRawStrings(true))
	copyMember := func(name, value jsontext.Value) error {
		return errors.Join(enc.WriteValue(name), enc.WriteValue(value))
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, err
	}
	err := enc.WriteToken(jsontext.BeginObject)
	for err == nil && dec.PeekKind() == '"' {
		name, nameErr := dec.ReadValue()
		name = name.Clone()
		value, valueErr := dec.ReadValue()
		if err = errors.Join(nameErr, valueErr); err != nil {
			break
		}
		switch string(name) {
		case `"compiler"`:
			continue
		case `"hash"`:
			if annotations != "" {
				err = copyMember(jsontext.Value(`"annotations"`), jsontext.Value(annotations))
			}
		}
		err = errors.Join(err, copyMember(name, value))
	}
	err = errors.Join(err, enc.WriteToken(jsontext.EndObject))
	return bytes.TrimSpace(out.Bytes()), err
}

type compiler struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// annotationsOf returns the annotations that Spack adds to a node of Format4 with a compiler.
func annotationsOf(c *compiler) string {
	if c == nil {
		return `{"original_specfile_version":4}`
	}
	return `{"original_specfile_version":4,"compiler":` + strconv.Quote(c.Name+"@="+c.Version) + `}`
}
