package taskfile_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// The values are valid YAML 1.2 that the parser alone rejects or misreads. They are from the YAML
// test suite where the suite has such values.
func TestYAML12(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		// escapes of JSON, which are escapes only in double quotes
		`"https:\/\/host"`: `"https://host"`, `"a\\/b\\\/c\\\\/d"`: `"a\\/b\\/c\\\\/d"`, `'a\/b'`: `"a\\/b"`, `a\/b`: `"a\\/b"`, `[a\/b, "c\/d"]`: `["a\\/b","c/d"]`,
		"|\n    \\/ \\ud83d\\ude00 \"\\/\"": `"\\/ \\ud83d\\ude00 \"\\/\"\n"`, ">-\n    \\/\n    \\u2028": `"\\/ \\u2028"`,
		`"\ud83d\ude00"`: `"😀"`, `"\uD83D\uDE00\/\ud83d\ude01x"`: `"😀/😁x"`, `'\ud83d\ude00'`: `"\\ud83d\\ude00"`, `"\\ud83d\\ude00"`: `"\\ud83d\\ude00"`, `\ud83d\ude00`: `"\\ud83d\\ude00"`,
		`{"\ud83d\ude00\/": 1}`: `{"😀/":1}`, `"\U0001F600\x41\e\_"`: `"😀A\u001b` + "\u00a0" + `"`,
		// a lone surrogate becomes an escape in the JSON
		`"a\ud800"`: `"a\ud800"`, `"\uDFFFb\uD83D"`: `"\udfffb\ud83d"`, `"\ude00\ud83d"`: `"\ude00\ud83d"`, `"\ud83d\\\ude00"`: `"\ud83d\\\ude00"`, `{"\udc80": ["\ud800"]}`: `{"\udc80":["\ud800"]}`,
		// ? within an unquoted scalar in flow style
		"{url: http://host/x?y=1}": `{"url":"http://host/x?y=1"}`, "[a?string, what?, is it ?, a ? b, ?, ??x]": "", "[a?string, what?, is it ?, a ? b, ??x]": `["a?string","what?","is it ?","a ? b","??x"]`,
		"{key?: value, ?foo: bar, q: x?}": `{"key?":"value","?foo":"bar","q":"x?"}`, "[?x]": `["?x"]`, "{? a : 1, ? \"b\" : 2}": `{"a":1,"b":2}`, "[? a : b]": `[{"a":"b"}]`,
		"what? is it": `"what? is it"`, "[\"?\", '?x', a?]": `["?","?x","a?"]`, "\n    ? a\n    : b?\n    ?c: ?": "", "\n    ? a\n    : b?\n    ?c: d ?": `{"a":"b?","?c":"d ?"}`,
		// a colon that begins an unquoted scalar in flow style
		"{host: ::1, p: :80}": `{"host":"::1","p":":80"}`, "[::vector, :x, a:b, a::b, :]": "", "[::vector, :x, a:b, a::b]": `["::vector",":x","a:b","a::b"]`, "[[::1]:80]": "",
		"::vector": `"::vector"`, "{\"a\":1,'b':2,\"c\" :3}": `{"a":1,"b":2,"c":3}`, "{\"a\": :x}": `{"a":":x"}`, "{[1]: :x}": "", "\n    key with colons::: v": `{"key with colons::":"v"}`, "{a:: 1}": `{"a:":1}`,
		// characters that were line breaks in YAML 1.1, and those that are allowed in quotes only
		"\"a \u2028 b\u0085c \u2029\"": "\"a \u2028 b\u0085c \u2029\"", "a \u0085 b": "\"a \u0085 b\"", "|\n    a \u2028 b\n": "\"a \u2028 b\\n\"",
		"\"\x7f\u0080\ufeff\uffff\"": "\"\x7f\u0080\ufeff\uffff\"", "'\x7f'": "\"\x7f\"", "\"\\u0085\\N\\L\"": "\"\u0085\u0085\u2028\"",
		// the character that the package itself uses to mask text
		"\uE7C7": "\"\uE7C7\"", "\"\uE7C7q\\/ \\uE7C7q \\U0000e7c7\"": "\"\uE7C7q/ \uE7C7q \uE7C7\"", "'\\uE7C7 \uE7C7'": "\"\\\\uE7C7 \uE7C7\"", "\uE7C7?: \\U0000E7C7?": "",
		// combinations of the cases above
		"{a: &x \"\\/?\", b: *x}": `{"a":"/?","b":"/?"}`, "a # \\/ ?x ::": `"a"`,
	} {
		text := "- {task_id: x, data: [0]}\n- task_id: a\n  data: " + in + "\n- {task_id: z, data: null}\n"
		flow := "---\n[{task_id: x, data: [0]}, {task_id: a, data: " + in + "}\n, {task_id: z, data: null}]\n"
		texts := map[string]string{"block": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n")}
		if strings.HasPrefix(in, "{") || strings.HasPrefix(in, "[") || strings.HasPrefix(in, `"`) || strings.HasPrefix(in, `'`) {
			texts["flow"] = flow
		}
		for name, text := range texts {
			got, err := readAll(t, writeFile(t, "t.yaml", []byte(text)), taskfile.Options{})
			if want == "" {
				if err == nil || !strings.Contains(err.Error(), "entry 2") {
					t.Errorf("%s %q: got %v, error %v", name, in, got, err)
				}
				continue
			}
			if err != nil || fmt.Sprint(got) != fmt.Sprint([]task{{"x", "[0]"}, {"a", want}, {"z", "null"}}) {
				t.Errorf("%s %q: got %v, error %v", name, in, got, err)
			}
		}
	}
}

