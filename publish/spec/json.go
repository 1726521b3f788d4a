package spec

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// eachMember calls do for every member of an object. The value is valid until do returns. A duplicate name is
// an error.
func eachMember(object jsontext.Value, do func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(object))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for dec.PeekKind() == '"' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		member := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := do(member, value); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// eachElement calls do for every element of an array. The value is valid until do returns.
func eachElement(array jsontext.Value, do func(i int, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(array))
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; dec.PeekKind() != ']'; i++ {
		value, err := dec.ReadValue()
		if err != nil {
			return err
		}
		if err := do(i, value); err != nil {
			return err
		}
	}
	_, err := dec.ReadToken()
	return err
}

// text returns the value of a JSON string.
func text(v jsontext.Value) (string, bool) {
	if v.Kind() != '"' {
		return "", false
	}
	s, err := jsontext.AppendUnquote(nil, v)
	return string(s), err == nil
}

// texts returns the values of a JSON array of strings.
func texts(v jsontext.Value) (values []string, ok bool) {
	if v.Kind() != '[' {
		return nil, false
	}
	ok = true
	err := eachElement(v, func(_ int, v jsontext.Value) error {
		s, isText := text(v)
		ok = ok && isText
		values = append(values, s)
		return nil
	})
	return values, ok && err == nil
}

func isInteger(v jsontext.Value) bool {
	return v.Kind() == '0' && !strings.ContainsAny(string(v), ".eE")
}
