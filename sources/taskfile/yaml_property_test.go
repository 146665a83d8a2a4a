package taskfile_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// yamlWriter writes random text that is valid YAML, or almost valid.
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

// one draws one of the pieces, usually one of the first n pieces, where n is ordinary.
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

// value writes the text after a colon or a dash, up to and including the line end.
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

// entries writes a file with several entries.
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

// mutate adds up to three faults to text.
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

// The value and the errors of an entry do not depend on how many entries are parsed together.
func TestYAMLTogetherAndAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		text := mutate(r, (&yamlWriter{r: r}).entries()+(&yamlWriter{r: r}).entries())
		limit := int64(rapid.IntRange(1, 2*len(text)+20).Draw(r, "limit"))
		read := func(src io.Reader) string {
			var ambiguous []taskfile.Ambiguity
			source, err := taskfile.Open("t.yaml", taskfile.Options{
				Stream: io.NopCloser(src), MaxTaskSize: limit, OnAmbiguous: func(a taskfile.Ambiguity) { ambiguous = append(ambiguous, a) },
			})
			if err != nil {
				r.Fatal(err)
			}
			defer closeSource(t, source)
			got, err := drain(t, source, 5)
			return fmt.Sprint(got, err, ambiguous)
		}
		together, alone := read(strings.NewReader(text)), read(iotest.OneByteReader(strings.NewReader(text)))
		if together != alone {
			r.Fatalf("%q with limit %d:\n%s, but byte by byte\n%s", text, limit, together, alone)
		}
	})
}
