package taskfile_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/ctworker/ctworker/sources/taskfile"
)

// values draws any JSON value.
func values() *rapid.Generator[any] {
	text := rapid.OneOf(
		rapid.String(),
		rapid.StringMatching(`[-#:,&*!|>'"%@\[\]{}? \n\ta-c0-9.\\]{0,12}`),
		rapid.SampledFrom([]string{"- x", "a: b", "---", "...\n", "\n- x\n", "null", "1e3", "0x1", "~", "yes", "<<", "\u2028", "\ufeff", strings.Repeat("long line ", 20)}),
	)
	leaf := rapid.OneOf(
		rapid.Just[any](nil), rapid.Map(rapid.Bool(), asAny), rapid.Map(rapid.Int(), asAny), rapid.Map(text, asAny),
	)
	node := leaf
	for range 3 {
		inner := node
		node = rapid.OneOf(leaf,
			rapid.Map(rapid.SliceOfN(inner, 0, 3), asAny),
			rapid.Map(rapid.MapOfN(text, inner, 0, 3), asAny),
		)
	}
	return node
}

func asAny[T any](v T) any { return v }

// Tasks are read back unchanged from every format, whatever the sizes of the individual reads.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		entry := rapid.Custom(func(r *rapid.T) map[string]any {
			return map[string]any{
				"task_id": rapid.StringN(1, 20, -1).Draw(r, "task_id"),
				"data":    values().Draw(r, "data"),
				"zzz":     values().Draw(r, "other"),
			}
		})
		entries := rapid.SliceOfN(entry, 0, 6).Draw(r, "entries")
		want := make([]task, len(entries))
		for i, e := range entries {
			want[i] = task{e["task_id"].(string), compact(r, e["data"])}
		}
		for name, text := range encodings(r, entries) {
			readers := map[string]io.Reader{
				"whole": bytes.NewReader(text), "bytes": iotest.OneByteReader(bytes.NewReader(text)),
				"halves": iotest.HalfReader(bytes.NewReader(text)), "EOF with data": iotest.DataErrReader(bytes.NewReader(text)),
			}
			for how, reader := range readers {
				src, err := taskfile.Open("-", taskfile.Options{Stdin: reader})
				if err != nil {
					r.Fatal(err)
				}
				got, err := drain(t, src, 4)
				closeSource(t, src)
				if err != nil {
					r.Fatalf("%s, %s: %v in %q", name, how, err, text)
				}
				for i := range got {
					// The order of the keys of an object depends on the encoder.
					var data any
					decoder := json.NewDecoder(strings.NewReader(got[i].data))
					decoder.UseNumber()
					if err := decoder.Decode(&data); err != nil {
						r.Fatalf("%s, %s: %v in %q", name, how, err, got[i].data)
					}
					got[i].data = compact(r, data)
				}
				if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
					r.Fatalf("%s, %s: got %q, want %q from %q", name, how, got, want, text)
				}
			}
		}
	})
}

func compact(r *rapid.T, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

func encodings(r *rapid.T, entries []map[string]any) map[string][]byte {
	var rows bytes.Buffer
	encoder := json.NewEncoder(&rows)
	for _, e := range entries {
		if err := encoder.Encode(e); err != nil {
			r.Fatal(err)
		}
	}
	indented, err := json.MarshalIndent(entries, "", "  ")
	if err != nil {
		r.Fatal(err)
	}
	texts := map[string][]byte{
		"json array": []byte(compact(r, entries)), "indented": indented, "json lines": rows.Bytes(),
	}
	// Without the "---", the first byte of a flow list would make it look like JSON.
	texts["json as yaml"] = append([]byte("---\n"), indented...)
	for name, text := range map[string][]byte{"yaml": yamlText(r, entries, 0), "yaml flow": yamlText(r, entries, yaml.FlowStyle)} {
		// The library cannot read some strings that it has written: it breaks lines at characters
		// that are line breaks only in YAML 1.1.
		if bytes.ContainsAny(text, "\u0085\u2028\u2029") {
			continue
		}
		var back []map[string]any
		if err := yaml.Unmarshal(text, &back); err == nil && compact(r, append([]map[string]any{}, back...)) == compact(r, entries) {
			texts[name] = append([]byte("---\n"), text...)
		}
	}
	return texts
}

// yamlText writes the entries as a document in the given style. It returns nil if the library
// cannot write them in that style.
func yamlText(r *rapid.T, entries []map[string]any, style yaml.Style) []byte {
	var node yaml.Node
	if node.Encode(entries) != nil {
		return nil
	}
	node.Style = style
	text, err := yaml.Marshal(&node)
	if err != nil {
		r.Fatal(err)
	}
	return text
}
