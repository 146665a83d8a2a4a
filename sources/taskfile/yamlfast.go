package taskfile

import (
	"hash/maphash"
	"slices"
)

// fastYAML reads the YAML that most files are made of at many times the
// parser's speed, straight to JSON. What it knows is small and has one meaning:
//
//   - block mappings and lists, and flow ones, whose keys are strings;
//   - strings on one line, unquoted ones only if nothing takes them for more;
//   - numbers as JSON writes them, true, false, null, and no value at all.
//
// Whatever else an entry holds, be it only a comment, it leaves to the parser,
// and so it knows no errors. What it takes must come out as the parser and the
// converter would have it: FuzzFastYAML compares the two.
type fastYAML struct {
	text   []byte
	at     int
	line   int // where the current line starts
	indent int // of the current line, where a line has just ended; -1 at the end

	out   []byte
	keys  []uint64 // the hashes of the open mappings' keys, outermost first
	seed  maphash.Seed
	depth int

	id, data span // in out
}

// span is a part of out.
type span struct{ from, to int }

// Beyond these bounds, which few tasks come near, an entry is the parser's.
const (
	fastDepth = 100
	fastKeys  = 1000 // of a mapping: each is compared with all before it
	fastKey   = 1000 // bytes; the parser wants the colon within 1024 characters
)

func newFastYAML() fastYAML { return fastYAML{seed: maphash.MakeSeed()} }

// read reads an entry as yamlEntries cuts them out, and reports whether it is
// one of those that fastYAML knows. Only then do id and data mean anything.
func (f *fastYAML) read(chunk []byte, limit int64) bool {
	*f = fastYAML{text: chunk, out: f.out[:0], keys: f.keys[:0], seed: f.seed}
	if int64(len(chunk)) > limit || !f.entry() {
		return false
	}
	// The id needs a character, and data may not outgrow the entry's limit.
	isID := f.id.to-f.id.from > len(`""`) && f.out[f.id.from] == '"'
	return isID && f.data.to > 0 && int64(f.data.to-f.data.from) <= limit
}

func (f *fastYAML) entry() bool {
	if f.take('[') { // of a flow list
		f.gap()
		if f.peek() != '{' || !f.flow() {
			return false
		}
		f.gap()
		return f.take(']') && f.at == len(f.text)
	}
	f.spaces()
	if !f.isDash() {
		return false
	}
	f.at++
	f.spaces()
	if f.peek() == '{' {
		return f.flow() && f.endLine() && f.indent < 0
	}
	return f.blockMapping(f.at) && f.indent < 0
}

// blockMapping reads a mapping whose keys stand at col, and the line end.
func (f *fastYAML) blockMapping(col int) bool {
	keys := len(f.keys)
	if !f.open('{') {
		return false
	}
	for {
		key := len(f.out)
		if !f.key(inBlockPlain, keys) {
			return false
		}
		value := len(f.out)
		if !f.blockValue(col) {
			return false
		}
		f.note(key, value)
		if f.indent > col {
			return false
		}
		if f.indent < col {
			f.keys = f.keys[:keys]
			f.close('}')
			return true
		}
		f.out = append(f.out, ',')
	}
}

// blockValue reads what follows the colon of a key at col, and the line end.
func (f *fastYAML) blockValue(col int) bool {
	f.spaces()
	if c := f.peek(); c != '\n' && c != '\r' && c != 0 {
		return f.value(inBlockPlain) && f.endLine()
	}
	if !f.endLine() {
		return false
	}
	switch {
	case f.indent >= col && f.isDash():
		return f.blockList(f.indent)
	case f.indent > col:
		return f.blockMapping(f.indent)
	}
	f.out = append(f.out, "null"...)
	return true
}

// blockList reads a list whose dashes stand at col, and the line end. What else
// stands there can only be the next key of the mapping around it.
func (f *fastYAML) blockList(col int) bool {
	if !f.open('[') {
		return false
	}
	for {
		f.at++
		f.spaces()
		if !f.blockItem(f.at - f.line) {
			return false
		}
		if f.indent > col {
			return false
		}
		if f.indent < col || !f.isDash() {
			f.close(']')
			return true
		}
		f.out = append(f.out, ',')
	}
}

// blockItem reads what follows a dash, which starts at col, and the line end.
func (f *fastYAML) blockItem(col int) bool {
	if f.isDash() {
		return f.blockList(col)
	}
	at, out := f.at, len(f.out)
	isMapping := f.name(inBlockPlain)
	f.at, f.out = at, f.out[:out]
	if isMapping {
		return f.blockMapping(col)
	}
	return f.value(inBlockPlain) && f.endLine()
}

