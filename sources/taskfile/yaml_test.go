package taskfile_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func TestYAMLValues(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"12345678901234567890123": "12345678901234567890123", "1e400": "1e400", "-1.50": "-1.50", "1.0E+2": "1.0E+2",
		"0x1F": "31", "-0x10": `"-0x10"`, "0o17": "15", "017": "17", "0b101": `"0b101"`, "1_000": `"1_000"`, "+12": "12", "089": "89",
		"0xFFFFFFFFFFFFFFFFFFFF": "1208925819614629174706175", ".5": "0.5", "5.": "5.0", "+10.50": "10.50", "-.5e3": "-0.5e3",
		"007.5": "7.5", "!!int 3": "3", `!!int "0x10"`: "16", "!!float 3": "3.0", "!!str 3": `"3"`, `"3"`: `"3"`, "'1e400'": `"1e400"`,
		"1e": `"1e"`, "0x": `"0x"`, "1.2.3": `"1.2.3"`, "12:30": `"12:30"`, "0b2": `"0b2"`, "+": `"+"`,
		"0100": "100", "2024_0115": `"2024_0115"`, "on": `"on"`, "1:30": `"1:30"`, "{0100: 1, 0x1F: 2, 1_0: 3}": `{"100":1,"31":2,"1_0":3}`,
		"true": "true", "False": "false", "yes": `"yes"`, "null": "null", "~": "null", "": "null", "!!null ''": "null",
		"2024-01-02": `"2024-01-02"`, "2024-01-02T03:04:05Z": `"2024-01-02T03:04:05Z"`, "!!binary aGk=": `"aGk="`,
		`"\u00e9\n\"\x01"`: `"é\n\"\u0001"`, "a b # c": `"a b"`, "<<": `"<<"`,
		"{1: a, true: b, ~: c, 0x10: d, 'x': e, 2024-01-02: f}": `{"1":"a","true":"b","null":"c","16":"d","x":"e","2024-01-02":"f"}`,
		"{z: 1, a: 2, m: 3}": `{"z":1,"a":2,"m":3}`, "[]": "[]", "{}": "{}", "[1, [2, {a: }]]": `[1,[2,{"a":null}]]`,
		"{a: &x [1], b: *x, c: *x}":                                  `{"a":[1],"b":[1],"c":[1]}`,
		"{a: &x {k: 1, l: 2}, b: {l: 3, <<: *x}}":                    `{"a":{"k":1,"l":2},"b":{"l":3,"k":1}}`,
		"{b: {<<: [{k: 1}, {k: 2, m: 4}], l: 3}}":                    `{"b":{"k":1,"m":4,"l":3}}`,
		"{b: {<<: {<<: {k: 1}, l: 2}}}":                              `{"b":{"k":1,"l":2}}`,
		"{'<<': 1}":                                                  `{"<<":1}`,
		"|\n    one\n\n     two\n    - three: |\n    # four":         `"one\n\n two\n- three: |\n# four\n"`,
		"|2\n    \tx\n     y":                                        `"\tx\n y\n"`,
		">-\n    folded\n    text\n\n    - x":                        `"folded text\n- x"`,
		"|+\n    kept\n\n":                                           `"kept\n\n\n"`,
		"plain\n    on - two\n    lines":                             `"plain on - two lines"`,
		"\"quoted\n    - on\\\n      two lines\"":                    `"quoted - ontwo lines"`,
		"'it''s\n\n    single'":                                      `"it's\nsingle"`,
		"\n  - - 1\n    - 2\n  - k: v\n    l:\n    - 3":              `[[1,2],{"k":"v","l":[3]}]`,
		"\n  # comment\n\n    k: v # comment\n  # comment\n    l: w": `{"k":"v","l":"w"}`,
	} {
		want := []task{{"x", "[0]"}, {"a", want}, {"z", "null"}}
		text := "- task_id: x\n  data: [0]\n- task_id: a\n  data: " + in + "\n- {task_id: z, data: null}\n"
		for name, text := range map[string]string{"block": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n")} {
			got, err := readAll(t, writeFile(t, "t.yaml", []byte(text)), taskfile.Options{})
			if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s %q: got %v, error %v", name, in, got, err)
			}
		}
	}
}

