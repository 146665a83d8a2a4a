package taskfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ctworker/ctworker/pipeline"
)

// failer is what the tests, the fuzzer and rapid have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compareFast splits text into entries and compares what becomes of each. It
// returns how many there are, and how many fastYAML takes.
func compareFast(t failer, text string, limit int64) (taken, all int) {
	t.Helper()
	y := newYAML(newText(strings.NewReader(text)), limit)
	for y.split() == nil {
		all++
		if compareChunk(t, y) {
			taken++
		}
	}
	// It must not count on the text's being split well, either.
	y = newYAML(newText(strings.NewReader(text)), limit)
	y.chunk = []byte(text)
	compareChunk(t, y)
	return taken, all
}

// compareChunk checks that the entry at hand comes out of fastYAML, if that
// takes it, as out of the parser.
func compareChunk(t failer, y *yamlEntries) bool {
	t.Helper()
	got, ok := y.fastTask(true)
	if !ok {
		return false
	}
	if _, ok := y.fastTask(false); !ok {
		t.Fatalf("%q is taken only once", y.chunk)
	}
	want, err := y.parsedTask(true)
	if err != nil {
		t.Fatalf("limit %d: %q is taken as %q %s, but the parser says %v", y.limit, y.chunk, got.ID, got.Data, err)
	}
	if got.ID != want.ID || string(got.Data) != string(want.Data) {
		t.Fatalf("limit %d: %q is taken as %q %s, not as %q %s", y.limit, y.chunk, got.ID, got.Data, want.ID, want.Data)
	}
	if !json.Valid(got.Data) {
		t.Fatalf("%q is taken as %s, which is not JSON", y.chunk, got.Data)
	}
	return true
}

