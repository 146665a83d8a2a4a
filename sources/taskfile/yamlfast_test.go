package taskfile

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sameAsParser reads a YAML file both ways, entry by entry, and returns how many
// entries there were and how many of them were read without the parser.
func sameAsParser(t failer, text string) (entries, fast int) {
	t.Helper()
	content, err := openContent(strings.NewReader(text), "t.yaml", 1<<20, func() {})
	if err != nil {
		return 0, 0
	}
	defer content.close()
	y, ok := content.format.(*yamlEntries)
	if !ok {
		t.Fatalf("a YAML file is read as %T", content.format)
	}
	for y.split() == nil {
		entries++
		got, ok := y.fast(true)
		if !ok {
			continue
		}
		fast++
		want, err := y.parsed(true)
		if err != nil || got.ID != want.ID || string(got.Data) != string(want.Data) {
			t.Fatalf("of %q\nfast: %q %s\nparser: %q %s, error %v", y.chunk, got.ID, got.Data, want.ID, want.Data, err)
		}
	}
	return entries, fast
}

// fastEntries are entries that are read without the parser.
var fastEntries = []string{ //nolint:gochecknoglobals // the seeds of several tests
	`{"task_id": "a", "data": {"x": 1, "y": [1, -2.5, 1e3, 0], "z": null, "b": true, "s": "é – \"q\" \\ \n \t"}}`,
	`{"task_id":"a","data":{"x":1,"y":[],"z":{}}}`, `{ "task_id": "a" , "data": 'single "double" \' }`, `{task_id: a-1.b, data: [plain words, x/y, _]}`,
	"task_id: a\n  data:\n    num1: 5\n    url: s3://bucket/x?y=z&v=1\n    values: [1, 2.5, -3]\n    nested:\n      - a\n      - b: c\n        d: e f\n      - - 1\n        - 2\n",
	"task_id: \"a b\"\n  data:\n  - 1\n  - two words\n  more: x\n", "task_id: a\n\n  data: /path/to/file.tif\n\n", "data: null\n  task_id: a\n  other:\n    \"quoted key\": 'x'\n",
	"task_id: a\n  data:\n    empty:\n    next: 1\n", "task_id: a\n  data: naïve text, with commas & such; (a) <b> 50% x=y ~ ^ !\n", "task_id: a\n  data: \"\"\n", "task_id:   a   \n  data:   5   \n",
}

// slowEntries are the parser's.
var slowEntries = []string{ //nolint:gochecknoglobals // the seeds of several tests
	"task_id: a # comment\n  data: 1\n", "task_id: a\n  # comment\n  data: 1\n", "task_id: &x a\n  data: *x\n", "task_id: a\n  data: !!str 1\n",
	"task_id: a\n  data: |\n    text\n", "task_id: a\n  data: >-\n    text\n", "task_id: a\n  data: two\n    lines\n", "task_id: a\n  data: \"two\n    lines\"\n",
	"task_id: a\n  data: {<<: {x: 1}}\n", "task_id: a\n  data: {x: 1, x: 2}\n", "task_id: a\n  data: 2024-01-02\n", "task_id: a\n  data: 0x1F\n", "task_id: a\n  data: 1_000\n",
	"task_id: a\n  data: 017\n", "task_id: a\n  data: .5\n", "task_id: a\n  data: +1\n", "task_id: a\n  data: ~\n", "task_id: a\n  data: True\n", "task_id: a\n  data: NULL\n",
	"task_id: 5\n  data: 1\n", "task_id: \"\"\n  data: 1\n", "task_id: true\n  data: 1\n", "task_id: a\n", "data: 1\n", "task_id: a\n  data: 1\n  data: 2\n", "task_id: a\n data: 1\n",
	"task_id: a\n   data: 1\n", "task_id: a\n  data: [1,\n    2]\n", "task_id: a\n  data: [1, 2,]\n", "task_id: a\n  data: [a: 1]\n", "task_id: a\n  data: {a}\n", "task_id: a\n  data: 'it''s'\n",
	"task_id: a\n  data: \"\\u0041\"\n", "task_id: a\n  data: \"\\x41\"\n", "task_id: a\n  data: a: b\n", "task_id: a\n  data: - x\n", "task_id: a\n  data: @x\n", "task_id: a\n  data: %x\n",
	"task_id: a\n  data: x\ty\n", "task_id: a\n  data: \u2028\n", "task_id: a\n  data: \"\u0085\"\n", "task_id: a\n  data:\n    - 1\n   - 2\n", "task_id: a\n  data:\n  -\n    x: 1\n", "? task_id\n  : a\n  data: 1\n",
	"task_id: a\r\n  data: 1\r\n", "{task_id: a, data:1}", "{task_id: a, data: x:y}", "[task_id, a]", "a", "task_id: a\n  data: x #y\n", "task_id: a\n  data: {1: x}\n", "task_id: a\n  data: {true: x}\n", "- task_id: a\n    data: 1\n",
	"{\"task_id\": \"a\", \"data\": \"\\/\"}", "{\"task_id\": \"a\", \"data\": 01}", "{\"task_id\": \"a\", \"data\": 1.}", "{\"task_id\": \"a\", \"data\": -}", "{\"task_id\": \"\\n\", \"data\": 1}",
}