func TestYAMLStructure(t *testing.T) {
	t.Parallel()
	const a, b = `{a 1}`, `{b "- x, ]"}`
	for name, text := range map[string]string{
		"indented":            "  - task_id: a\n    data: 1\n  - task_id: b\n    data: '- x, ]'\n",
		"no newline at end":   "- task_id: a\n  data: 1\n- task_id: b\n  data: '- x, ]'",
		"comments":            "# c\n\n- task_id: a # c\n# - c\n  data: 1\n  # c\n#c\n\n- task_id: b\n  data: '- x, ]'\n# c\n...\n# c\n",
		"documents":           "%YAML 1.2\n%TAG !e! tag:e,2000:\n---\n- task_id: a\n  data: 1\n...\n%YAML 1.1\n---\n---\n# c\n- task_id: b\n  data: '- x, ]'\n---\n",
		"documents and flow":  "--- [{task_id: a, data: 1}] # c\n--- # c\n- {task_id: b, data: \"- x, ]\"}\n",
		"tab after dash":      "-\ttask_id: a\n \tdata: 1\n",
		"marker, not a dash":  "---\n- task_id: a\n  data: 1\n--- \n- task_id: b\n  data: '- x, ]'\n",
		"lenient brackets":    "- {\n\"task_id\": \"a\",\n\"data\": 1\n}\n- {task_id: b,\ndata: '- x, ]'\n}\n",
		"merge in entry":      "- <<: {data: 1, task_id: c}\n  task_id: a\n- {<<: [{task_id: b}, {data: '- x, ]'}]}\n",
		"alias for id":        "- {data: &x 1, task_id: a}\n- {x: &i b, task_id: *i, data: '- x, ]'}\n",
		"same anchors":        "- {task_id: &n a, data: 1}\n- {task_id: &n b, data: '- x, ]'}\n",
		"flow":                "---\n[ # [ ' \"\n{task_id: a, data: 1}, {\"task_id\":\"b\",'data':\"- x, ]\"}]",
		"flow, many lines":    "---\n[{task_id: a,\n# ]\n\ndata: 1}\n,\n\n{task_id: b, data: '- x,\n ]'}\n]\n# c\n...\n",
		"flow, quotes":        "---\n[{task_id: a, x: [don't, it's, y\"], data: 1}, {x: 'it''s, \"', y: \"\\\"'],\\\\\", task_id: b, data: \"- x, ]\"}]",
		"flow, plain":         "---\n[{task_id: a, x: a#b 'c, y: http://x/#', z: a:\"b, data: 1 }, {x: y', task_id: b, data: '- x, ]'}, ]",
		"flow, tags":          "---\n[{task_id: !!str a, data: !!int '1'}, {x: &q 'a, b', y: !<tag:yaml.org,2002:str> ',', task_id: b, data: !!str \"- x, ]\"}]",
		"flow, explicit keys": "---\n[{? task_id : a, ? \"data\" : 1}, task_id: c, ]",
		"flow, comment":       "---\n[{task_id: a, data: 1 # it's, ]\n}, {task_id: b, data: '- x, ]'}#'\n]",
		"flow, pair":          "---\n[{task_id: a, data: 1}, <<: {task_id: b, data: '- x, ]'}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, "t.yaml", []byte(text))
			got, err := readAll(t, path, taskfile.Options{})
			switch name {
			case "tab after dash": // YAML may or may not allow it: want one task, or an error with a message
				if err == nil && fmt.Sprint(got) != "["+a+"]" {
					t.Errorf("got %v, error %v", got, err)
				}
			case "flow, explicit keys":
				wantFault(t, err, path, 2, 2, "data is missing")
			default:
				if err != nil || fmt.Sprint(got) != "["+a+" "+b+"]" {
					t.Errorf("got %v, error %v", got, err)
				}
			}
		})
	}
}

const yaml1 = "- {task_id: a, data: 1}\n\n"

