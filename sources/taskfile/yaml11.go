package taskfile

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
)

// An Ambiguity describes an unquoted value in a YAML file that YAML 1.1 and YAML 1.2
// read differently. Many programs, such as PyYAML, still read YAML 1.1. To remove the
// ambiguity, quote the value, or write it in a form that both versions read the same way.
type Ambiguity struct {
	File  string // as in an Error
	Entry int64  // the number of the entry, from 1
	Line  int64  // the line of the value, from 1
	Value string // the value as written in the file; a long value is truncated

	// Here describes the value that the task gets, and YAML11 describes the value that
	// YAML 1.1 reads, such as "the number 100" or "a string".
	Here, YAML11 string
}

// The scalar types of PyYAML's safe_load, from its resolver.py. They are the types of
// YAML 1.1 (https://yaml.org/type/), except that y and n are strings.
var (
	yaml11Int = regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|` +
		`[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$`)
	yaml11Float = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|` +
		`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	yaml11Date = regexp.MustCompile(`^[0-9]{4}-(?:[0-9]{2}-[0-9]{2}|[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}` +
		`(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)
)

// differsInYAML11 reports whether YAML 1.1 and this package read the plain scalar text differently.
// here is the value that this package reads, and there describes the value that YAML 1.1 reads.
func differsInYAML11(text string, here scalar) (there string, differs bool) { //nolint:gocyclo // one case per syntax of a scalar
	switch text[:min(len(text), 1)] {
	case "y", "Y", "n", "N", "o", "O":
		switch text {
		case "yes", "Yes", "YES", "on", "On", "ON":
			return "true", true
		case "no", "No", "NO", "off", "Off", "OFF":
			return "false", true
		}
		return "", false
	case "=", "<":
		return "an error", text == "=" || text == "<<"
	case "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "+", "-", ".":
	default:
		return "", false
	}
	if strings.Trim(text, "0123456789abcdefABCDEFxTtZ_:.+- \t") != "" && here.kind == stringScalar {
		return "", false
	}
	switch {
	case len(text) > maxDigits: // not converted, because that could take long
		isAlike := here.kind == intScalar && text == here.json || here.kind == floatScalar && yaml11Float.MatchString(text)
		return "another value", !isAlike && (here.kind != stringScalar || yaml11Int.MatchString(text) || yaml11Float.MatchString(text))
	case yaml11Int.MatchString(text):
		n := yaml11Value(text)
		if n == "" {
			return "an error", true
		}
		same := here.kind == intScalar && (n == here.json || "-"+n == here.json && n == "0")
		return "the number " + n, !same
	case yaml11Float.MatchString(text):
		return "a number", here.kind == stringScalar
	case yaml11Date.MatchString(text):
		return "a date", true
	default:
		return "a string", here.kind != stringScalar
	}
}

// yaml11Value returns the decimal digits of a YAML 1.1 integer, or "" if it has no digits,
// such as 0b_.
func yaml11Value(s string) string {
	s = strings.ReplaceAll(s, "_", "")
	sign, number := "", strings.TrimLeft(s, "+-")
	if s[0] == '-' {
		sign = "-"
	}
	n := new(big.Int)
	switch {
	case strings.Contains(number, ":"): // base 60
		for part := range strings.SplitSeq(number, ":") {
			digit, _ := new(big.Int).SetString(part, 10)
			n.Add(n.Mul(n, big.NewInt(60)), digit)
		}
	default:
		base := 10
		switch {
		case strings.HasPrefix(number, "0b"):
			number, base = number[2:], 2
		case strings.HasPrefix(number, "0x"):
			number, base = number[2:], 16
		case len(number) > 1 && number[0] == '0':
			base = 8
		}
		if _, ok := n.SetString(number, base); !ok {
			return ""
		}
	}
	if n.Sign() == 0 {
		sign = ""
	}
	return sign + n.String()
}

// describe names a resolved scalar for an Ambiguity.
func describe(text string, s scalar) string {
	switch s.kind {
	case stringScalar:
		return fmt.Sprintf("the string %q", excerpt(text))
	case intScalar, floatScalar:
		return "the number " + excerpt(s.json)
	default:
		return s.json
	}
}
