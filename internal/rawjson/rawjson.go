// Package rawjson handles JSON text that is passed on byte for byte. Only this package decides
// whether text is valid JSON.
//
//	task file, message, reply, result ─▶ IsValid, Compact ─▶ the same bytes
//	task_id, exception                ─▶ Unquote ─▶ Go string ─▶ AppendQuote
//
// # Valid JSON
//
// Every JSON text of RFC 8259 in UTF-8 is valid, except values that are nested more than 10,000
// levels deep. Names may repeat, and numbers may have any size. A string may contain a lone
// surrogate: Python writes a file name that is not UTF-8 as "caf\udce9".
//
// # Lone surrogates
//
// Unquote encodes a lone surrogate as three bytes, as WTF-8 does
// (https://simonsapin.github.io/wtf-8). AppendQuote converts these bytes back to the original text.
// A Go string with such bytes is not valid UTF-8. Check it with IsUTF8 before you pass it to code
// that requires UTF-8.
package rawjson

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Options returns options for the packages jsontext and json. With these options, both packages
// accept the same JSON as this package. They also accept invalid UTF-8, so the caller must check
// that the text is valid UTF-8.
func Options() jsontext.Options { return options }

var options = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// IsValid reports whether b is one JSON value.
func IsValid(b []byte) bool {
	return isTrivial(b) || utf8.Valid(b) && jsontext.Value(b).IsValid(options)
}

// Compact returns b without the white space between tokens. ok reports whether b is one valid JSON
// value. Compact does not modify b.
func Compact(b []byte) (compact []byte, ok bool) {
	if isTrivial(b) {
		return b, true
	}
	if !utf8.Valid(b) {
		return nil, false
	}
	if bytes.IndexByte(b, ' ') < 0 && bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\t') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return b, jsontext.Value(b).IsValid(options) // the usual case: b is compact
	}
	v := jsontext.Value(bytes.Clone(b))
	if v.Compact(options) != nil {
		return nil, false
	}
	return v, true
}

// isTrivial reports whether b is a literal, an empty value or a short natural number. Many results
// are, and this test is much faster than the JSON parser.
func isTrivial(b []byte) bool {
	switch string(b) {
	case "null", "true", "false", "0", `""`, "{}", "[]":
		return true
	}
	if len(b) == 0 || len(b) > 18 || b[0] == '0' {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// Unquote decodes quoted, which must be a valid JSON string. A lone surrogate in it becomes three
// bytes of the result.
func Unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	b := make([]byte, 0, len(inner))
	for len(inner) > 0 {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			return string(append(b, inner...))
		}
		b = append(b, inner[:i]...)
		c := inner[i+1]
		inner = inner[i+2:]
		switch c {
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			var r rune
			r, inner = codeUnit(inner)
			if utf16.IsSurrogate(r) && len(inner) >= 6 && inner[0] == '\\' && inner[1] == 'u' {
				low, rest := codeUnit(inner[2:])
				if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
					r, inner = pair, rest
				}
			}
			b = appendRune(b, r)
		default: // the escape of ", \ or /
			b = append(b, c)
		}
	}
	return string(b)
}

// codeUnit decodes the four hexadecimal digits at the start of b, and returns the rest of b.
func codeUnit(b []byte) (r rune, rest []byte) {
	for _, c := range b[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r, b[4:]
}

func appendRune(b []byte, r rune) []byte {
	if utf16.IsSurrogate(r) {
		return append(b, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0xbf, 0x80|byte(r)&0xbf)
	}
	return utf8.AppendRune(b, r)
}

// AppendQuote appends s as a JSON string. Three bytes that encode a lone surrogate become an
// escape, such as \udce9. Each other byte that is not valid UTF-8 becomes U+FFFD.
func AppendQuote[T ~string | ~[]byte](b []byte, s T) []byte {
	if isPlain(s) { // most strings; several times faster
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	if utf8.ValidString(string(s)) {
		b, _ = jsontext.AppendQuote(b, s)
		return b
	}
	text := string(s)
	b = append(b, '"')
	for text != "" {
		i := nextSurrogate(text)
		part, _ := jsontext.AppendQuote(nil, text[:i]) // the error only reports that U+FFFD was inserted
		b = append(b, part[1:len(part)-1]...)
		if i == len(text) {
			break
		}
		b = fmt.Appendf(b, `\u%04x`, surrogateAt(text, i))
		text = text[i+3:]
	}
	b = append(b, '"')
	return b
}

// isPlain reports whether s consists of printable ASCII characters that are not escaped in JSON.
func isPlain[T ~string | ~[]byte](s T) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// nextSurrogate returns the index of the first encoded surrogate in s, or len(s).
func nextSurrogate(s string) int {
	for i := 0; i+2 < len(s); i++ {
		if s[i] == 0xed && s[i+1]&0xe0 == 0xa0 && s[i+2]&0xc0 == 0x80 {
			return i
		}
	}
	return len(s)
}

// IsUTF8 reports whether s is valid UTF-8. A result of Unquote is valid UTF-8 unless it contains a
// lone surrogate.
func IsUTF8(s string) bool { return utf8.ValidString(s) }

// A String is a type for fields that package json decodes. It decodes a JSON string with Unquote.
type String string

// UnmarshalJSON implements json.Unmarshaler.
func (s *String) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return errors.New("the JSON value is not a string")
	}
	*s = String(Unquote(b))
	return nil
}

// A FileName is a type for fields that package json decodes. It decodes a file name or an argument
// that Python has written. Python writes a byte that is not valid UTF-8 as a lone surrogate from
// U+DC80 to U+DCFF (PEP 383, https://peps.python.org/pep-0383).
type FileName string

// UnmarshalJSON implements json.Unmarshaler.
func (f *FileName) UnmarshalJSON(b []byte) error {
	var s String
	if err := s.UnmarshalJSON(b); err != nil {
		return err
	}
	text := string(s)
	var name []byte
	for {
		i := nextSurrogate(text)
		name = append(name, text[:i]...)
		if i == len(text) {
			break
		}
		if r := surrogateAt(text, i); r >= 0xdc80 && r <= 0xdcff {
			name = append(name, byte(r-0xdc00))
		} else {
			name = append(name, text[i:i+3]...)
		}
		text = text[i+3:]
	}
	*f = FileName(name)
	return nil
}

// surrogateAt decodes the surrogate that the three bytes at text[i] encode.
func surrogateAt(text string, i int) rune {
	return rune(text[i]&0x0f)<<12 | rune(text[i+1]&0x3f)<<6 | rune(text[i+2]&0x3f)
}