func TestBrokenYAML(t *testing.T) {
	t.Parallel()
	// bomb is a YAML document in which each anchored list contains the previous list eight times.
	bomb := "- task_id: x\n  data:\n  - &b0 [x]\n"
	merges := "- task_id: x\n  data:\n  - &b0 {k: 1}\n"
	for i := range 9 {
		bomb += fmt.Sprintf("  - &b%d [%s]\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*b%d, ", i), 8), ", "))
		merges += fmt.Sprintf("  - &b%d {<<: [%s]}\n", i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*b%d, ", i), 8), ", "))
	}
	for _, b := range []broken{
		{"string", "t.yaml", yaml1 + "- x\n", 1, 3, "the entry is a string: an entry is an object"},
		{"empty", "t.yaml", yaml1 + "-\n", 1, 3, "the entry is null"},
		{"list", "t.yaml", yaml1 + "- - task_id: x\n", 1, 3, "the entry is a list"},
		{"no id", "t.yaml", yaml1 + "-\n\n  data: 1\n", 1, 3, "task_id is missing"},
		{"no data", "t.yaml", yaml1 + "- task_id: x\n", 1, 3, "data is missing"},
		{"id fraction", "t.yaml", yaml1 + "- task_id: 17.0\n  data: 1\n", 1, 3, `task_id is a number: it must be a string, so put it in quotes: "17.0"`},
		{"id hexadecimal", "t.yaml", yaml1 + "- task_id: 0x11\n  data: 1\n", 1, 3, `task_id is a number: it must be a string, so put it in quotes: "0x11"`},
		{"id huge", "t.yaml", yaml1 + "- task_id: 1e400\n  data: 1\n", 1, 3, "task_id is a number"},
		{"id zeros", "t.yaml", yaml1 + "- task_id: 0017\n  data: 1\n", 1, 3, `task_id is a number: it must be a string, so put it in quotes: "0017"`},
		{"lone key with colon", "t.yaml", yaml1 + "- task_id: x\n  data: {a:}\n", 1, 4, "unsupported YAML: a: is followed by"},
		{"colon in flow list", "t.yaml", yaml1 + "- task_id: x\n  data: [a:, b]\n", 1, 4, "unsupported YAML: a: is followed by"},
		{"colon before bracket", "t.yaml", yaml1 + "- task_id: x\n  data: {a:[1]}\n", 1, 4, "invalid or unsupported YAML"},
		{"anchor with colon", "t.yaml", yaml1 + "- task_id: x\n  data: &a:b c\n", 1, 4, "invalid or unsupported YAML"},
		{"key of two lines", "t.yaml", yaml1 + "- task_id: x\n  data: {\"a\"\n    : 1}\n", 1, 5, "invalid or unsupported YAML"},
		{"DEL without quotes", "t.yaml", yaml1 + "- task_id: x\n  data: a\x7f\n", 1, 4, "control characters"},
		{"id bool", "t.yaml", yaml1 + "- task_id: true\n  data: 1\n", 1, 3, `put it in quotes: "true"`},
		{"id null", "t.yaml", yaml1 + "- task_id:\n  data: 1\n", 1, 3, "task_id is null: it must be a string or an integer"},
		{"id list", "t.yaml", yaml1 + "- task_id: [x]\n  data: 1\n", 1, 3, "task_id is a list: it must be a string or an integer"},
		{"id empty", "t.yaml", yaml1 + "- task_id: ''\n  data: 1\n", 1, 3, "task_id is empty"},
		{"key twice", "t.yaml", yaml1 + "- task_id: x\n  data: 1\n  data: 2\n", 1, 5, `duplicate key "data"`},
		{"other key twice", "t.yaml", yaml1 + "- task_id: x\n  data: 1\n  x: 2\n  'x': 2\n", 1, 6, `duplicate key "x"`},
		{"key twice in data", "t.yaml", yaml1 + "- task_id: x\n  data:\n    1: 1\n    '1': 2\n", 1, 6, `duplicate key "1"`},
		{"indentation", "t.yaml", yaml1 + "- task_id: x\n  data:\n    a: 1\n   b: 2\n- x\n", 1, 6, "invalid or unsupported YAML"},
		{"unindented", "t.yaml", yaml1 + "- task_id: x\ndata: 1\n", 1, 4, "indented less than the entry that it follows"},
		{"two colons", "t.yaml", yaml1 + "- task_id: x\n  data: a: b\n  c: d\n", 1, 4, "invalid or unsupported YAML"},
		{"bad escape", "t.yaml", yaml1 + "- task_id: x\n  data: \"\\q\"\n  x: 1\n", 1, 4, "invalid or unsupported YAML"},
		{"percent", "t.yaml", yaml1 + "- task_id: x\n  data: %x\n  x: 1\n", 1, 4, "invalid or unsupported YAML"},
		{"control character", "t.yaml", yaml1 + "- task_id: x\n  data: \x01\n  x: 1\n", 1, 4, "invalid or unsupported YAML"},
		{"invalid UTF-8", "t.yaml", yaml1 + "- task_id: x\n  data: \"\xff\"\n", 1, 4, "invalid UTF-8"},
		{"invalid UTF-8 in first line", "t.yaml", yaml1 + "- task_id: \"\xff\"\n", 1, 3, "invalid UTF-8"},
		{"invalid UTF-8 in last line", "t.yaml", yaml1 + "- task_id: x\n  data: \xff", 1, 4, "invalid UTF-8"},
		{"invalid UTF-8 in comment", "t.yaml", "# \xff\n", 0, 1, "invalid UTF-8"},
		{"tab", "t.yaml", yaml1 + "- task_id: x\n  data:\n\t\tk: 1\n", 1, 5, "a tab"},
		{"tab among spaces", "t.yaml", yaml1 + "- task_id: x\n  data:\n  \t\n    k: 1\n", 1, 5, "invalid or unsupported YAML: found character that cannot start any token; there is a tab"},
		{"tab in block scalar", "t.yaml", yaml1 + "- task_id: x\n  data: |\n    \tx\n", 1, 5, "give its indentation, such as |2"},
		{"tab first", "t.yaml", "\t- task_id: x\n", 0, 1, "a tab"},
		{"other task's anchor", "t.yaml", "- {task_id: a, data: &x 1}\n- task_id: b\n  data: *x\n", 1, 3, "alias *x refers to an anchor outside this task"},
		{"itself", "t.yaml", yaml1 + "- task_id: b\n  data: &x\n    k: [*x]\n", 1, 5, "alias *x refers to itself"},
		{"merges itself", "t.yaml", yaml1 + "- task_id: b\n  data: &x\n    <<: *x\n", 1, 5, "alias *x refers to itself"},
		{"bomb", "t.yaml", yaml1 + bomb, 1, 5, "more than 1000 bytes, which is the limit for one task; an alias counts"},
		{"bomb of merges", "t.yaml", yaml1 + merges, 1, 5, "more than 1000 bytes, which is the limit for one task; an alias counts"},
		{"merge of scalar", "t.yaml", yaml1 + "- task_id: x\n  data: {<<: 1}\n", 1, 4, "<< is a number"},
		{"nan", "t.yaml", yaml1 + "- task_id: x\n  data: [1,\n   .nan]\n", 1, 5, ".nan cannot be represented in JSON"},
		{"inf", "t.yaml", yaml1 + "- task_id: x\n  data: -.inf\n", 1, 4, "-.inf cannot be represented in JSON"},
		{"tag on scalar", "t.yaml", yaml1 + "- task_id: x\n  data: !!python/object/apply:os.system x\n", 1, 4, "the tag !!python/object/apply:os.system is not supported"},
		{"tag on list", "t.yaml", yaml1 + "- task_id: x\n  data: !!python/object/apply:os.system [x]\n", 1, 4, "the tag !!python/object/apply:os.system is not supported"},
		{"tag on mapping", "t.yaml", yaml1 + "- task_id: x\n  data: !mine {a: 1}\n", 1, 4, "the tag !mine is not supported"},
		{"tag on entry", "t.yaml", yaml1 + "- !mine\n  task_id: x\n  data: 1\n", 1, 3, "the tag !mine is not supported"},
		{"tag on id", "t.yaml", yaml1 + "- {task_id: !mine x, data: 1}\n", 1, 3, "the tag !mine is not supported"},
		{"wrong tag", "t.yaml", yaml1 + "- task_id: x\n  data: !!int x\n", 1, 4, `"x" is not a number, as its tag !!int requires`},
		{"complex key", "t.yaml", yaml1 + "- task_id: x\n  data: {[1, 2]: 3}\n", 1, 4, "a key is a list"},
		{"complex key in entry", "t.yaml", yaml1 + "- ? {a: 1}\n  : 1\n", 1, 3, "a key is a mapping"},
		{"mapping", "t.yaml", "tasks:\n- task_id: x\n", 0, 1, "the top level is a mapping: the tasks must be a list: start each with '- '"},
		{"flow mapping", "t.yaml", "# c\n{task_id: x}\n", 0, 2, "the top level is a mapping"},
		{"scalar", "t.yaml", "\n--- word\n", 0, 2, "the top level is not a list"},
		{"list on marker's line", "t.yaml", "--- - word\n", 0, 1, "the top level is not a list"},
		{"mapping in second document", "t.yaml", yaml1 + "---\na: b\n", 1, 4, "the top level is a mapping"},
		{"other task's anchor, in a key next to data", "t.yaml", "- {task_id: a, data: &x 1}\n- task_id: b\n  data: 1\n  z: [*x]\n", 1, 4, "alias *x refers to an anchor outside this task"},
		{"too large", "t.yaml", yaml1 + "- task_id: x\n  data: " + strings.Repeat("x", 1000) + "\n", 1, 3, "more than 1000 bytes"},
		{"too many lines", "t.yaml", yaml1 + "- task_id: x\n" + strings.Repeat("  # comment\n", 100), 1, 3, "more than 1000 bytes"},
		{"far too large", "t.yaml", yaml1 + "- " + strings.Repeat("x", 100_000) + "\n", 1, 3, "more than 1000 bytes"},
		{"CR only", "t.yaml", "- {task_id: a, data: 1}\r- {task_id: b, data: 1}\r", 0, 1, "the text is not exactly one list entry"},
		{"flow: cut off", "t.yaml", "---\n[{task_id: a, data: 1},\n{task_id: b,\n", 1, 3, "before its closing ]: the { on this line is not closed, or the file is cut off"},
		{"flow: cut off by document", "t.yaml", "---\n[{task_id: a, data: 1},\n---\n", 1, 3, "it is cut off"},
		{"flow: garbage", "t.yaml", "[{task_id: a, data: 1}] x", 1, 1, "more after the closing ]"},
		{"flow: garbage below", "t.yaml", "[{task_id: a, data: 1}]\n\n- x", 1, 3, "more after the closing ]"},
		{"flow: two commas", "t.yaml", "[{task_id: a, data: 1},\n ,{task_id: b, data: 1}]", 1, 2, "a comma where an entry must start"},
		{"flow: no comma", "t.yaml", "[{task_id: a, data: 1}\n{task_id: b, data: 1}]", 1, 2, "there is no comma between this entry and the one before it"},
		{"flow: wrong bracket", "t.yaml", "[{task_id: a, data: 1}}", 0, 1, "closing ] must be"},
		{"flow: entry", "t.yaml", "[{task_id: a, data: 1},\n\n\n{task_id: b}]", 1, 4, "data is missing"},
		{"flow: too large", "t.yaml", "[{task_id: a, data: 1},\n'" + strings.Repeat("x\n", 1000) + "']", 1, 2, "more than 1000 bytes"},
	} {
		t.Run(b.name, b.run)
	}
}

