package rawjson

import "bytes"

// IntegerID returns the task ID of a task whose ID in the source is an integer. The task ID is the
// text of the integer. IntegerID returns false if text is not a decimal integer in JSON notation.
// For example, it returns false for 1.0, 1e3 and 007, because it is ambiguous which digits to use.
func IntegerID(text []byte) (string, bool) {
	digits := bytes.TrimPrefix(text, []byte("-"))
	if len(digits) == 0 || len(digits) > 1 && digits[0] == '0' {
		return "", false
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	return string(text), true
}
