package taskfile_test

import (
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func TestCSV(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200)
	for _, tc := range []struct {
		name, file, content string
		csv                 bool
		want                []string // ID and data of each task
	}{
		{"columns", "t.csv", "lat,lon\n1.50,2\n-1,\n", false, []string{`1.50,2 {"lat":"1.50","lon":"2"}`, `-1, {"lat":"-1","lon":""}`}},
		{"one column", "t.csv", "file\r\na b.fits\r\n\r\nb.fits", false, []string{`a b.fits {"file":"a b.fits"}`, `b.fits {"file":"b.fits"}`}},
		{"quotes", "t.csv", "a,b\n\"x, \"\"y\"\"\",\"two\nlines\"\n", false, []string{`"x, ""y""",twolines#ee8e51a1142f6735 {"a":"x, \"y\"","b":"two\nlines"}`}},
		{"IDs", "t.csv", "a,task_id\n1,one\n2,two\n", false, []string{`one {"a":"1"}`, `two {"a":"2"}`}},
		{"only IDs", "t.csv", "task_id\none\n", false, []string{`one {}`}},
		{"long", "t.csv", "a\n" + long + "\n", false, []string{long[:40] + `#aa20c23e32018340 {"a":"` + long + `"}`}},
		{"semicolons", "t.csv", "a;b\n1,5;2\n", false, []string{`"1,5",2 {"a":"1,5","b":"2"}`}},
		{"tabs", "t.csv", "a\tb\n1\t2\n", false, []string{`1,2 {"a":"1","b":"2"}`}},
		{"TSV", "t.tsv", "a,b\tc\n1\t2\n", false, []string{`1,2 {"a,b":"1","c":"2"}`}},
		{"byte order mark", "t.csv", "\ufeffa,b\n1,2\n", false, []string{`1,2 {"a":"1","b":"2"}`}},
		{"other name", "t.txt", "a\n1\n", true, []string{`1 {"a":"1"}`}},
		{"JSON name", "t.json", "a\n1\n", true, []string{`1 {"a":"1"}`}},
		{"TSV, forced", "t.tsv", "a\tb\n1\t2\n", true, []string{`1,2 {"a":"1","b":"2"}`}},
		{"no rows", "t.csv", "a,b\n", false, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, tc.file, []byte(tc.content))
			slow := io.NopCloser(iotest.OneByteReader(strings.NewReader(tc.content)))
			for how, opts := range map[string]taskfile.Options{"file": {}, "byte by byte": {Stream: slow}} {
				opts.CSV = tc.csv
				tasks, err := readAll(t, path, opts)
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				var got []string
				for _, task := range tasks {
					got = append(got, task.id+" "+task.data)
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("%s: got %q, want %q", how, got, tc.want)
				}
			}
		})
	}
}

func TestBrokenCSV(t *testing.T) {
	t.Parallel()
	for _, b := range []broken{
		{"empty", "t.csv", "", 0, 0, "the file is empty: the first row of a CSV file names the columns"},
		{"short row", "t.csv", "a,b\n1,2\n\n3\n", 1, 4, "the row has 1 values, but the first row names 2 columns"},
		{"long row", "t.csv", "a\n1\n3,4\n", 1, 3, "the row has 2 values, but the first row names 1 columns"},
		{"name twice", "t.csv", "a,b,a\n1,2,3\n", 0, 1, `two columns have the name "a"`},
		{"no name", "t.csv", "a,,b\n1,2,3\n", 0, 1, "column 2 has no name"},
		{"CR", "t.csv", "a,b\r1,2\r", 0, 1, "the rows end with CR"},
		{"no ID", "t.csv", "a,task_id\n1,2\n1,\n", 1, 3, "task_id is empty"},
		{"quote within", "t.csv", "a,b\n1,2\n1,2\"3\n", 1, 3, "a double quote within a value, at byte 4 of the line"},
		{"text after quotes", "t.csv", "a,b\n1,2\n1,\"2\"3\n", 1, 3, "a double quote within a value"},
		{"open quotes", "t.csv", "a,b\n1,2\n3,\"4\n5,6\n", 1, 3, "does not end: close the quotes"},
		{"not UTF-8", "t.csv", "a\n1\n2\ncaf\xe9\n", 2, 4, "invalid UTF-8"},
		{"not UTF-8 in the names", "t.csv", "caf\xe9\n1\n", 0, 1, "invalid UTF-8"},
		{"too large", "t.csv", "a\n1\n" + strings.Repeat("x", 1100) + "\n", 1, 3, "the entry takes more than 1000 bytes"},
		{"too large in quotes", "t.csv", "a\n1\n\"" + strings.Repeat("x\n", 100_000) + "\n", 1, 3, "the entry takes more than 1000 bytes"},
	} {
		t.Run(b.name, b.run)
	}
}

// The rows that a CSV writer has written are read back, and different rows have different IDs.
func TestCSV_RoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		value := rapid.StringMatching(`[ab,;"\t é\n]{0,4}`)
		columns := rapid.IntRange(1, 3).Draw(rt, "columns")
		names := []string{"x,", `y"`, "z"}[:columns]
		rows := rapid.SliceOfN(rapid.SliceOfN(value, columns, columns), 0, 20).Draw(rt, "rows")
		var text strings.Builder
		w := csv.NewWriter(&text)
		_ = w.Write(names)
		for _, row := range rows {
			if columns == 1 && row[0] == "" {
				row[0] = "-" // encoding/csv writes an empty line, which CSV readers skip
			}
			_ = w.Write(row)
		}
		w.Flush()
		tasks, err := readAll(t, "t.csv", taskfile.Options{Stream: io.NopCloser(strings.NewReader(text.String()))})
		if err != nil || len(tasks) != len(rows) {
			rt.Fatalf("%q: %d tasks of %d, error %v", text.String(), len(tasks), len(rows), err)
		}
		seen := map[string]string{}
		for i, task := range tasks {
			var data map[string]string
			if err := json.Unmarshal([]byte(task.data), &data); err != nil {
				rt.Fatal(err)
			}
			want := map[string]string{}
			for c, name := range names {
				want[name] = rows[i][c]
			}
			if !maps.Equal(data, want) {
				rt.Fatalf("row %q is read as %s", rows[i], task.data)
			}
			if other, ok := seen[task.id]; ok && other != task.data {
				rt.Fatalf("%s and %s have the ID %q", other, task.data, task.id)
			}
			seen[task.id] = task.data
		}
	})
}
