package taskfile

import (
	"bytes"

	"github.com/ctworker/ctworker/pipeline"
)

// A fastYAML reads the entries that most files are made of without the YAML parser,
// which takes ten times as long: mappings and lists in blocks or, on one line, in
// brackets; strings in quotes or plain, numbers as JSON has them, true, false and null.
//
// It knows a small part of YAML and leaves the rest alone: whatever has a comment, a
// tag, an anchor, an alias, a string of several lines or a word that could be anything
// but what it looks like is the parser's, and so is everything that is wrong. What it
// does read comes to the same as the parser's, as FuzzYAMLFast checks.
type fastYAML struct {
	text []byte
	at   int
	out  []byte // JSON
	keys []span // of the mappings around the current one
}

// span is a part of out.
type span struct{ from, to int }

const (
	fastDepth = 64  // deeper values are the parser's
	fastKeys  = 32  // and so are mappings with more keys, which are compared one by one
	fastKey   = 128 // and keys of more bytes
)

// fast makes the task of the entry in chunk, or reports false: the parser is to do it.
func (y *yamlEntries) fast(keep bool) (task pipeline.Task, ok bool) {
	if int64(len(y.chunk)) > y.limit/8 { // what is close to the limit is measured by the parser's rules
		return task, false
	}
	f := &y.fastYAML
	f.text, f.at, f.out, f.keys = y.chunk, 0, f.out[:0], f.keys[:0]
	var e fastEntry
	if f.text[0] == '[' {
		ok = f.flowEntry(&e)
	} else {
		ok = f.blockEntry(y.indent, &e)
	}
	if !ok || !e.hasID || !e.hasData || e.id.from == e.id.to {
		return task, false
	}
	if keep {
		task.ID = string(f.out[e.id.from:e.id.to])
		task.Data = y.slab.keep(f.out[e.data.from:e.data.to])
	}
	return task, true
}

// fastEntry is what a task is made of, in out. The id is without its quotes.
type fastEntry struct {
	id, data       span
	hasID, hasData bool
}

// note looks at a field of the entry, whose value is the last in out.
func (e *fastEntry) note(f *fastYAML, key, value span) bool {
	switch string(f.out[key.from:key.to]) {
	case `"task_id"`:
		v := f.out[value.from:value.to]
		if v[0] != '"' || bytes.IndexByte(v, '\\') >= 0 {
			return false
		}
		e.id, e.hasID = span{value.from + 1, value.to - 1}, true
	case `"data"`:
		e.data, e.hasData = value, true
	}
	return true
}

// blockEntry reads "- " and a mapping, to the end of the text.
func (f *fastYAML) blockEntry(indent int, e *fastEntry) bool {
	if f.indentation() != indent {
		return false
	}
	f.at += indent
	column, ok := f.dash(indent)
	if !ok {
		return false
	}
	if f.peek() == '{' {
		ok = f.flowMapping(0, e) && f.endOfLine()
	} else {
		ok = f.mapping(column, 0, e)
	}
	return ok && f.at == len(f.text)
}

// flowEntry reads a mapping between the brackets that the splitter has put around it.
func (f *fastYAML) flowEntry(e *fastEntry) bool {
	f.at++
	f.skipSpaceAndLines()
	if f.peek() != '{' || !f.flowMapping(0, e) {
		return false
	}
	f.skipSpaceAndLines()
	return f.peek() == ']' && f.at == len(f.text)-1
}

// peek is the next byte, or 0 at the end.
func (f *fastYAML) peek() byte {
	if f.at < len(f.text) {
		return f.text[f.at]
	}
	return 0
}

func (f *fastYAML) skipSpace() {
	for f.peek() == ' ' {
		f.at++
	}
}

func (f *fastYAML) skipSpaceAndLines() {
	for c := f.peek(); c == ' ' || c == '\n'; c = f.peek() {
		f.at++
	}
}

// indentation is the number of spaces from here, where a line starts; -1 at the end.
func (f *fastYAML) indentation() int {
	n := f.at
	for n < len(f.text) && f.text[n] == ' ' {
		n++
	}
	if n == len(f.text) {
		return -1
	}
	return n - f.at
}

// dash passes over the "- " of an item at a column, and returns that of what follows
// on the line, which must be something.
func (f *fastYAML) dash(column int) (int, bool) {
	from := f.at
	if f.peek() != '-' {
		return 0, false
	}
	f.at++
	if f.peek() != ' ' {
		return 0, false
	}
	f.skipSpace()
	return column + f.at - from, f.peek() != '\n' && f.peek() != 0
}

// isDash reports whether an item of a list starts n bytes from here.
func (f *fastYAML) isDash(n int) bool {
	rest := f.text[f.at+n:]
	return len(rest) > 1 && rest[0] == '-' && rest[1] == ' '
}

// endOfLine passes over what may stand behind a value: spaces, and empty lines.
func (f *fastYAML) endOfLine() bool {
	f.skipSpace()
	if f.peek() == 0 {
		return f.at == len(f.text)
	}
	if f.peek() != '\n' {
		return false
	}
	for f.peek() == '\n' {
		f.at++
	}
	return true
}

// block reads a value at a column, up to the start of the line after it.
func (f *fastYAML) block(column, depth int) bool {
	if depth > fastDepth {
		return false
	}
	switch c := f.peek(); {
	case c == '{' || c == '[':
		return f.flow(depth) && f.endOfLine()
	case c == '-' && f.isDash(0):
		return f.list(column, depth)
	case f.startsPair():
		return f.mapping(column, depth, nil)
	}
	return f.scalar(false) && f.endOfLine()
}

