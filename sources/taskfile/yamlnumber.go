package taskfile

import (
	"math/big"
	"strings"
)

// maxDigits bounds the work of turning a number to base ten. A decimal one
// may be of any length.
const maxDigits = 1000

// number writes a YAML number as a JSON number, and reports whether it is one.
// What is JSON already stays as it is, whatever its size and precision.
func number(s string) (string, bool) {
	if s == "" || !isDigit(s[0]) && s[0] != '+' && s[0] != '-' && s[0] != '.' {
		return "", false
	}
	if s[0] != '.' {
		s = strings.ReplaceAll(s, "_", "")
	}
	rest, sign := s, ""
	if rest != "" && (rest[0] == '+' || rest[0] == '-') {
		sign, rest = strings.TrimPrefix(rest[:1], "+"), rest[1:]
	}
	whole, rest := digits(rest)
	fraction := ""
	isFraction := strings.HasPrefix(rest, ".")
	if isFraction {
		fraction, rest = digits(rest[1:])
	}
	if whole == "" && fraction == "" {
		return "", false
	}
	exponent := rest
	if rest != "" && (rest[0] == 'e' || rest[0] == 'E') {
		power := rest[1:]
		if power != "" && (power[0] == '+' || power[0] == '-') {
			power = power[1:]
		}
		if power, rest = digits(power); power == "" {
			return "", false
		}
	}
	isPlain := !isFraction && exponent == ""
	if rest != "" || isPlain && len(whole) > 1 && whole[0] == '0' {
		// Hexadecimal, octal or binary, by its prefix.
		if len(s) <= maxDigits {
			if n, ok := new(big.Int).SetString(s, 0); ok {
				return n.String(), true
			}
		}
		if rest != "" {
			return "", false
		}
	}
	whole = strings.TrimLeft(whole, "0")
	if whole == "" {
		whole = "0"
	}
	if fraction != "" {
		fraction = "." + fraction
	}
	return sign + whole + fraction + exponent, true
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