func TestYAMLFast(t *testing.T) {
	t.Parallel()
	for _, entry := range fastEntries {
		for _, text := range []string{"- " + entry, "-   " + entry, "- " + entry + "\n- " + entry, "[" + entry + ",\n" + entry + "\n]\n", "[\n  " + entry + "]"} {
			if text[0] == '-' && strings.Contains(entry, "\n") && text[:3] == "-  " || text[0] == '[' && entry[0] != '{' {
				continue // it would be another text
			}
			if entries, fast := sameAsParser(t, text); entries == 0 || fast != entries {
				t.Errorf("%d of %d entries without the parser: %q", fast, entries, text)
			}
		}
	}
	for _, entry := range slowEntries {
		if entries, fast := sameAsParser(t, "- "+entry); fast > 0 {
			t.Errorf("%d of %d entries without the parser: %q", fast, entries, entry)
		}
	}
	deep := "- task_id: a\n  data: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n"
	wide := "- task_id: a\n  data:\n"
	for i := range 40 {
		wide += fmt.Sprintf("    k%d: 1\n", i)
	}
	large := "- task_id: a\n  data: \"" + strings.Repeat("x", 1<<18) + "\"\n"
	long := "- task_id: a\n  data: {" + strings.Repeat("x", 1000) + ": 1}\n"
	for _, text := range []string{deep, wide, large, long} {
		if entries, fast := sameAsParser(t, text); entries != 1 || fast > 0 {
			t.Errorf("%d of %d entries without the parser: %.60q…", fast, entries, text)
		}
	}
}

// nasty is what YAML is difficult because of.
var nasty = []string{ //nolint:gochecknoglobals // the alphabet of the mutations
	" ", "  ", "\n", "\n  ", "\n    ", ":", ": ", "-", "- ", "#", " #", ",", "[", "]", "{", "}", "'", "\"", "\\", "\\n", "\\u", "&", "*", "!", "|", ">", "%", "@", "`", "?", "? ", "~", "<<", "0", "1", ".", "e", "E5", "+",
	"_", "x", "true", "null", "yes", "NaN", ".inf", "0x", "0o", "\t", "\r", "\r\n", "---", "...", "\u00e9", "\u0085", "\u2028", "\ufeff", "\x7f", "\x00", "task_id", "data", "=", "\U0001F600", "\ud7ff", "\ue000",
}

// Whatever is done to good entries, what is read without the parser is read the same.
func TestYAMLFastMutations(t *testing.T) {
	t.Parallel()
	read, fast := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		entry := rapid.SampledFrom(append(fastEntries[:len(fastEntries):len(fastEntries)], slowEntries...)).Draw(r, "entry")
		text := rapid.SampledFrom([]string{"- ", "  - ", "-   ", "["}).Draw(r, "before") + entry
		for range rapid.IntRange(0, 4).Draw(r, "mutations") {
			at := rapid.IntRange(0, len(text)).Draw(r, "at")
			end := min(len(text), at+rapid.IntRange(0, 2).Draw(r, "removed"))
			text = text[:at] + rapid.SampledFrom(nasty).Draw(r, "inserted") + text[end:]
		}
		if text[0] == '[' {
			text += "]"
		}
		n, f := sameAsParser(r, text)
		read, fast = read+n, fast+f
	})
	if fast < read/20 {
		t.Errorf("only %d of %d entries were read without the parser: the comparison says little", fast, read)
	}
}

func FuzzYAMLFast(f *testing.F) {
	for _, entry := range append(fastEntries[:len(fastEntries):len(fastEntries)], slowEntries...) {
		f.Add("- " + entry)
		f.Add("[" + entry + "]")
	}
	f.Fuzz(func(t *testing.T, text string) { sameAsParser(t, text) })
}
