// Package rawjsontest provides JSON values for tests of code that passes JSON on.
package rawjsontest

import "strings"

// Corpus returns JSON values that must be passed on byte for byte. The values contain no white
// space between tokens, because compaction would remove it.
func Corpus() []string {
	return []string{
		`null`, `true`, `0`, `-0`, `1.50`, `1E+2`, `123456789012345678901234567890`, `1e400`, `0.1000000000000000055511151231257827`,
		strings.Repeat("7", 5000),
		`""`, `"a"`, `"\u0061\/"`, `"\u0000"`, `"\ud83d\ude00"`, "\"\U0001f600\"", "\"\u007f\u0085\u2028\"", "\"\uffff\"",
		`"caf\udce9"`, `"\udce9"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\uDCE9"`, `["\ud800",{"\udfff":"\ud800\ud800"}]`,
		`{"file":"caf\udce9"}`, `{"caf\udce9":1}`, `{"\udce9":1,"\udce8":2}`,
		`{"a":1,"a":2}`, `{"":0}`, `{"a":{"b":[1,{"c":null}]}}`,
		strings.Repeat("[", 500) + strings.Repeat("]", 500),
	}
}
