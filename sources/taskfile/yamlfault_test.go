package taskfile_test

import (
	"strings"
	"testing"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// A line that starts an entry in the wrong way does not affect the entry before it.
func TestBrokenYAML_StartOfEntry(t *testing.T) {
	t.Parallel()
	const complete = "- task_id: a\n  data: 1\n"
	const start = "an entry starts here, but not with '- ' in column 1"
	const less = "the line is indented less than the entry that it follows"
	for _, b := range []broken{
		{"no dash", "t.yaml", complete + "task_id: b\ndata: 2\n", 1, 3, start},
		{"no dash, quoted key", "t.yaml", complete + "\"task_id\": b\ndata: 2\n", 1, 3, start},
		{"no dash, in braces", "t.yaml", complete + "{task_id: b, data: 2}\n", 1, 3, start},
		{"no dash, indented", "t.yaml", complete + " task_id: b\n data: 2\n", 1, 3, start},
		{"no space after dash", "t.yaml", complete + "-task_id: b\n data: 2\n", 1, 3, start},
		{"no space after dash, then an entry", "t.yaml", complete + "\n# comment\n-task_id: b\n  data: 2\n" + complete, 1, 5, start},
		{"dash further left", "t.yaml", "  - task_id: a\n    data: 1\n- task_id: b\n  data: 2\n", 1, 3, "in column 3"},
		{"dash one column right", "t.yaml", complete + " - task_id: b\n   data: 2\n", 1, 3, start},
		{"dash in the column of the keys", "t.yaml", complete + "  - task_id: b\n    data: 2\n", 1, 3, start},
		{"dash further right", "t.yaml", complete + "    - task_id: b\n      data: 2\n", 1, 3, start},
		{"after an object", "t.yaml", "- task_id: a\n  data:\n    k: 1\n  - task_id: b\n    data: 2\n", 1, 4, start},
		{"after braces", "t.yaml", "- {task_id: a,\ndata: 1\n}\n-task_id: b\n", 1, 4, start},
		{"after quotes", "t.yaml", "- task_id: a\n  data: \"x\ntask_id: y\"\ntask_id: b\n", 1, 4, start},
		{"after a block scalar", "t.yaml", "- task_id: a\n  data: |\n    x\n\n\ntask_id: b\n", 1, 6, start},
		{"after a third entry", "t.yaml", complete + complete + complete + "task_id: b\n", 3, 7, start},
		{"after a dash on its own line", "t.yaml", "-\n\n   task_id: a\n   data: 1\n  task_id: b\n", 1, 5, start},
		{"many lines after it", "t.yaml", complete + "task_id: b\n" + strings.Repeat("x: 1\n", 50), 1, 3, start},
		// The line may belong to the entry before it, so that entry is not delivered.
		{"other key", "t.yaml", complete + "more: 2\n", 0, 3, less},
		{"value", "t.yaml", "- task_id: a\n  data:\nk: 1\n", 0, 3, less},
		{"data of the entry", "t.yaml", "- task_id: a\ndata: 1\n", 0, 2, less},
		{"task_id of the entry", "t.yaml", "- data: 1\ntask_id: a\n", 0, 2, less},
		{"text", "t.yaml", complete + "x\ny\n", 0, 3, less},
		{"brace", "t.yaml", complete + "}\n", 0, 3, less},
		{"key one column left", "t.yaml", complete + " more: 2\n", 0, 3, less},
		// Valid nested lists and tags are not reported as faults.
		{"fault in nested list", "t.yaml", "- task_id: a\n  data:\n    l:\n    - task_id: b\n      k: %\n    - task_id: c\n", 0, 5, "invalid or unsupported YAML"},
		{"fault after tag", "t.yaml", "- !!map\n task_id: a\n data: %\n", 0, 3, "invalid or unsupported YAML"},
		{"fault after anchor", "t.yaml", "- &x\n task_id: a\n data: %\n", 0, 3, "invalid or unsupported YAML"},
	} {
		t.Run(b.name, b.run)
	}
}

func TestBrokenYAML_Place(t *testing.T) {
	t.Parallel()
	const x = yaml1 + "- task_id: x\n"
	const quote = "the quoted string that starts on this line is not closed in its entry"
	const tab = "a tab: YAML is indented with spaces only"
	for _, b := range []broken{
		{"quote", "t.yaml", x + "  data: \"a\n- task_id: y\n  data: 1\n", 1, 4, quote},
		{"single quote", "t.yaml", x + "  data: 'a\n  b: 1\n", 1, 4, quote},
		{"quote in first line", "t.yaml", yaml1 + "- task_id: \"x\n  data: 1\n", 1, 3, quote},
		{"quote in braces", "t.yaml", x + "  data: {a: [\"b, c], d: 1}\n  e: 1\n", 1, 4, quote},
		{"quote before an entry with quotes", "t.yaml", x + "  data: \"a\n- task_id: y\n  data: b\"\n- task_id: z\n  data: 1\n", 1, 4, quote},
		{"quote up to another", "t.yaml", x + "  data: \"a\n  b: \"c\"\n", 1, 4, "starts on this line ends on line 5, with invalid text after it"},
		{"single quote up to an apostrophe", "t.yaml", x + "  data: 'a\n  b: it's\n", 1, 4, "starts on this line ends on line 5, with invalid text after it"},
		{"quote in flow list", "t.yaml", "---\n[{task_id: a, data: 1},\n{task_id: b,\ndata: \"x},\n{task_id: c, data: 1}]\n", 1, 4, "the quoted string that starts on this line is not closed"},
		{"bracket", "t.yaml", x + "  data: [1, 2\n", 1, 4, "the [ on this line is not closed in its entry"},
		{"bracket after comma", "t.yaml", x + "  data: [1,\n    2,\n", 1, 4, "the [ on this line is not closed in its entry"},
		{"bracket before key", "t.yaml", x + "  data: [1, 2\n  b: 1\n", 1, 4, "the [ on this line is not closed in its entry"},
		{"brace", "t.yaml", x + "  data: {a: 1\n", 1, 4, "the { on this line is not closed in its entry"},
		{"brace of entry", "t.yaml", yaml1 + "- {task_id: x, data: {a: 1}\n", 1, 3, "the { on this line is not closed in its entry"},
		{"inner bracket", "t.yaml", yaml1 + "- {task_id: x,\n   data: {a: 1,\n    b: [\n      1\n", 1, 5, "the [ on this line is not closed in its entry"},
		{"wrong bracket", "t.yaml", x + "  data: {a: 1, b: [2,\n    3}\n  c: \"d\"\n", 1, 5, "did not find expected ',' or ']' after the [ on line 4"},
		{"no comma", "t.yaml", x + "  data: {\n    \"a\": \"1\"\n    \"b\": \"2\"\n  }\n", 1, 6, "did not find expected ',' or '}' after the { on line 4"},
		{"brace in flow list", "t.yaml", "---\n[{task_id: a, data: 1},\n{task_id: b,\ndata: {x: 1},\n{task_id: c, data: 1}\n]\n", 1, 3, "the { on this line is not closed"},
		{"bracket in flow list", "t.yaml", "---\n[{task_id: a, data: 1},\n{task_id: b,\ndata: [1},\n{task_id: c, data: 1}\n]\n", 1, 4, "the [ on this line is not closed"},
		{"no comma in flow list", "t.yaml", "---\n[{task_id: a, data: 1},\n{task_id: b, data: 1} {task_id: c, data: 1}]\n", 2, 3, "there is no comma"},
		{"tab in second line", "t.yaml", yaml1 + "- task_id: x\n\tdata: 1\n", 1, 4, tab},
		{"tab before value", "t.yaml", x + "  data:\n\tk: 1\n", 1, 5, tab},
		{"tab after value", "t.yaml", x + "  data:\n    a: 1\n\tk: 1\n", 1, 6, tab},
		{"tab before entry", "t.yaml", x + "  data: 1\n\t- task_id: b\n", 1, 5, tab},
		{"tab after dash", "t.yaml", yaml1 + "-\ttask_id: x\n  data: 1\n", 1, 3, tab},
		{"tab after spaces", "t.yaml", x + "  data:\n    a: 1\n    \tk: 1\n", 1, 6, "there is a tab in the indentation"},
		{"text after quotes", "t.yaml", x + "  data: \"a\" b\n  c: d\n", 1, 4, "did not find expected key"},
		{"second bracket", "t.yaml", x + "  data: [1, 2]]\n  c: d\n", 1, 4, "did not find expected key"},
	} {
		t.Run(b.name, b.run)
	}
}

// Finding the line of a fault takes at most a few times as long as parsing the entry.
func TestBrokenYAML_LargeEntry(t *testing.T) {
	t.Parallel()
	for _, layout := range []string{"  - x\n", "  - task_id: x\n", "# comment\n", "\n", "x: y\n", "task_id: y\n"} {
		text := "- task_id: a\n  data: {\n" + strings.Repeat(layout, 40_000) + "}}\n"
		_, err := readAll(t, writeFile(t, "t.yaml", []byte(text)), taskfile.Options{})
		if err == nil || !strings.Contains(err.Error(), "t.yaml: entry 1, line ") {
			t.Errorf("%q: error %v", layout, err)
		}
	}
}
