package taskfile

import (
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// yamlWriter writes random YAML of the kind that the fast path knows, or nearly.
type yamlWriter struct {
	r *rapid.T
	b strings.Builder
}

var (
	nearScalars = []string{
		"a", "a b", "5", "-3", "2.5", "1e3", "true", "null", "", "yes", "~", "0x1", "017", "1_0", ".5", "1.", "2024-01-02", "12ab-34", "1e-5", "0b-1", "s3://b/x",
		`"q"`, `"a\nb"`, `"\u00e9"`, `"\u0000"`, `"\/"`, `"# - : ,"`, "'s'", "'it''s'", "''", "é", "日本，x", "a:b", "a: b", "a #b", "a#b", "- a", "<<", "&x a", "*x", "!!str a", "|", ">", "[", "{", "%", "@a", "`", "?", "a?b", "a,b", "x{}", "\"a\n b\"", "a\n     b",
	}
	nearKeys  = []string{"a", "b", "task_id", "data", "x-1", "_", "y", `"q r"`, "'s'", `""`, "<<", "1", "true", "a b", "é", "? a", `"a\u0062"`, "ab"}
	nearGaps  = []string{"", "", "", " ", "  ", "\n", "\n  ", "\t", "\r\n", " # c\n"}
	nearLines = []string{"\n", "\n", "\n", "\n", "\n\n", " \n", "\r\n", "\n   \n", " # c\n", "\r", "\t\n", "\u2028"}
	nasty     = []string{
		"-", "#", ":", ",", "&", "*", "!", "|", ">", "'", "\"", "%", "@", "`", "\\", "[", "]", "{", "}", "?", " ", "\n", "\t", "\r", "\r\n", "0", "1", "e", "E", ".", "~", "<", "=", "_", "/", "+", "x", "u", "n",
		"- ", ": ", " #", "\n- ", "\n  ", "\n    ", "  ", "---", "\n---\n", "...", "null", "\u0085", "\u00a0", "\u2028", "\ufeff", "\ufffe", "\x7f", "\x00", "\x01", "é", "task_id", "data: ", "- - ",
	}
)

// one draws a piece, mostly one of the first few.
func (w *yamlWriter) one(pieces []string, ordinary int) string {
	if rapid.IntRange(0, 19).Draw(w.r, "oddity") > 0 {
		pieces = pieces[:ordinary]
	}
	return rapid.SampledFrom(pieces).Draw(w.r, "piece")
}

func (w *yamlWriter) line() { w.b.WriteString(w.one(nearLines, 4)) }

func (w *yamlWriter) scalar() { w.b.WriteString(w.one(nearScalars, 8)) }

func (w *yamlWriter) key() { w.b.WriteString(w.one(nearKeys, 8)) }

func (w *yamlWriter) gap() { w.b.WriteString(w.one(nearGaps, 5)) }

// value writes what comes after a colon or a dash, and the line end.
func (w *yamlWriter) value(col, depth int) {
	switch kind := rapid.IntRange(0, 5).Draw(w.r, "kind"); {
	case kind == 0 && depth > 0:
		w.line()
		w.mapping(col+rapid.IntRange(0, 4).Draw(w.r, "deeper"), depth-1, true)
	case kind == 1 && depth > 0:
		w.line()
		w.list(col+rapid.IntRange(-1, 3).Draw(w.r, "deeper"), depth-1, true)
	case kind == 2:
		w.b.WriteString(" ")
		w.flow(depth)
		w.line()
	default:
		w.b.WriteString(" ")
		w.scalar()
		w.line()
	}
}

func (w *yamlWriter) mapping(col, depth int, indent bool) {
	for range rapid.IntRange(1, 3).Draw(w.r, "fields") {
		if indent {
			w.b.WriteString(strings.Repeat(" ", max(col, 0)))
		}
		indent = true
		w.key()
		w.b.WriteString(":")
		w.value(col, depth)
	}
}

func (w *yamlWriter) list(col, depth int, indent bool) {
	for range rapid.IntRange(1, 3).Draw(w.r, "items") {
		if indent {
			w.b.WriteString(strings.Repeat(" ", max(col, 0)))
		}
		indent = true
		w.b.WriteString("-")
		switch kind := rapid.IntRange(0, 4).Draw(w.r, "item"); {
		case kind == 0 && depth > 0:
			w.b.WriteString(" ")
			w.mapping(col+2, depth-1, false)
		case kind == 1 && depth > 0:
			w.b.WriteString(" ")
			w.list(col+2, depth-1, false)
		default:
			w.value(col, depth)
		}
	}
}

func (w *yamlWriter) flow(depth int) {
	n := rapid.IntRange(0, 3).Draw(w.r, "length")
	isMapping := rapid.Bool().Draw(w.r, "mapping")
	w.b.WriteString(map[bool]string{true: "{", false: "["}[isMapping])
	w.gap()
	for i := range n {
		if i > 0 {
			w.b.WriteString(",")
			w.gap()
		}
		if isMapping {
			w.key()
			w.b.WriteString(": ")
			w.gap()
		}
		if depth > 0 && rapid.IntRange(0, 3).Draw(w.r, "nested") == 0 {
			w.flow(depth - 1)
		} else {
			w.scalar()
		}
		w.gap()
	}
	w.b.WriteString(map[bool]string{true: "}", false: "]"}[isMapping])
}

// entries writes a file of them.
func (w *yamlWriter) entries() string {
	layout := rapid.IntRange(0, 3).Draw(w.r, "layout")
	if layout == 0 {
		w.b.WriteString("---\n[")
	}
	for i := range rapid.IntRange(1, 3).Draw(w.r, "entries") {
		switch layout {
		case 0, 1:
			if layout == 1 {
				w.b.WriteString("- ")
			} else if i > 0 {
				w.b.WriteString(",")
			}
			w.b.WriteString("{task_id: x")
			w.gap()
			w.b.WriteString(", data: ")
			w.flow(2)
			w.gap()
			w.b.WriteString("}")
			if layout == 1 {
				w.line()
			}
		default:
			w.b.WriteString("- task_id: ")
			w.scalar()
			w.line()
			w.b.WriteString("  data:")
			w.value(2, 3)
			if rapid.Bool().Draw(w.r, "more") {
				w.mapping(2, 2, true)
			}
		}
	}
	if layout == 0 {
		w.b.WriteString("]\n")
	}
	return w.b.String()
}

// mutate puts a few faults into text.
func mutate(r *rapid.T, text string) string {
	runes := []rune(text)
	for range rapid.IntRange(0, 3).Draw(r, "mutations") {
		from := rapid.IntRange(0, len(runes)).Draw(r, "from")
		to := min(from+rapid.IntRange(0, 3).Draw(r, "removed"), len(runes))
		insert := ""
		if rapid.Bool().Draw(r, "insert") {
			insert = rapid.SampledFrom(nasty).Draw(r, "inserted")
		}
		runes = []rune(string(runes[:from]) + insert + string(runes[to:]))
	}
	return string(runes)
}

// Whatever is nearly the YAML that the fast path knows comes out of it as out
// of the parser, or is left to that.
func TestFastYAMLAgrees(t *testing.T) {
	t.Parallel()
	taken, all, texts := 0, 0, 0
	rapid.Check(t, func(r *rapid.T) {
		text := mutate(r, (&yamlWriter{r: r}).entries())
		a, b := compareFast(r, text, 1<<20)
		taken, all, texts = taken+a, all+b, texts+1
		compareFast(r, text, int64(rapid.IntRange(1, len(text)+20).Draw(r, "limit")))
	})
	t.Logf("%d texts, %d entries, of which %d are taken", texts, all, taken)
	if taken < all/20 || taken > all*19/20 {
		t.Errorf("%d of %d entries are taken: one side is hardly tested", taken, all)
	}
}

// The fast path is no use if ordinary files do not take it.
func TestFastYAMLTakesOrdinaryFiles(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"block":       "- task_id: task-1\n  data:\n    num1: 5\n    url: \"s3://bucket/x\"\n    values: [1, 2.5, -3]\n    nested:\n      - a\n      - b: c\n- task_id: task-2\n  data:\n    num1: -7\n    nothing:\n    flag: true\n    note: Some words, and more of them.\n",
		"flow":        "- {\"task_id\": \"x\", \"data\": {\"num1\": 5, \"list\": [1, 2], \"none\": null, \"s\": \"\\u00fc \\\"q\\\"\\n\"}}\n- {task_id: x-2, data: {a: b, c: [d e, 1.5]}}\n",
		"flow list":   "---\n[\n  {\n    \"task_id\": \"x\",\n    \"data\": {\"a\": [1, 2]}\n  },\n  {\"task_id\": \"y\", \"data\": 5}\n]\n",
		"Windows":     "- task_id: x\r\n  data:\r\n    path: C:\\x\\y\r\n\r\n- task_id: x-2\r\n  data: []\r\n",
		"PyYAML":      "- data:\n    command: echo 'a b' | wc -l\n    inputs:\n    - name: x\n      size: 12\n    - name: 'yes'\n      size: 1.5\n    when: '2024-01-02'\n  task_id: 3f2b8c1e-0d4a-4e6f-9b7a-5c3d2e1f0a9b\n",
		"PyYAML flow": "- {data: {a: 1, b: '2'}, task_id: x}\n- {data: [s3://b/k, 'a: b'], task_id: 'y'}\n",
		"no data":     "- task_id: x\n  data:\n- task_id: x-2\n  data: null\n",
		"indented":    "  - task_id: x\n    data: {}\n    priority: 5\n\n  - task_id: x-2\n    data: word\n",
		"top-level":   "- task_id: x\n  data: \"a string\"\n- task_id: x-2\n  data: 17\n- task_id: z\n  data:\n  - 1\n  - [2]\n",
	} {
		if taken, all := compareFast(t, text, 1<<20); taken != all || all == 0 {
			t.Errorf("%s: %d of %d entries are taken", name, taken, all)
		}
	}
	// What this library writes, too, but for what it folds or writes in blocks.
	var tasks []map[string]any
	for i := range 100 {
		tasks = append(tasks, map[string]any{"task_id": fmt.Sprintf("task %d", i), "data": map[string]any{
			"int": i * 1000, "float": float64(i) / 8, "flag": i%2 == 0, "none": nil, "text": fmt.Sprintf("%d: some text, \"quoted\"", i),
			"list": []any{i, "a", []int{1, 2}, map[string]any{"k": "v"}}, "empty": []any{}, "path": "s3://bucket/über/a.txt", "date": "2024-01-02",
		}})
	}
	text, err := yaml.Marshal(tasks)
	if err != nil {
		t.Fatal(err)
	}
	if taken, all := compareFast(t, string(text), 1<<20); taken != all || all != len(tasks) {
		t.Errorf("%d of %d entries that the library wrote are taken:\n%s", taken, all, text[:400])
	}
}