// startsPair reports whether this line is "key:" with or without a value.
func (f *fastYAML) startsPair() bool {
	at, out := f.at, len(f.out)
	ok := f.key() && f.colon()
	f.at, f.out = at, f.out[:out]
	return ok
}

// colon passes over the ":" behind a key in a block.
func (f *fastYAML) colon() bool {
	if f.peek() != ':' {
		return false
	}
	f.at++
	c := f.peek()
	return c == ' ' || c == '\n' || c == 0
}

// list reads the items at a column.
func (f *fastYAML) list(column, depth int) bool {
	f.out = append(f.out, '[')
	for first := true; ; first = false {
		if !first {
			if f.indentation() != column || !f.isDash(column) {
				break
			}
			f.at += column
			f.out = append(f.out, ',')
		}
		inner, ok := f.dash(column)
		if !ok || !f.block(inner, depth+1) {
			return false
		}
	}
	f.out = append(f.out, ']')
	return true
}

// mapping reads the pairs at a column. e is told of those of the entry itself, nil of
// none.
func (f *fastYAML) mapping(column, depth int, e *fastEntry) bool {
	known := len(f.keys)
	f.out = append(f.out, '{')
	for first := true; ; first = false {
		if !first {
			if f.indentation() != column || f.isDash(column) {
				break
			}
			f.at += column
			f.out = append(f.out, ',')
		}
		key, ok := f.newKey(known)
		if !ok || !f.colon() {
			return false
		}
		f.out = append(f.out, ':')
		from := len(f.out)
		if !f.pairValue(column, depth) {
			return false
		}
		if e != nil && !e.note(f, key, span{from, len(f.out)}) {
			return false
		}
	}
	f.out = append(f.out, '}')
	f.keys = f.keys[:known]
	return true
}

// pairValue reads what follows the ":" of a pair at a column.
func (f *fastYAML) pairValue(column, depth int) bool {
	f.skipSpace()
	switch f.peek() {
	case '{', '[':
		return f.flow(depth+1) && f.endOfLine()
	case '\n':
	case 0:
		return false
	default:
		return f.scalar(false) && f.endOfLine()
	}
	if !f.endOfLine() {
		return false
	}
	inner := f.indentation()
	switch {
	case inner > column:
		f.at += inner
		return f.block(inner, depth+1)
	case inner == column && f.isDash(column):
		f.at += column
		return f.list(column, depth+1)
	}
	f.out = append(f.out, "null"...)
	return true
}

// newKey reads a key that the mapping whose keys begin at known does not have.
func (f *fastYAML) newKey(known int) (span, bool) {
	from := len(f.out)
	if len(f.keys)-known == fastKeys || !f.key() {
		return span{}, false
	}
	key := span{from, len(f.out)}
	for _, other := range f.keys[known:] {
		if bytes.Equal(f.out[other.from:other.to], f.out[key.from:key.to]) {
			return span{}, false
		}
	}
	f.keys = append(f.keys, key)
	return key, true
}

// key reads a key that is a string.
func (f *fastYAML) key() bool {
	from := len(f.out)
	switch f.peek() {
	case '"', '\'':
		if !f.quoted() {
			return false
		}
	default:
		at := f.at
		for f.at < len(f.text) && isKeyByte(f.text[f.at]) {
			f.at++
		}
		word := f.text[at:f.at]
		if len(word) == 0 || !isLetter(word[0]) || isSpecial(word) {
			return false
		}
		f.out = append(append(append(f.out, '"'), word...), '"')
	}
	return len(f.out)-from <= fastKey
}

// flow reads a value in brackets that is on one line.
func (f *fastYAML) flow(depth int) bool {
	switch {
	case depth > fastDepth:
		return false
	case f.peek() == '{':
		return f.flowMapping(depth, nil)
	case f.peek() != '[':
		return f.scalar(true)
	}
	f.at++
	f.out = append(f.out, '[')
	f.skipSpace()
	if f.peek() == ']' {
		f.at++
		f.out = append(f.out, ']')
		return true
	}
	for {
		if !f.flow(depth + 1) {
			return false
		}
		if more, ok := f.flowNext(']'); !more {
			return ok
		}
	}
}

func (f *fastYAML) flowMapping(depth int, e *fastEntry) bool {
	known := len(f.keys)
	f.at++
	f.out = append(f.out, '{')
	f.skipSpace()
	if f.peek() == '}' {
		f.at++
		f.out = append(f.out, '}')
		return true
	}
	for {
		quoted := f.peek() == '"'
		key, ok := f.newKey(known)
		if !ok || f.peek() != ':' {
			return false
		}
		f.at++
		if f.peek() != ' ' && !quoted { // a: of a word is a part of it
			return false
		}
		f.skipSpace()
		f.out = append(f.out, ':')
		from := len(f.out)
		if !f.flow(depth + 1) {
			return false
		}
		if e != nil && !e.note(f, key, span{from, len(f.out)}) {
			return false
		}
		if more, ok := f.flowNext('}'); !more {
			f.keys = f.keys[:known]
			return ok
		}
	}
}

// flowNext passes over what follows a value in brackets: a comma, and there is more,
// or the closing one.
func (f *fastYAML) flowNext(closing byte) (more, ok bool) {
	f.skipSpace()
	c := f.peek()
	if c != ',' && c != closing {
		return false, false
	}
	f.at++
	f.out = append(f.out, c)
	f.skipSpace()
	return c == ',', true
}
