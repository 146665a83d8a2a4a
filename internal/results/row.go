package results

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// A row is a task event, divided into its values. The values refer to the memory of the event.
type row struct {
	// event has the values of the event columns; nil if the event lacks the value.
	event [len(eventColumns)]jsontext.Value
	// result has the members of a result that is an object, in their order. For any other result, it has one
	// field, whose key is nil.
	result []field
}

// field is a member of a result.
type field struct {
	key   []byte // decoded; nil if the result is not an object
	value jsontext.Value
}

// maxSearched is the number of members up to which a linear search finds a repeated key.
const maxSearched = 16

// A rowParser parses task events. The zero value is ready to use.
type rowParser struct {
	decoder jsontext.Decoder
	buffer  bytes.Buffer
	row     row
	// indexes has the keys of a large result. Other results have few keys, which a linear search finds faster.
	indexes map[string]int
}

var errNotObject = errors.New("not a JSON object")

// parse parses one task event. The row is valid until the next call.
func (p *rowParser) parse(text []byte) (*row, error) {
	p.row.event = [len(eventColumns)]jsontext.Value{}
	p.row.result = p.row.result[:0]
	p.indexes = nil
	p.buffer = *bytes.NewBuffer(text)
	p.decoder.Reset(&p.buffer, rawjson.Options())
	err := p.members(text, func(name []byte) error {
		switch nested := p.decoder.PeekKind() == '{'; string(name) {
		case "result":
			p.row.result, p.indexes = p.row.result[:0], nil // if the event repeats the name, the last value counts
			if nested {
				return p.members(text, func(key []byte) error {
					v, err := p.value(text)
					p.addField(key, v)
					return err
				})
			}
			v, err := p.value(text)
			p.row.result = append(p.row.result, field{nil, v})
			return err
		case "usage":
			if nested {
				return p.members(text, func(name []byte) error {
					v, err := p.value(text)
					p.setEvent("usage.", name, v)
					return err
				})
			}
		}
		v, err := p.value(text)
		p.setEvent("", name, v)
		return err
	})
	return &p.row, err
}

// members reads an object. For each member, it calls f, which must read the value.
func (p *rowParser) members(text []byte, f func(name []byte) error) error {
	if p.decoder.PeekKind() != '{' {
		return errNotObject
	}
	if _, err := p.decoder.ReadToken(); err != nil {
		return err
	}
	for p.decoder.PeekKind() != '}' {
		quoted, err := p.value(text)
		if err != nil {
			return err
		}
		name := []byte(quoted[1 : len(quoted)-1])
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(rawjson.Unquote(quoted))
		}
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := p.decoder.ReadToken()
	return err
}

// value reads a value. It returns the part of text, because the decoder's own copy is overwritten.
func (p *rowParser) value(text []byte) (jsontext.Value, error) {
	v, err := p.decoder.ReadValue()
	if err != nil {
		return nil, err
	}
	end := p.decoder.InputOffset()
	return text[end-int64(len(v)) : end : end], nil
}

// setEvent sets the value of the event column for a field of the event.
func (p *rowParser) setEvent(prefix string, name []byte, v jsontext.Value) {
	for i := range eventColumns {
		c := &eventColumns[i]
		if len(c.field) == len(prefix)+len(name) && c.field[:len(prefix)] == prefix && c.field[len(prefix):] == string(name) {
			p.row.event[i] = v
			return
		}
	}
}

// addField adds a member of the result. If a key is repeated, the last value counts.
func (p *rowParser) addField(key []byte, v jsontext.Value) {
	fields := p.row.result
	switch {
	case len(fields) < maxSearched:
		for i := range fields {
			if bytes.Equal(fields[i].key, key) {
				fields[i].value = v
				return
			}
		}
	case p.indexes == nil:
		p.indexes = map[string]int{}
		for i := range fields {
			p.indexes[string(fields[i].key)] = i
		}
	}
	if p.indexes != nil {
		if i, ok := p.indexes[string(key)]; ok {
			fields[i].value = v
			return
		}
		p.indexes[string(key)] = len(fields)
	}
	p.row.result = append(fields, field{key, v})
}