// A task_id with a lone surrogate is the same in YAML as in JSON.
func TestYAMLSurrogateInID(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"t.yaml", "t.jsonl"} {
		text := `{"task_id": "caf\udce9\ud83d\ude00", "data": {"\ud800": "\udce9"}}` + "\n"
		if name == "t.yaml" {
			text = "- " + text
		}
		got, err := readAll(t, writeFile(t, name, []byte(text)), taskfile.Options{})
		if err != nil || len(got) != 1 || got[0].id != "caf\xed\xb3\xa9😀" || strings.ReplaceAll(got[0].data, " ", "") != `{"\ud800":"\udce9"}` {
			t.Errorf("%s: got %q, error %v", name, got, err)
		}
	}
}

// A file that consists of one long line is read in pieces, and the size limit applies to each entry.
// The test places characters of several bytes across the ends of the pieces.
func TestYAMLLongLines(t *testing.T) {
	t.Parallel()
	entry := "{task_id: \"ä€😀\", data: {u: http://ä/?x, 'é': ::1, \"k\":\"\\/\", n: [1, 2]}}"
	const count = 2000
	flow := "---\n[" + strings.Repeat(entry+",", count) + "]"
	long := strings.Repeat("- x ", 50_000)
	for name, test := range map[string]struct {
		text  string
		count int
		data  string
		limit int64
	}{
		"flow":    {flow, count, `{"u":"http://ä/?x","é":"::1","k":"/","n":[1,2]}`, 1000},
		"comment": {"# " + long + "\n- {task_id: \"ä€😀\", data: 1} # " + long + "\n# " + long + "\n", 1, "1", 0},
		"block":   {"- task_id: \"ä€😀\"\n  data: '" + long + "'\n- task_id: \"ä€😀\"\n  data: '" + long + "'\n", 2, `"` + long + `"`, 0},
		"after":   {"[{task_id: \"ä€😀\", data: 1}] # " + long + "\n", 1, "1", 0},
	} {
		for i := range 3 {
			pad := strings.Repeat("#", i) + "\n"
			got, err := readAll(t, "-", taskfile.Options{Stdin: strings.NewReader("# \n" + pad + test.text), MaxTaskSize: test.limit})
			if err != nil || len(got) != test.count {
				t.Fatalf("%s: %d tasks, error %v", name, len(got), err)
			}
			for _, g := range got {
				if g.id != "ä€😀" || g.data != test.data {
					t.Fatalf("%s: got %.200v", name, g)
				}
			}
		}
	}
	_, err := readAll(t, "-", taskfile.Options{Stdin: strings.NewReader("%x\n" + strings.Repeat(" ", 300_000) + "- {task_id: a, data: 1}\n")})
	if err == nil || !strings.Contains(err.Error(), "line 2: the line is too long") {
		t.Errorf("error %v", err)
	}
}