// flow reads a mapping in braces or a list in brackets.
func (f *fastYAML) flow() bool {
	keys, end := len(f.keys), byte(']')
	if f.peek() == '{' {
		end = '}'
	}
	if !f.open(f.peek()) {
		return false
	}
	f.at++
	f.gap()
	for !f.take(end) {
		key := len(f.out)
		if end == '}' && !f.key(inFlowPlain, keys) {
			return false
		}
		value := len(f.out)
		f.gap()
		if !f.value(inFlowPlain) {
			return false
		}
		if end == '}' {
			f.note(key, value)
		}
		f.gap()
		if f.take(',') {
			f.out = append(f.out, ',')
			f.gap()
			if f.peek() == end {
				return false
			}
		} else if f.peek() != end {
			return false
		}
	}
	f.keys = f.keys[:keys]
	f.close(end)
	return true
}

func (f *fastYAML) open(c byte) bool {
	f.out = append(f.out, c)
	f.depth++
	return f.depth <= fastDepth
}

func (f *fastYAML) close(c byte) {
	f.out = append(f.out, c)
	f.depth--
}

// note remembers where the entry's own fields are: key ends where value starts.
func (f *fastYAML) note(key, value int) {
	if f.depth != 1 {
		return
	}
	switch fieldOf(f.out[key : value-len(":")]) {
	case isID:
		f.id = span{value, len(f.out)}
	case isData:
		f.data = span{value, len(f.out)}
	}
}

// key reads a key and its colon. The mapping's other keys start at first.
func (f *fastYAML) key(within class, first int) bool {
	start := len(f.out)
	if !f.name(within) || len(f.keys)-first >= fastKeys {
		return false
	}
	hash := maphash.Bytes(f.seed, f.out[start:])
	if slices.Contains(f.keys[first:], hash) { // very likely the same key
		return false
	}
	f.keys = append(f.keys, hash)
	return true
}

func (f *fastYAML) name(within class) bool {
	start, isQuoted := f.at, true
	switch f.peek() {
	case '"':
		if !f.doubleQuoted() {
			return false
		}
	case '\'':
		if !f.singleQuoted() {
			return false
		}
	default:
		isQuoted = false
		for classes[f.peek()].has(inKey) {
			f.at++
		}
		name := f.text[start:f.at]
		if len(name) == 0 || !isLetter(name[0]) && name[0] != '_' || isLiteral(name) {
			return false
		}
		f.out = append(append(append(f.out, '"'), name...), '"')
	}
	if f.at-start > fastKey || !f.take(':') {
		return false
	}
	f.out = append(f.out, ':')
	if isQuoted && within == inFlowPlain {
		return true // as in JSON, what follows may come at once
	}
	c := f.peek()
	return c == ' ' || c == '\n' || c == '\r' || c == 0
}

// value reads a scalar or a flow collection.
func (f *fastYAML) value(within class) bool {
	switch f.peek() {
	case '"':
		return f.doubleQuoted()
	case '\'':
		return f.singleQuoted()
	case '{', '[':
		return f.flow()
	}
	text, ok := f.plain(within)
	switch {
	case !ok || len(text) == 0:
		return false
	case isNumber(text):
		f.out = append(f.out, text...)
		return true
	case isWord(text):
		switch string(text) {
		case "true", "false", "null":
			f.out = append(f.out, text...)
			return true
		}
		return false
	case !classes[text[0]].has(startsString) && !isDashed(text):
		return false
	}
	f.quote(text)
	return true
}

// peek returns the next byte, or 0, which no text may hold, at the end.
func (f *fastYAML) peek() byte {
	if f.at < len(f.text) {
		return f.text[f.at]
	}
	return 0
}

func (f *fastYAML) take(c byte) bool {
	if f.peek() != c {
		return false
	}
	f.at++
	return true
}

func (f *fastYAML) spaces() {
	for f.peek() == ' ' {
		f.at++
	}
}

// gap skips the white space between a flow collection's tokens.
func (f *fastYAML) gap() {
	for f.peek() == ' ' || f.isBreak() {
		f.at++
	}
}

// isBreak reports whether a line ends here, and steps over the CR of a CRLF.
func (f *fastYAML) isBreak() bool {
	if f.peek() == '\r' && f.at+1 < len(f.text) && f.text[f.at+1] == '\n' {
		f.at++
	}
	return f.peek() == '\n'
}

// endLine goes to the next line that holds something. There must be nothing
// more on this one.
func (f *fastYAML) endLine() bool {
	for start := -1; ; start = f.at {
		from := f.at
		f.spaces()
		if f.at == len(f.text) {
			f.indent = -1
			return true
		}
		if !f.isBreak() {
			f.line, f.indent = start, f.at-from
			return start >= 0
		}
		f.at++
	}
}

// isDash reports whether a list's item starts here, and on this line.
func (f *fastYAML) isDash() bool {
	return f.peek() == '-' && f.at+1 < len(f.text) && f.text[f.at+1] == ' '
}
