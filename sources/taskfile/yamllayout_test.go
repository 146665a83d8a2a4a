package taskfile_test

import (
	"strings"
	"testing"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// yamlLayouts contains values as in most files. block and flow report which styles can express the value.
var yamlLayouts = []struct {
	yaml, json  string
	block, flow bool
}{
	{"5", "5", true, true}, {"-3", "-3", true, true}, {"-0", "-0", true, true}, {"2.50", "2.50", true, true},
	{"1e3", "1e3", true, true}, {"1.0E+2", "1.0E+2", true, true}, {"1e400", "1e400", true, true}, {"-1E-7", "-1E-7", true, true},
	{"12345678901234567890123", "12345678901234567890123", true, true},
	{"true", "true", true, true}, {"false", "false", true, true}, {"null", "null", true, true}, {"", "null", true, false},
	{"word", `"word"`, true, true}, {"some words", `"some words"`, true, true}, {"two  spaces", `"two  spaces"`, true, true},
	{"trailing  ", `"trailing"`, true, true}, {"truest", `"truest"`, true, true}, {"nullable true", `"nullable true"`, true, true},
	{"s3://bucket/a-b_c.d", `"s3://bucket/a-b_c.d"`, true, true}, {"https://x.y:80/z?a=b&c", `"https://x.y:80/z?a=b&c"`, true, true},
	{"/path", `"/path"`, true, true}, {"$HOME/x", `"$HOME/x"`, true, true}, {"(x)", `"(x)"`, true, true}, {"_x", `"_x"`, true, true},
	{"a:b:c", `"a:b:c"`, true, true}, {"Hello, world", `"Hello, world"`, true, false}, {"a[0]{1}", `"a[0]{1}"`, true, false},
	{"a - b ! c & d * e | f > g % h @ i ` j", "\"a - b ! c & d * e | f > g % h @ i ` j\"", true, true},
	{`it's "it" \n`, `"it's \"it\" \\n"`, true, true}, {"ééé 日本", `"ééé 日本"`, true, true}, {"日本，x", `"日本，x"`, true, true},
	{"3f2b8c1e-0d4a-4e6f-9b7a-5c3d2e1f0a9b", `"3f2b8c1e-0d4a-4e6f-9b7a-5c3d2e1f0a9b"`, true, true},
	{"1234abcd-1", `"1234abcd-1"`, true, true}, {"5500000e-e29b-41d4", `"5500000e-e29b-41d4"`, true, true}, {"12-34", `"12-34"`, true, true},
	{`""`, `""`, true, true}, {`"x"`, `"x"`, true, true}, {`"# a: b, - c {}[]"`, `"# a: b, - c {}[]"`, true, true}, {`"2024-01-02"`, `"2024-01-02"`, true, true},
	{`"\"\\\b\f\n\r\t"`, `"\"\\\b\f\n\r\t"`, true, true}, {`"\u00e9\u20AC\u007f\ufeff\u2028"`, "\"é€\u007f\ufeff\u2028\"", true, true},
	{"''", `""`, true, true}, {"'x'", `"x"`, true, true}, {`'"\n" # : '`, `"\"\\n\" # : "`, true, true}, {"'é\U0001F600'", "\"é\U0001F600\"", true, true},
	{"[]", "[]", true, true}, {"{}", "{}", true, true}, {"[ ]", "[]", true, true}, {"[1, 2.5, -3]", "[1,2.5,-3]", true, true}, {"[1,2]", "[1,2]", true, true},
	{"[ a , 'b' , \"c\" , d e ]", `["a","b","c","d e"]`, true, true}, {"[[1, [2]], {a: [3]}]", `[[1,[2]],{"a":[3]}]`, true, true},
	{`{"a":1,"b":"c","d":-1}`, `{"a":1,"b":"c","d":-1}`, true, true}, {"{a: b, c: {d: [e]}, 'f':g}", `{"a":"b","c":{"d":["e"]},"f":"g"}`, true, true},
	{"{\n    \"a\": [\n  1,\n  2\n],\n   b:\n 3\n }", `{"a":[1,2],"b":3}`, true, true}, {`{"": 1, "a b": 2, "<<": 3, 'true': 4}`, `{"":1,"a b":2,"<<":3,"true":4}`, true, true},
	{"{x: 1, y: 2, no: 3, _z: 4}", `{"x":1,"y":2,"no":3,"_z":4}`, true, true},
	{`{a: {k: 1}, b: {k: 1}, k: 1}`, `{"a":{"k":1},"b":{"k":1},"k":1}`, true, true},
	{"\n    k: v\n    l: w", `{"k":"v","l":"w"}`, true, false}, {"\n      k: v\n\n   \n      l:\n  ", `{"k":"v","l":null}`, true, false},
	{"\n    k:\n      l:\n        m: 1\n    n: 2", `{"k":{"l":{"m":1}},"n":2}`, true, false}, {"\n    \"k\": v\n    'l m': w", `{"k":"v","l m":"w"}`, true, false},
	{"\n  - a\n  - b: c\n    d: e\n  - [1]", `["a",{"b":"c","d":"e"},[1]]`, true, false}, {"\n    - a\n    - b", `["a","b"]`, true, false},
	{"\n    - - 1\n      - 2\n    - -   3", "[[1,2],[3]]", true, false}, {"\n    -   k: v\n        l: w\n    - \"a\": b", `[{"k":"v","l":"w"},{"a":"b"}]`, true, false},
	{"\n    - k:\n      - 1\n      - 2\n      l:\n        - 3\n    - m:\n", `[{"k":[1,2],"l":[3]},{"m":null}]`, true, false},
	{"\n    a: [1,\n  2]\n    b: {}", `{"a":[1,2],"b":{}}`, true, false}, {"\n  - s3://x/y\n  - a:b\n  - -1", `["s3://x/y","a:b",-1]`, true, false},
}

func TestYAMLLayouts(t *testing.T) {
	t.Parallel()
	for _, v := range yamlLayouts {
		var texts []string
		if v.block {
			texts = append(texts, "- task_id: x-1\n  data: "+v.yaml+"\n", "- data: "+v.yaml+"\n  other: 1\n  \"task_id\":   'x-1'",
				"   - task_id:  x-1  \n     other:\n     - "+"1\n     data: "+strings.ReplaceAll(v.yaml, "\n", "\n   ")+"\n\n\n")
		}
		if v.flow {
			texts = append(texts, "- {task_id: x-1, data: "+v.yaml+"}\n", "- {\"data\":"+v.yaml+",\"task_id\":\"x-1\",'other':{}}  \n\n", "---\n[{task_id: x-1, data: "+v.yaml+"}]\n",
				"---\n[\n{\n 'task_id':'x-1'\n,\n\"data\":"+v.yaml+"\n}\n,\n]")
		}
		for _, text := range texts {
			for _, text := range []string{text, strings.ReplaceAll(text, "\n", "\r\n")} {
				got, err := readAll(t, "-", taskfile.Options{Stdin: strings.NewReader(text)})
				if err != nil || len(got) != 1 || got[0] != (task{"x-1", v.json}) {
					t.Errorf("%q: got %v, error %v; want %s", text, got, err, v.json)
				}
			}
		}
	}
}