// Entries that have arrived through a pipe are delivered before further entries arrive.
func TestYAMLPipe(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"block": "- {task_id: a, data: 1}\n- task_id: b\n  data: 2\n- task_id: c\n", "flow": "---\n[{task_id: a, data: 1}, {task_id: b,\n data: 2}, {task_id\n",
	} {
		r, w := io.Pipe()
		src, err := taskfile.Open("-", taskfile.Options{Stdin: r})
		if err != nil {
			t.Fatal(err)
		}
		defer closeSource(t, src)
		go func() { _, _ = io.WriteString(w, text) }()
		var ids string
		for len(ids) < 2 {
			got, err := src.Receive(t.Context(), 5)
			if err != nil {
				t.Fatalf("%s: %v after %s", name, err, ids)
			}
			for _, d := range got {
				ids += d.Task.ID
			}
		}
		if ids != "ab" {
			t.Errorf("%s: got %s", name, ids)
		}
	}
}

func TestYAMLAmbiguous(t *testing.T) {
	t.Parallel()
	const ok = "- {task_id: a, data: [1, 2.50, true, null, 'yes', \"0100\", !!str on, word, 0x1F, -7, 1.5e+3]}\n"
	for name, test := range map[string]struct{ text, want string }{
		"none":         {ok + "- task_id: b\n  no: 0100\n  data: {y: n, 2024: 3f2b8c1e-0d4a}\n", "[]"},
		"number":       {ok + "- task_id: b\n  data:\n    x: [1,\n     0100, 0b1, yes]\n", "[{t.yaml 2 5 0100 the number 100 the number 64}]"},
		"string":       {ok + ok + "- {task_id: b, data: on}\n", `[{t.yaml 3 3 on the string "on" true}]`},
		"key":          {ok + "- task_id: b\n  data:\n    no: 1\n", `[{t.yaml 2 4 no the string "no" false}]`},
		"task_id":      {"- task_id: 2024-01-02\n  data: 1\n", `[{t.yaml 1 1 2024-01-02 the string "2024-01-02" a date}]`},
		"alias":        {"- {x: &x 1:30, task_id: a, data: [*x]}\n", `[{t.yaml 1 1 1:30 the string "1:30" the number 90}]`},
		"merged":       {"- task_id: a\n  x: &x {k: off}\n  data: {<<: *x}\n", `[{t.yaml 1 2 off the string "off" false}]`},
		"JSON":         {`[{"task_id": "a", "data": "yes"},` + "\n" + `{"task_id": "a", "data": 1e5}]`, "[{t.yaml 2 2 1e5 the number 1e5 a string}]"},
		"masked":       {"- {task_id: 'a?', data: {'k?': [::1, \"\\/\", 1_0]}}\n", `[{t.yaml 1 1 1_0 the string "1_0" the number 10}]`},
		"long":         {"- {task_id: a, data: 0" + strings.Repeat("1", 2000) + "}\n", "[{t.yaml 1 1 0" + strings.Repeat("1", 59) + "… the number " + strings.Repeat("1", 60) + "… another value}]"},
		"before fault": {ok + "- {task_id: a, data: off}\n- x\n", `[{t.yaml 2 2 off the string "off" false}]`},
	} {
		for _, slowly := range []bool{false, true} {
			var got []taskfile.Ambiguity
			opts := taskfile.Options{OnAmbiguous: func(a taskfile.Ambiguity) { got = append(got, a) }}
			opts.Stream = io.NopCloser(strings.NewReader(test.text))
			if slowly {
				opts.Stream = io.NopCloser(iotest.OneByteReader(strings.NewReader(test.text)))
			}
			if _, err := readAll(t, "t.yaml", opts); err != nil && name != "before fault" {
				t.Errorf("%s: %v", name, err)
			}
			if fmt.Sprint(got) != test.want {
				t.Errorf("%s: got %v, want %s", name, got, test.want)
			}
		}
	}
	if _, err := readAll(t, "t.yaml", taskfile.Options{Stream: io.NopCloser(strings.NewReader("- {task_id: a, data: off}\n"))}); err != nil {
		t.Error(err)
	}
}
