package taskfile

import (
	"fmt"
	"math/big"
	"strings"
)

// The tags of the core schema and three tags of YAML 1.1, in the parser's short form.
const (
	nullTag      = "!!null"
	boolTag      = "!!bool"
	strTag       = "!!str"
	intTag       = "!!int"
	floatTag     = "!!float"
	timestampTag = "!!timestamp"
	binaryTag    = "!!binary"
	mergeTag     = "!!merge"
	seqTag       = "!!seq"
	mapTag       = "!!map"
)

// maxDigits limits the work of converting a hexadecimal or octal number to decimal.
// Decimal numbers are not converted and may have any length.
const maxDigits = 1000

// A scalarKind is the type of a scalar in the core schema of YAML 1.2.
type scalarKind uint8

const (
	stringScalar scalarKind = iota
	nullScalar
	boolScalar
	intScalar
	floatScalar
	nonFiniteScalar // .inf and .nan, which JSON does not have
)

func (k scalarKind) String() string {
	switch k {
	case nullScalar:
		return "null"
	case boolScalar:
		return "true or false"
	case intScalar, floatScalar, nonFiniteScalar:
		return "a number"
	default:
		return "a string"
	}
}

// A scalar is a resolved YAML scalar.
type scalar struct {
	kind scalarKind
	json string // the value as JSON; "" for a string
}

// resolve determines the type and the value of a scalar with the core schema of YAML 1.2
// (https://yaml.org/spec/1.2.2/#103-core-schema). text is the content of the scalar, plain reports
// that the scalar is neither quoted nor a block scalar, and tag is its explicit tag, or "". A value
// with one of the YAML 1.1 tags timestamp, binary and merge is a string. If the scalar cannot be
// converted to JSON, fault is the reason.
func resolve(text string, plain bool, tag string) (s scalar, fault string) {
	switch tag {
	case "":
		if !plain {
			return scalar{}, ""
		}
		s = coreScalar(text)
	case strTag, timestampTag, binaryTag, mergeTag:
		return scalar{}, ""
	case nullTag, boolTag, intTag, floatTag:
		s = coreScalar(text)
		if s.kind == intScalar && tag == floatTag && s.json != "" {
			s = scalar{floatScalar, s.json + ".0"}
		}
		if want := kindOfTag(tag); s.kind != want && (want != floatScalar || s.kind != nonFiniteScalar) {
			return s, fmt.Sprintf("%q is not %s, as its tag %s requires", excerpt(text), want, tag)
		}
	default:
		return s, unknownTag(tag)
	}
	switch {
	case s.kind == nonFiniteScalar:
		return s, fmt.Sprintf("%s cannot be represented in JSON: use a number, a string or null", text)
	case s.kind == intScalar && s.json == "":
		return s, fmt.Sprintf("a hexadecimal or octal number of more than %d digits is not supported: quote it, or write it as a decimal number", maxDigits)
	}
	return s, ""
}

func unknownTag(tag string) string {
	return fmt.Sprintf("the tag %s is not supported: remove it", excerpt(tag))
}

func kindOfTag(tag string) scalarKind {
	switch tag {
	case nullTag:
		return nullScalar
	case boolTag:
		return boolScalar
	case intTag:
		return intScalar
	default:
		return floatScalar
	}
}

// coreScalar resolves a plain scalar without a tag.
func coreScalar(s string) scalar {
	switch s {
	case "", "~", "null", "Null", "NULL":
		return scalar{nullScalar, "null"}
	case "true", "True", "TRUE":
		return scalar{boolScalar, "true"}
	case "false", "False", "FALSE":
		return scalar{boolScalar, "false"}
	case ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF":
		return scalar{kind: nonFiniteScalar}
	}
	if c := s[0]; !isDigit(c) && c != '+' && c != '-' && c != '.' {
		return scalar{}
	}
	if n, base := based(s); base > 0 {
		if len(n) > maxDigits {
			return scalar{kind: intScalar}
		}
		value, _ := new(big.Int).SetString(n, base) // only digits, so it succeeds
		return scalar{intScalar, value.String()}
	}
	return decimal(s)
}

// based returns the digits of an octal (0o17) or hexadecimal (0x1F) number and
// its base, or base 0 if s is neither.
func based(s string) (number string, base int) {
	if len(s) < 3 || s[0] != '0' {
		return "", 0
	}
	number = s[2:]
	switch {
	case s[1] == 'o' && strings.Trim(number, "01234567") == "":
		return number, 8
	case s[1] == 'x' && strings.Trim(number, "0123456789abcdefABCDEF") == "":
		return number, 16
	}
	return "", 0
}

// decimal resolves a decimal number. The JSON number has all digits of s except leading zeros. If s
// is not a decimal number, decimal resolves it as a string.
func decimal(s string) scalar { //nolint:gocyclo // one step per part of a number
	rest, sign := s, ""
	if rest[0] == '+' || rest[0] == '-' {
		sign, rest = strings.TrimPrefix(rest[:1], "+"), rest[1:]
	}
	whole, rest := digits(rest)
	fraction, hasPoint := "", strings.HasPrefix(rest, ".")
	if hasPoint {
		fraction, rest = digits(rest[1:])
	}
	if whole == "" && fraction == "" {
		return scalar{}
	}
	exponent := rest
	if rest != "" {
		if rest[0]|0x20 != 'e' {
			return scalar{}
		}
		power := rest[1:]
		if power != "" && (power[0] == '+' || power[0] == '-') {
			power = power[1:]
		}
		if power, rest = digits(power); power == "" || rest != "" {
			return scalar{}
		}
	}
	kind := intScalar
	switch {
	case fraction != "":
		kind, fraction = floatScalar, "."+fraction
	case exponent != "":
		kind = floatScalar
	case hasPoint:
		kind, fraction = floatScalar, ".0"
	}
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	if kind == intScalar && len(whole) == len(s) {
		return scalar{kind, s}
	}
	return scalar{kind, sign + whole + fraction + exponent}
}

// digits splits s after its leading digits.
func digits(s string) (run, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// excerpt shortens a value for a message.
func excerpt(s string) string {
	const maxLength = 60
	if len(s) <= maxLength {
		return s
	}
	return strings.ToValidUTF8(s[:maxLength], "") + "…"
}
