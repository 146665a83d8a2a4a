package taskfile

import (
	"bytes"
	"unicode/utf8"
)

// A class is a set of bytes.
type class uint8

const (
	startsString class = 1 << iota // of unquoted strings
	inBlockPlain                   // within an unquoted scalar in block style
	inFlowPlain                    // and in flow style
	afterColon                     // makes a colon part of the scalar
	inKey                          // within an unquoted key
)

func (c class) has(other class) bool { return c&other != 0 }

// classes has the classes of each byte. In the middle of an unquoted scalar the
// parser looks for nothing but white space, colons, what separates values in
// flow style and, after a space, a comment.
var classes = func() (table [256]class) {
	for c := range table {
		switch c := byte(c); {
		case isLetter(c), isDigit(c), c == '/':
			table[c] = inBlockPlain | inFlowPlain | afterColon | inKey
		case c == '-', c == '.', c == '_':
			table[c] = inBlockPlain | inFlowPlain | inKey
		case c <= ' ', c == ':', c == '#', c == 0x7F, c >= utf8.RuneSelf:
		case isFlowIndicator(c), c == '?':
			table[c] = inBlockPlain
		case c == '\\':
			table[c] = inBlockPlain | inFlowPlain | afterColon
		default:
			table[c] = inBlockPlain | inFlowPlain
		}
		if c := byte(c); isLetter(c) || c == '/' || c == '_' || c == '$' || c == '(' || c >= utf8.RuneSelf {
			table[c] |= startsString
		}
	}
	return table
}()

// plain reads up to where an unquoted scalar can end. What it leaves there, be
// it a comment or another colon, is for the caller to refuse.
func (f *fastYAML) plain(within class) (text []byte, ok bool) {
	start, end := f.at, f.at
	for {
		switch c := f.peek(); {
		case classes[c].has(within):
			f.at++
			end = f.at
		case c == ' ':
			f.at++
		case c == ':' && end == f.at && end > start && f.at+1 < len(f.text) && classes[f.text[f.at+1]].has(afterColon):
			f.at++
			end = f.at
		case c >= utf8.RuneSelf:
			if !f.wide() {
				return nil, false
			}
			end = f.at
		default:
			f.at = end
			return f.text[start:end], true
		}
	}
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isNumber reports whether a scalar is a number as JSON writes it, which both
// the parser and the converter leave as it is.
func isNumber(s []byte) bool {
	s = bytes.TrimPrefix(s, []byte{'-'})
	n := countDigits(s)
	if n == 0 || n > 1 && s[0] == '0' {
		return false
	}
	if s = s[n:]; len(s) > 0 && s[0] == '.' {
		if n = countDigits(s[1:]); n == 0 {
			return false
		}
		s = s[1+n:]
	}
	if len(s) > 1 && s[0]|0x20 == 'e' {
		if s = s[1:]; s[0] == '+' || s[0] == '-' {
			s = s[1:]
		}
		if n = countDigits(s); n == 0 {
			return false
		}
		s = s[n:]
	}
	return len(s) == 0
}

func countDigits(s []byte) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// isDashed reports whether a scalar that starts with a digit is a string for
// sure, as UUIDs are: it has a dash that can be neither a date's nor the sign
// of an exponent or of a number to base 2 or 8.
func isDashed(s []byte) bool {
	n := countDigits(s)
	if n == 0 || n == 1 && s[0] == '0' || n == 4 && bytes.HasPrefix(s[n:], []byte{'-'}) {
		return false
	}
	found := false
	for i, c := range s {
		switch {
		case c == '-':
			found = found || s[i-1]|0x20 != 'e'
		case !isLetter(c) && !isDigit(c):
			return false
		}
	}
	return found
}

// isLiteral reports whether a scalar is true, false or null in some spelling.
func isLiteral(s []byte) bool {
	switch lower(s) {
	case "true", "false", "null":
		return true
	}
	return false
}

// isWord reports whether a scalar is one of those, or may be to other parsers
// of YAML. The names of coordinates are among them, so a key is not held to it.
func isWord(s []byte) bool {
	switch lower(s) {
	case "yes", "no", "on", "off", "y", "n":
		return true
	}
	return isLiteral(s)
}

// lower returns a short word in lower case, and anything longer as "".
func lower(s []byte) string {
	var word [len("false")]byte
	if len(s) > len(word) {
		return ""
	}
	for i, c := range s {
		word[i] = c | 0x20
	}
	return string(word[:len(s)])
}