// The values that the fast path knows, in the style that each can stand in.
var fastValues = []struct {
	yaml, json  string
	block, flow bool
}{
	{"5", "5", true, true}, {"-3", "-3", true, true}, {"-0", "-0", true, true}, {"2.50", "2.50", true, true},
	{"1e3", "1e3", true, true}, {"1.0E+2", "1.0E+2", true, true}, {"1e400", "1e400", true, true}, {"-1E-7", "-1E-7", true, true},
	{"12345678901234567890123", "12345678901234567890123", true, true},
	{"true", "true", true, true}, {"false", "false", true, true}, {"null", "null", true, true}, {"", "null", true, false},
	{"word", `"word"`, true, true}, {"some words", `"some words"`, true, true}, {"two  spaces", `"two  spaces"`, true, true},
	{"trailing  ", `"trailing"`, true, true}, {"truest", `"truest"`, true, true}, {"nullable true", `"nullable true"`, true, true},
	{"s3://bucket/a-b_c.d", `"s3://bucket/a-b_c.d"`, true, true}, {"https://x.y:80/z?a=b&c", `"https://x.y:80/z?a=b&c"`, true, false},
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

func TestFastYAMLTakes(t *testing.T) {
	t.Parallel()
	for _, v := range fastValues {
		var texts []string
		if v.block {
			texts = append(texts, "- task_id: x-1\n  data: "+v.yaml+"\n", "- data: "+v.yaml+"\n  other: 1\n  \"task_id\":   'x-1'", "   - task_id:  x-1  \n     other:\n     - "+"1\n     data: "+strings.ReplaceAll(v.yaml, "\n", "\n   ")+"\n\n\n")
		}
		if v.flow {
			texts = append(texts, "- {task_id: x-1, data: "+v.yaml+"}\n", "- {\"data\":"+v.yaml+",\"task_id\":\"x-1\",'other':{}}  \n\n", "---\n[{task_id: x-1, data: "+v.yaml+"}]\n",
				"---\n[\n{\n 'task_id':'x-1'\n,\n\"data\":"+v.yaml+"\n}\n,\n]")
		}
		for _, text := range texts {
			for _, text := range []string{text, strings.ReplaceAll(text, "\n", "\r\n")} {
				y := newYAML(newText(strings.NewReader(text)), 1000)
				if err := y.split(); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				if got, ok := y.fastTask(true); !ok || got.ID != "x-1" || string(got.Data) != v.json {
					t.Errorf("%q: got %v, %q %s; want %s", text, ok, got.ID, got.Data, v.json)
				}
				compareFast(t, text, 1000)
			}
		}
	}
}

func TestFastYAMLLeaves(t *testing.T) {
	t.Parallel()
	const ok = "- task_id: x\n  data: "
	long := strings.Repeat("x", 1001)
	var keys strings.Builder
	for i := range fastKeys + 1 {
		fmt.Fprintf(&keys, "k%d: 1, ", i)
	}
	for name, texts := range map[string][]string{
		"anchors and aliases": {ok + "&x 1", ok + "[&x 1, *x]", "- {task_id: &x y, data: 1}", ok + "\n    &x k: v"},
		"tags":                {ok + "!!str 1", ok + "!x {}", ok + "[! 1]", "- !!map {task_id: x, data: 1}"},
		"merge keys":          {ok + "{<<: {a: 1}}", "- <<: {data: 1}\n  task_id: x\n", ok + "<<", ok + "[<<]"},
		"comments": {
			ok + "1 # c", ok + "1\n  # c\n", "- # c\n  task_id: x\n  data: 1\n", ok + "# c\n    1", ok + "[1, # c\n  2]", ok + "a#b", ok + "a #b",
			ok + "{\n# c\n}", ok + "\n    - 1\n#c\n",
		},
		"block scalars": {ok + "|\n    a\n", ok + ">-\n    a\n", ok + "\n  - |\n    a"},
		"scalars on more lines": {ok + "a\n    b", ok + "\"a\n    b\"", ok + "'a\n    b'", ok + "[a\n    b]", ok + "\"a\\\n  b\"", ok + "\n    a", ok + "\n    \"a\"", ok + "\n    [a]", ok + "\n    a:1",
			"- {task_id: x\n y, data: 1}", "-\n  task_id: x\n  data: 1\n", ok + "\n  -\n    a"},
		"tabs":             {ok + "\t1", ok + "1\t", "-\ttask_id: x\n  data: 1", ok + "[\t1]", ok + "a\tb", ok + "\"\t\"", ok + "'\t'", ok + "\n\tk: v", ok + "1\n\t\n"},
		"carriage returns": {ok + "1\r", ok + "a\rb", ok + "[1,\r2]", ok + "\"a\rb\"", ok + "\r  k: v", "- {task_id: x, data: 1}\r"},
		"escapes": {
			ok + `"\x41"`, ok + `"\0"`, ok + `"\/"`, ok + `"\q"`, ok + `"\e"`, ok + `"\N"`, ok + `"\U0001F600"`, ok + `"\u12"`, ok + `"\u12g4"`,
			ok + `"\ud83d\ude00"`, ok + `"\u0000"`, ok + `"\u0022"`, ok + `"\u005c"`, ok + `"\`, ok + `"\u`,
		},
		"quotes": {ok + `'it''s'`, ok + `"a`, ok + `'a`, ok + `"a"b`, ok + `'a'b`, ok + `"a" b`, ok + `["a"b]`, ok + `["a""b"]`, ok + "'", ok + "\""},
		"unusual keys": {
			ok + "{1: 2}", ok + "{true: 1}", ok + "{Null: 1}", ok + "{~: 1}", ok + "{[a]: 1}", ok + "{{a: b}: 1}", ok + "{? a : 1}",
			"- ? task_id\n  : x\n  data: 1\n", ok + "{: 1}", ok + "\n    : 1", ok + "{a b: 1}", ok + "{-a: 1}", ok + "{é: 1}", ok + "{/a: 1}", ok + "{a : 1}",
			ok + "{\"a\" : 1}", ok + "\n    a : 1", ok + "{a\n: 1}",
		},
		"colons": {
			ok + "a: b", ok + "a:", ok + "a :b", ok + "a::b", ok + ":a", ok + "[a: b]", ok + "[\"a\": b]", ok + "{a:b}", ok + "{a:1}", ok + "{a:}",
			ok + "{\"a\"::b}", ok + "\n    \"a\":b", ok + "\n    a:b", ok + "\n    a: b: c", ok + "\"a\": b", "- task_id: x:\n  data: 1",
		},
		"numbers as YAML has": {
			ok + "0x1F", ok + "0o17", ok + "017", ok + "00", ok + "0b101", ok + "1_000", ok + "+12", ok + ".5", ok + "5.", ok + "-.5", ok + "1e", ok + "1e+",
			ok + "1.e3", ok + "-", ok + "--1", ok + "1.2.3", ok + "12:30", ok + "1 2", ok + "1,2", ok + ".inf", ok + ".NaN", ok + "1ab", ok + "0b-101",
			ok + "0-1", ok + "1e-5x", ok + "-1-2",
		},
		"dates": {ok + "2024-01-02", ok + "2024-01-02T03:04:05Z", ok + "[2024-01-02]", "- task_id: 2024-01-02\n  data: 1", ok + "2024-x"},
		"words": {ok + "True", ok + "FALSE", ok + "Null", ok + "NULL", ok + "~", ok + "yes", ok + "No", ok + "ON", ok + "off", ok + "y", ok + "N", ok + "[~]"},
		"starts": {
			ok + "@x", ok + "%x", ok + "`x", ok + "=", ok + "*", ok + "&", ok + "!", ok + "|", ok + ">", ok + "?", ok + "? x", ok + "- x", ok + "-x", ok + ",",
			ok + "]", ok + "}", ok + "<x", ok + "\\x", ok + ".x", ok + "{a: ?b}",
		},
		"characters": {ok + "a\u0085b", ok + "a\u2028b", ok + "\"a\u2029b\"", ok + "'\ufeff'", ok + "\ufeffa", ok + "a\x7f", ok + "\"\x7f\"", ok + "'\x7f'", ok + "\x00", ok + "\"\x00\"", ok + "a\x01", ok + "\u0080", ok + "\"\u009f\"", ok + "\ufffe", ok + "'\uffff'", ok + "1\x00", "- {task_id: x, data: 1}\x00",
			ok + "\u2028", ok + "1\u0085", "- {task_id: x, data: 1\u2028}", ok + "\n    \ufeffk: v"},
		"keys there twice": {
			ok + "{a: 1, a: 2}", ok + "{a: 1, 'a': 2}", ok + "{\"\\u0061\": 1, a: 2}", ok + "1\n  data: 2", ok + "1\n  task_id: y",
			ok + "\n    a: 1\n    b: {}\n    a: 2", "- {task_id: x, data: 1, o: {a: 1, a: 2}}",
		},
		"indentation": {
			ok + "\n    a: 1\n   b: 2", ok + "\n    a: 1\n     b: 2", "- task_id: \"x\"  data: 1\n", ok + "1\n    x: 2", ok + "1\n   x: 2", ok + "1\n x: 2",
			ok + "1\nx: 2", ok + "\n    - 1\n   - 2", ok + "\n    - 1\n     - 2", ok + "\n    - 1\n    a: 2", ok + "\n  - 1\n - 2", ok + "[]\n    x: 1",
			"- {task_id: x,\n data: 1}\n  x: 1", ok + "\n    - k: 1\n     l: 2", ok + "\n    - k: 1\n       l: 2", ok + "\n    a: 1\n    - 2", ok + "1\n  - 2",
		},
		"flow, not whole": {
			ok + "[1", ok + "{a: 1", ok + "[1}", ok + "{a: 1]", ok + "[1 2]", ok + "[,]", ok + "[1,]", ok + "[1,,2]", ok + "{a: 1,}", ok + "{a}", ok + "{a: }",
			ok + "{a: 1 b: 2}", ok + "[1] 2", ok + "[1]]", ok + "{} {}", ok + "[a{b}]", ok + "[a?b]", ok + "[- 1]", ok + "{a:\n}",
		},
		"not a task": {
			"- x", "-", "- ", "- []", "- {}", "- - task_id: x\n", "- task_id: x\n", "- data: 1\n", ok[:len(ok)-len("  data: ")], "- {task_id: x}",
			"- task_id: ''\n  data: 1", "- task_id: \"\"\n  data: 1", "- task_id: 5\n  data: 1", "- task_id: null\n  data: 1", "- task_id:\n  data: 1",
			"- task_id: true\n  data: 1", "- task_id: [x]\n  data: 1", "- {task_id: {}, data: 1}", "[x]", "[{task_id: x, data: 1} x]",
			"---\n[task_id: x, {data: 1}]", "- {data: {task_id: x, data: 1}}",
		},
		"document markers": {ok + "[1,\n---x: 1]", "- {task_id: x,\n... , data: 1}"},
		"bounds": {
			ok + "{" + long + ": 1}", ok + "{\"" + long + "\": 1}", ok + strings.Repeat("[", 100) + strings.Repeat("]", 100),
			ok + "\n    " + strings.Repeat("- ", 100) + "x", ok + "{" + keys.String() + "z: 1}",
		},
		"directives, inner": {ok + "[1,\n%x]", "- {task_id: x,\n%x: y, data: 1}"},
	} {
		for _, text := range texts {
			y := newYAML(newText(strings.NewReader(text)), 100_000)
			var got pipeline.Task
			taken, all := false, 0
			err := y.split()
			for ; err == nil; err = y.split() { // what is wanted is the last entry's
				got, taken = y.fastTask(true)
				all++
			}
			if taken || all == 0 && errors.Is(err, io.EOF) {
				t.Errorf("%s: %q is taken as %q %s (%d entries, %v)", name, text, got.ID, got.Data, all, err)
			}
		}
	}
}

// Of the sizes within which a task must stay, JSON's is the greater one.
func TestFastYAMLLimit(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"- {task_id: x, data: {a: [b,b,b,b,b,b,b,b,b,b,b,b,b,b,b,b,b]}}",
		"- task_id: x\n  data:\n  - a\n  - b: c\n  - [d,e,f,g,h]\n",
		"---\n[{task_id: x, data: 1}, {task_id: x, data: [[],[],[]]}]\n", // a line is bounded only where it is long
		"---\n[{task_id: x, data: 1}     \n, {task_id: x, data: [a,b,c,d]}   ]",
	} {
		entries := map[int]bool{}
		for limit := range int64(len(text) + 30) {
			taken, _ := compareFast(t, text, limit)
			entries[taken] = true
		}
		if len(entries) < 2 {
			t.Errorf("%q: the limit makes no difference", text)
		}
	}
}

func FuzzFastYAML(f *testing.F) {
	for _, v := range fastValues {
		f.Add("- task_id: x\n  data: "+v.yaml+"\n", uint16(100))
		f.Add("- {task_id: x, data: "+v.yaml+"}\n", uint16(100))
	}
	f.Add("---\n[{task_id: x, \"data\":1},\n{\"task_id\":\"y\",\n'data': [1, a b]}\n]\n", uint16(50))
	f.Add("[{task_id: x, data: 1}] x", uint16(50))
	f.Fuzz(func(t *testing.T, text string, limit uint16) {
		if !utf8.ValidString(text) { // lines has refused it
			return
		}
		compareFast(t, text, 1<<20)
		compareFast(t, text, int64(limit))
	})
}
