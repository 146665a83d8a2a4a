package taskfile

import (
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// singleQuoted reads a string up to its next quote. If that is one of two, which
// mean one in the string, nothing that may follow a string follows.
func (f *fastYAML) singleQuoted() bool {
	f.at++
	for start := f.at; ; {
		switch c := f.peek(); {
		case c == '\'':
			f.quote(f.text[start:f.at])
			f.at++
			return true
		case c >= utf8.RuneSelf:
			if !f.wide() {
				return false
			}
		case c < ' ' || c > '~':
			return false
		default:
			f.at++
		}
	}
}

// doubleQuoted copies a string as it stands, as JSON writes it the same way.
func (f *fastYAML) doubleQuoted() bool {
	start := f.at
	f.at++
	for {
		switch c := f.peek(); {
		case c == '"':
			f.at++
			f.out = append(f.out, f.text[start:f.at]...)
			return true
		case c == '\\':
			f.at++
			switch f.peek() {
			case '"', '\\', 'b', 'f', 'n', 'r', 't':
				f.at++
			case 'u':
				f.out = append(f.out, f.text[start:f.at-1]...)
				if !f.unicode() {
					return false
				}
				start = f.at
			default:
				return false
			}
		case c >= utf8.RuneSelf:
			if !f.wide() {
				return false
			}
		case c < ' ' || c > '~':
			return false
		default:
			f.at++
		}
	}
}

// unicode writes the character of a \u escape that JSON writes as it is.
func (f *fastYAML) unicode() bool {
	f.at++
	if len(f.text)-f.at < 4 {
		return false
	}
	var r rune
	for _, c := range f.text[f.at : f.at+4] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return false
		}
	}
	f.at += 4
	f.out = utf8.AppendRune(f.out, r)
	return r >= ' ' && r != '"' && r != '\\' && utf8.ValidRune(r)
}

// wide takes a character that is not ASCII, unless the parser refuses it,
// takes it for a line break, or does strange things to it: byte order marks.
func (f *fastYAML) wide() bool {
	r, n := utf8.DecodeRune(f.text[f.at:])
	f.at += n
	return r >= 0xA0 && r != '\u2028' && r != '\u2029' && r != '\uFEFF' && r != '\uFFFE' && r != '\uFFFF'
}

func (f *fastYAML) quote(text []byte) {
	f.out, _ = jsontext.AppendQuote(f.out, text) // it is UTF-8, so there is no error
}
