package taskfile

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The YAML parser refuses or misreads some text that YAML 1.2 allows:
//
//   - in double-quoted strings, the escape \/ and surrogate pairs such as
//     \ud83d\ude00, both of which JSON has;
//   - in flow style, a ? within an unquoted scalar (http://host/x?y), and a
//     ? or : that begins an unquoted scalar (::1);
//   - anchors such as &a:b, which the parser would read as the anchor a and the value :b;
//     it rejects the anchor if the colon is masked;
//   - U+0085, U+2028 and U+2029, which are line breaks in YAML 1.1; and
//   - characters such as DEL that are allowed in quotes only.
//
// Before the text is parsed, appendMasked replaces each of these with a sequence that the parser
// reads as letters in every context. unmask restores the original text in the values that the
// parser returns. The meaning of a sequence depends on the style of the value, which the parser
// reports: \/ is a slash in double quotes, and a backslash and a slash elsewhere.
// Therefore appendMasked need not know whether text is quoted, a comment or a block scalar.
//
// A sequence consists of maskRune and a letter. After some letters, hexadecimal digits follow.
// maskRune itself, a private-use character, is masked too.
const (
	maskRune = '\uE7C7'
	mask     = string(maskRune)

	maskedItself   = 'm'
	maskedQuestion = 'q' // ?
	maskedColon    = 'c' // :
	maskedSlash    = 's' // \/
	maskedEscape   = 'u' // \uXXXX, with the digits
	maskedLong     = 'w' // \UXXXXXXXX, with the digits
	maskedNextLine = 'n' // U+0085
	maskedLineSep  = 'l' // U+2028
	maskedParaSep  = 'p' // U+2029
	maskedInQuotes = 'x' // a character that is allowed in quotes only, as four digits
)

// maskedDigits maps the code of an escape to the number of its hexadecimal digits, and escapeLetter
// maps the code to the letter of the escape.
var (
	maskedDigits = map[byte]int{maskedEscape: 4, maskedLong: 8}
	escapeLetter = map[byte]byte{maskedEscape: 'u', maskedLong: 'U'}
)

// isMaskable is true for each byte that can begin text that must be masked.
var isMaskable = func() (table [256]bool) {
	for _, c := range []byte("\\?:\x7F\xC2\xE2\xEE\xEF") {
		table[c] = true
	}
	return table
}()

// appendMasked appends text to out, and masks what the parser would misread. It reports
// whether it masked anything.
func appendMasked(out, text []byte) (masked []byte, isMasked bool) {
	done := 0
	for i := 0; i < len(text); {
		if !isMaskable[text[i]] {
			i++
			continue
		}
		n, code := maskable(text, i)
		if code != "" {
			out = append(append(append(out, text[done:i]...), mask...), code...)
			done = i + n
		}
		i += n
	}
	return append(out, text[done:]...), done > 0
}

// maskable returns the length of the unit at text[i], and the code that masks the unit. The code is
// "" if the unit need not be masked.
func maskable(text []byte, i int) (n int, code string) {
	switch c := text[i]; {
	case c == '\\':
		return maskableEscape(text, i)
	case c == '?':
		if isQuestionOfScalar(text, i) {
			return 1, string(maskedQuestion)
		}
		return 1, ""
	case c == ':':
		if startsWithColon(text, i) || isOfAnchor(text, i) {
			return 1, string(maskedColon)
		}
		return 1, ""
	}
	r, n := utf8.DecodeRune(text[i:])
	switch {
	case r == maskRune:
		return n, string(maskedItself)
	case r == '\u0085':
		return n, string(maskedNextLine)
	case r == '\u2028':
		return n, string(maskedLineSep)
	case r == '\u2029':
		return n, string(maskedParaSep)
	case r >= 0x7F && r < 0xA0, r == '\uFEFF', r == '\uFFFE', r == '\uFFFF':
		return n, string(maskedInQuotes) + hex4(r)
	}
	return n, ""
}

func hex4(r rune) string {
	s := strconv.FormatUint(uint64(r), 16)
	return "0000"[len(s):] + s
}

// maskableEscape implements maskable for a backslash. Two backslashes are one unit, so only the
// last of an odd number of backslashes can begin an escape.
func maskableEscape(text []byte, i int) (n int, code string) {
	switch {
	case i+1 == len(text):
		return 1, ""
	case text[i+1] == '\\':
		return 2, ""
	}
	code = string(maskedEscape)
	switch text[i+1] {
	case '/':
		return 2, string(maskedSlash)
	case 'u':
	case 'U':
		code = string(maskedLong)
	default:
		return 1, ""
	}
	size := maskedDigits[code[0]]
	if i+2+size > len(text) {
		return 1, ""
	}
	digits := string(text[i+2 : i+2+size])
	r, err := strconv.ParseUint(digits, 16, 32)
	if err != nil || r != maskRune && (r < 0xD800 || r > 0xDFFF || size == 8) {
		return 1, ""
	}
	return 2 + size, code + digits
}