// The number of merged keys is limited, even if the same keys are merged and the output does not grow.
func TestYAMLMergeWork(t *testing.T) {
	t.Parallel()
	var keys strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&keys, "k%d: 1, ", i)
	}
	text := "- task_id: x\n  data: {a: &a {" + keys.String() + "}, b: {<<: [" + strings.Repeat("*a, ", 1000) + "]}}\n"
	path := writeFile(t, "t.yaml", []byte(text))
	_, err := readAll(t, path, taskfile.Options{MaxTaskSize: 50_000})
	wantFault(t, err, path, 1, 2, "more than 49 KiB")
}

func TestYAMLDepth(t *testing.T) {
	t.Parallel()
	var chain strings.Builder
	chain.WriteString("- task_id: x\n  ignored:\n  - &b0 [x]\n")
	for i := range 11_000 {
		fmt.Fprintf(&chain, "  - &b%d [*b%d]\n", i+1, i)
	}
	chain.WriteString("  data: *b11000\n")
	for _, text := range []string{chain.String(), "- {task_id: x, data: " + strings.Repeat("[", 11_000) + "}\n", "- task_id: x\n  data:\n    " + strings.Repeat("- ", 11_000) + "x\n"} {
		_, err := readAll(t, writeFile(t, "t.yaml", []byte(text)), taskfile.Options{})
		if err == nil || !strings.Contains(err.Error(), "nested more than 10000 deep") {
			t.Errorf("error %v", err)
		}
	}
}
