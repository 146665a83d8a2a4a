package taskfile

// A flowScanner finds the commas between the entries of a flow list, and the end of the list. It
// ignores commas and brackets in strings, comments and nested collections.
type flowScanner struct {
	depth   int // nesting depth of brackets and braces; 1 in the list itself
	in      flowToken
	closed  bool // a nested bracket or brace was closed, and no comma or colon has followed
	escaped bool // in a double-quoted string: the next byte is not special
	prev    byte
}

type flowToken uint8

const (
	inGap     flowToken = iota // where a token may start
	inPlain                    // an unquoted scalar, in which quotes have no special meaning
	inSingle                   // '...'
	inDouble                   // "..."
	inWord                     // a tag, an anchor or an alias
	inTag                      // !<...>, which may contain a comma
	inComment                  // to the end of the line
)

// A flowEvent is the meaning of a byte for the list.
type flowEvent uint8

const (
	flowGap      flowEvent = iota // white space or a comment
	flowContent                   // part of an entry
	flowComma                     // between two entries
	flowClose                     // the list's end
	flowMismatch                  // the list's end, but with the wrong bracket
	flowNoComma                   // the beginning of an entry without a comma before it
)

// step processes the byte c. next is the byte after it.
func (f *flowScanner) step(c, next byte) flowEvent { //nolint:gocyclo // one case per state
	prev := f.prev
	f.prev = c
	switch f.in {
	case inComment:
		if c == '\n' {
			f.in = inGap
		}
		return flowGap
	case inDouble, inSingle:
		f.quoted(c)
		return flowContent
	case inTag:
		if c == '>' {
			f.in = inGap
		}
		return flowContent
	case inWord:
		if isBlank(c) {
			f.in = inGap
			return flowContent
		}
		if !isFlowIndicator(c) {
			return flowContent
		}
	case inPlain:
		switch {
		case c == '#' && isBlank(prev):
			f.in = inComment
			return flowGap
		case c == ':' && (isBlank(next) || isFlowIndicator(next)):
			f.in = inGap
			return flowContent
		case !isFlowIndicator(c):
			return flowContent
		}
	}
	return f.start(c, next)
}

// start processes a byte at a position where a token may start.
func (f *flowScanner) start(c, next byte) flowEvent { //nolint:gocyclo // one case per character that starts a token
	f.in = inGap
	switch c {
	case ' ', '\t', '\r', '\n':
		return flowGap
	case '#':
		f.in = inComment
		return flowGap
	case '[', '{':
		f.depth++
		if f.depth == 2 && f.closed {
			return flowNoComma
		}
	case ']', '}':
		f.depth--
		if f.depth == 0 && c == '}' {
			return flowMismatch
		}
		if f.depth == 0 {
			return flowClose
		}
		f.closed = true
	case ',':
		f.closed = false
		if f.depth == 1 {
			return flowComma
		}
	case '"':
		f.in = inDouble
	case '\'':
		f.in = inSingle
	case '&', '*':
		f.in = inWord
	case '!':
		f.in = inWord
		if next == '<' {
			f.in = inTag
		}
	case ':':
		f.closed = false // the bracket or brace was a key; its value follows
	case '?':
		if !isBlank(next) {
			f.in = inPlain
		}
	default:
		f.in = inPlain
	}
	return flowContent
}

// quoted processes a byte of a quoted string. A doubled quote in a single-quoted string counts
// as the end of one string and the start of another, which gives the same result.
func (f *flowScanner) quoted(c byte) {
	switch {
	case f.escaped:
		f.escaped = false
	case f.in == inDouble && c == '\\':
		f.escaped = true
	case f.in == inDouble && c == '"', f.in == inSingle && c == '\'':
		f.in = inGap
	}
}

func isFlowIndicator(c byte) bool {
	return c == ',' || c == '[' || c == ']' || c == '{' || c == '}'
}

var closing = map[byte]byte{'[': ']', '{': '}'}

// unclosed finds a quoted string, a bracket or a brace that is not closed, or a bracket that is
// closed by a brace or vice versa, in the text of the last entry of a list. what describes it for a
// message, or is "". begins is the line on which it begins. The text starts on the given line.
func unclosed(text []byte, line int64) (what string, begins int64) {
	f := flowScanner{depth: 1}
	var brackets []byte
	var lines []int64
	var quoteLine int64
	for i, c := range text {
		next := byte('\n')
		if i+1 < len(text) {
			next = text[i+1]
		}
		depth, wasQuoted := f.depth, f.isQuoted()
		f.step(c, next)
		switch {
		case f.depth > depth:
			brackets, lines = append(brackets, c), append(lines, line)
		case f.depth < depth:
			last := depth - 2 // the list's own bracket is not in the text
			if c != closing[brackets[last]] {
				return "the " + string(brackets[last]), lines[last]
			}
			brackets, lines = brackets[:last], lines[:last]
		case f.isQuoted() && !wasQuoted:
			quoteLine = line
		}
		if c == '\n' {
			line++
		}
	}
	switch last := len(brackets) - 1; {
	case f.isQuoted():
		return "the quoted string that starts", quoteLine
	case last >= 0:
		return "the " + string(brackets[last]), lines[last]
	}
	return "", 0
}

func (f *flowScanner) isQuoted() bool { return f.in == inSingle || f.in == inDouble }
