package taskfile

import "bytes"

// scalar reads a scalar that is on one line, up to its end.
func (f *fastYAML) scalar(inFlow bool) bool {
	switch c := f.peek(); {
	case c == '"' || c == '\'':
		return f.quoted()
	case isLetter(c) || c == '/':
		return f.word(inFlow)
	default:
		return f.number(inFlow)
	}
}

// quoted reads a string in quotes.
func (f *fastYAML) quoted() bool {
	quote := f.text[f.at]
	f.at++
	f.out = append(f.out, '"')
	for {
		from := f.at
		for f.at < len(f.text) && class[f.text[f.at]]&quotedByte != 0 {
			f.at++
		}
		f.out = append(f.out, f.text[from:f.at]...)
		switch c := f.peek(); {
		case c == quote:
			f.at++
			if quote == '\'' && f.peek() == '\'' {
				return false // a quote in it
			}
			f.out = append(f.out, '"')
			return true
		case c == '\'':
			f.at++
			f.out = append(f.out, c)
		case c == '"':
			f.at++
			f.out = append(f.out, '\\', c)
		case c == '\\' && quote == '\'':
			f.at++
			f.out = append(f.out, '\\', '\\')
		case c == '\\':
			if !f.escape() {
				return false
			}
		case !f.letter():
			return false
		}
	}
}

// escape reads an escape that JSON writes in the same way.
func (f *fastYAML) escape() bool {
	f.at++
	c := f.peek()
	if c != '"' && c != '\\' && c != 'n' && c != 't' {
		return false
	}
	f.out = append(f.out, '\\', c)
	f.at++
	return true
}

// letter copies a letter beyond ASCII, which the text is known to have whole. What
// YAML takes for the end of a line or does not allow is not ours.
func (f *fastYAML) letter() bool {
	rest := f.text[f.at:]
	if len(rest) < 2 {
		return false
	}
	n := 0
	switch c := rest[0]; {
	case c == 0xC2 && rest[1] >= 0xA0, 0xC3 <= c && c <= 0xDF:
		n = 2
	case c == 0xE2 && rest[1] == 0x80 && len(rest) > 2 && rest[2]|1 == 0xA9: // U+2028 and U+2029
	case c == 0xED: // what would be surrogates begins so
	case 0xE1 <= c && c <= 0xEE:
		n = 3
	}
	if n == 0 || n > len(rest) {
		return false
	}
	f.out = append(f.out, rest[:n]...)
	f.at += n
	return true
}

// word reads a plain scalar that starts with a letter or a slash: a string, or one of
// three words.
func (f *fastYAML) word(inFlow bool) bool {
	start, from := len(f.out), f.at
	f.out = append(f.out, '"')
	allowed := uint8(plainByte)
	if inFlow {
		allowed = plainFlowByte
	}
	at := from
scan:
	for {
		for f.at < len(f.text) && class[f.text[f.at]]&allowed != 0 {
			f.at++
		}
		switch c := f.peek(); {
		case c == ':' && !inFlow: // as in an address
			if f.at+1 == len(f.text) || class[f.text[f.at+1]]&plainByte == 0 || f.text[f.at+1] == ' ' {
				return false
			}
			f.at++
		case c < 0x80: // its end, or what is not ours
			break scan
		default:
			f.out = append(f.out, f.text[at:f.at]...)
			if !f.letter() {
				return false
			}
			at = f.at
		}
	}
	f.out = append(f.out, f.text[at:f.at]...)
	f.out = bytes.TrimRight(f.out, " ")
	word := f.out[start+1:]
	switch string(word) {
	case "true", "false", "null":
		f.out = append(f.out[:start], word...)
		return f.plainEnd(inFlow)
	}
	if isSpecial(word) {
		return false
	}
	f.out = append(f.out, '"')
	return f.plainEnd(inFlow)
}

// plainEnd reports whether a plain scalar can end here.
func (f *fastYAML) plainEnd(inFlow bool) bool {
	switch f.peek() {
	case '\n':
		return !inFlow
	case ',', ']', '}':
		return inFlow
	case 0:
		return !inFlow && f.at == len(f.text)
	}
	return false
}

// number reads a number that is one in JSON too, and is kept as it is.
func (f *fastYAML) number(inFlow bool) bool {
	from := f.at
	digits := func() bool {
		at := f.at
		for isDigit(f.peek()) {
			f.at++
		}
		return f.at > at
	}
	if f.peek() == '-' {
		f.at++
	}
	zero := f.peek() == '0'
	whole := f.at
	if !digits() || zero && f.at > whole+1 {
		return false
	}
	if f.peek() == '.' {
		f.at++
		if !digits() {
			return false
		}
	}
	if c := f.peek(); c == 'e' || c == 'E' {
		f.at++
		if c := f.peek(); c == '+' || c == '-' {
			f.at++
		}
		if !digits() {
			return false
		}
	}
	f.out = append(f.out, f.text[from:f.at]...)
	f.skipSpace()
	return f.plainEnd(inFlow)
}

// isSpecial reports whether a word is, in some case, one of those that are no strings.
func isSpecial(word []byte) bool {
	return len(word) <= 5 && (bytes.EqualFold(word, []byte("true")) || bytes.EqualFold(word, []byte("false")) || bytes.EqualFold(word, []byte("null")))
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' || c == '_' }

func isKeyByte(c byte) bool { return isLetter(c) || isDigit(c) || c == '-' || c == '.' }

// Where a byte may stand: within quotes without being one or an escape; within a plain
// scalar; and within one in brackets.
const (
	quotedByte = 1 << iota
	plainByte
	plainFlowByte
)

var class = classes() //nolint:gochecknoglobals // a table

func classes() (table [256]uint8) {
	for c := ' '; c <= '~'; c++ {
		if c != '"' && c != '\'' && c != '\\' {
			table[c] |= quotedByte
		}
		switch {
		case isLetter(byte(c)), isDigit(byte(c)), bytes.ContainsRune([]byte(" -./+=@%$()~^;"), c):
			table[c] |= plainByte | plainFlowByte
		case bytes.ContainsRune([]byte(",&*!?<>|"), c):
			table[c] |= plainByte
		}
	}
	return table
}