// isQuestionOfScalar reports whether the ? at text[i] belongs to an unquoted scalar, on the
// assumption that the ? is in a flow collection. Outside of flow collections, masking a ? has no
// effect, unless the ? begins an explicit key. A ? that begins an explicit key must not be masked.
func isQuestionOfScalar(text []byte, i int) bool {
	if i+1 < len(text) && !isBlank(text[i+1]) && !isFlowIndicator(text[i+1]) {
		return true
	}
	if i == 0 || isFlowIndicator(text[i-1]) {
		return false
	}
	if !isBlank(text[i-1]) {
		return true
	}
	for i--; i >= 0 && (text[i] == ' ' || text[i] == '\t'); i-- {
	}
	return i >= 0 && !isBlank(text[i]) && !isFlowIndicator(text[i]) && strings.IndexByte(`:?-"'`, text[i]) < 0
}

// isOfAnchor reports whether the character at text[i] continues the name of an anchor or an
// alias.
func isOfAnchor(text []byte, i int) bool {
	if i+1 == len(text) || isBlank(text[i+1]) || isFlowIndicator(text[i+1]) {
		return false
	}
	for i--; i > 0 && (isDigit(text[i]) || 'a' <= text[i]|0x20 && text[i]|0x20 <= 'z' || text[i] == '_' || text[i] == '-'); i-- {
	}
	return i >= 0 && (text[i] == '&' || text[i] == '*') && (i == 0 || isBlank(text[i-1]) || isFlowIndicator(text[i-1]))
}

// startsWithColon reports whether the : at text[i] is the first character of an unquoted scalar,
// instead of a separator between a key and a value.
func startsWithColon(text []byte, i int) bool {
	if i+1 == len(text) || isBlank(text[i+1]) || isFlowIndicator(text[i+1]) {
		return false
	}
	if i > 0 && !isBlank(text[i-1]) && !isFlowIndicator(text[i-1]) {
		return false
	}
	for i--; i >= 0 && isBlank(text[i]); i-- {
	}
	return i < 0 || strings.IndexByte(",[{:?-", text[i]) >= 0
}

// singleMasks maps each code that always stands for the same character to that character.
var singleMasks = map[byte]rune{
	maskedItself: maskRune, maskedQuestion: '?', maskedColon: ':',
	maskedNextLine: '\u0085', maskedLineSep: '\u2028', maskedParaSep: '\u2029',
}

// unmask restores the text of a scalar that was parsed from masked text. ok is false if the
// scalar is not quoted and contains a character that is allowed in quotes only.
func unmask(s string, isDoubleQuoted, isQuoted bool) (text string, ok bool) {
	before, rest, found := strings.Cut(s, mask)
	if !found {
		return s, true
	}
	out := []byte(before)
	ok = true
	for found {
		code := rest[0]
		rest = rest[1:]
		switch code {
		case maskedSlash:
			if !isDoubleQuoted {
				out = append(out, '\\')
			}
			out = append(out, '/')
		case maskedEscape, maskedLong:
			size := maskedDigits[code]
			if isDoubleQuoted {
				out = appendRune(out, parseHex(rest[:size]))
			} else {
				out = append(append(out, '\\', escapeLetter[code]), rest[:size]...)
			}
			rest = rest[size:]
		case maskedInQuotes:
			out = appendRune(out, parseHex(rest[:4]))
			rest = rest[4:]
			ok = ok && isQuoted
		default:
			out = utf8.AppendRune(out, singleMasks[code])
		}
		before, rest, found = strings.Cut(rest, mask)
		out = append(out, before...)
	}
	return string(out), ok
}

func parseHex(digits string) rune {
	n, _ := strconv.ParseUint(digits, 16, 32) // appendMasked has checked them
	return rune(n)                            //nolint:gosec // it is at most utf8.MaxRune
}

// appendRune appends r, which may be a surrogate. If r completes a surrogate pair, both
// become one character. A lone surrogate becomes three bytes, as in package rawjson.
func appendRune(out []byte, r rune) []byte {
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(out, r)
	}
	if high, ok := surrogateAt(out, len(out)-surrogateSize); ok {
		if pair := utf16.DecodeRune(high, r); pair != utf8.RuneError {
			return utf8.AppendRune(out[:len(out)-surrogateSize], pair)
		}
	}
	return append(out, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
}

const surrogateSize = 3 // in bytes

// surrogateAt returns the surrogate at s[i].
func surrogateAt(s []byte, i int) (rune, bool) {
	if i < 0 || i+surrogateSize > len(s) || s[i] != 0xED || s[i+1] < 0xA0 {
		return 0, false
	}
	return 0xD000 | rune(s[i+1]&0x3F)<<6 | rune(s[i+2]&0x3F), true
}
