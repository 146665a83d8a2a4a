package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// head is the beginning of the events in these tests.
const head = `{"timestamp":"2026-11-27T08:00:00.000001","hostname":"h","event_type":`

func completed(id, result string) string {
	return head + `"task_completed","task_id":"` + id + `","elapsed_time":1.5,"retry":false,"result":` + result + `,"attempt":1,"slot":0}`
}

func exited(id string, more string) string {
	return head + `"task_exited","task_id":"` + id + `","elapsed_time":1,"exit_code":3` + more + `,"attempt":1,"slot":0}`
}

// export returns the table of logs with the given contents.
func export(t *testing.T, format Format, all bool, logs ...string) (string, Stats, *Logs, error) {
	t.Helper()
	var paths []string
	for i, text := range logs {
		path := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	l, err := Open(t.Context(), paths, nil)
	if err != nil {
		return "", Stats{}, nil, err
	}
	defer func() { _ = l.Close() }()
	var out bytes.Buffer
	stats, err := l.Export(t.Context(), &out, format, all)
	return out.String(), stats, l, err
}

func TestExport_FinalEvents(t *testing.T) {
	t.Parallel()
	a, again := completed("a", "1"), completed("a", "2")
	retry, failed := exited("a", `,"retry":true`), exited("a", `,"retry":false`)
	rerun := strings.Replace(again, `"retry":false`, `"retry":false,"rerun":true`, 1)
	rerunRetry := exited("a", `,"retry":true,"rerun":true`)
	for name, c := range map[string]struct {
		logs                 []string
		want                 []string // the results, or exit codes
		unfinished, repeated int64
	}{
		"one":                     {[]string{a}, []string{"1"}, 0, 0},
		"retried":                 {[]string{retry + "\n" + again}, []string{"2"}, 0, 0},
		"unfinished":              {[]string{retry}, nil, 1, 0},
		"repeated":                {[]string{a + "\n" + again}, []string{"2"}, 0, 1},
		"repeated in two logs":    {[]string{again, a}, []string{"1"}, 0, 1},
		"rerun":                   {[]string{failed + "\n" + rerun}, []string{"2"}, 0, 0},
		"rerun that is retried":   {[]string{failed + "\n" + rerunRetry}, nil, 1, 0},
		"rerun that was retried":  {[]string{failed + "\n" + rerunRetry + "\n" + rerun}, []string{"2"}, 0, 0},
		"retry after a final one": {[]string{a + "\n" + retry}, []string{"1"}, 0, 0},
		"two tasks":               {[]string{a + "\n" + completed("b", "3") + "\n" + again}, []string{"3", "2"}, 0, 1},
		"other events":            {[]string{head + `"keep_alive"}` + "\n" + a}, []string{"1"}, 0, 0},
		"escaped ID":              {[]string{a + "\n" + completed(`\u0061`, "2")}, []string{"2"}, 0, 1},
		"empty log":               {[]string{"", a}, []string{"1"}, 0, 0},
		"no events":               {[]string{""}, nil, 0, 0},
	} {
		text, stats, _, err := export(t, JSONLines, false, c.logs...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for line := range strings.Lines(text) {
			_, value, _ := strings.Cut(line, `,"result":`)
			got = append(got, strings.TrimSuffix(value, "}\n"))
		}
		if !slices.Equal(got, c.want) || stats.Unfinished != c.unfinished || stats.Repeated != c.repeated || stats.Rows != int64(len(c.want)) {
			t.Errorf("%s: %q, %+v", name, got, stats)
		}
	}
}

func TestExport_AllAttempts(t *testing.T) {
	t.Parallel()
	log := exited("a", `,"retry":true`) + "\n" + head + `"keep_alive"}` + "\n" + completed("a", "1") + "\n" + completed("a", "2")
	for _, f := range Formats {
		text, stats, _, err := export(t, f, true, log)
		if err != nil || stats.Rows != 3 || stats.Unfinished != 0 || stats.Repeated != 0 {
			t.Errorf("%s: %+v, error %v, %s", f, stats, err, text)
		}
	}
}

// The selection in temporary files is that of a naive computation.
func TestSelector_SameAsNaive(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		events := random.IntN(3000)
		small, large := newSelector(100), newSelector(maxRecords)
		finals := map[string]int64{}
		for ordinal := range int64(events) {
			id, e := fmt.Sprint(random.IntN(500)), effect(random.IntN(4))
			for _, s := range []*selector{small, large} {
				if err := s.add([]byte(id), ordinal, e); err != nil {
					t.Fatal(err)
				}
			}
			switch e {
			case endsTask, replaces:
				finals[id] = ordinal
			case discards:
				finals[id] = -1
			case requestsRetry:
				if _, ok := finals[id]; !ok {
					finals[id] = -1
				}
			}
		}
		want := map[int64]bool{}
		for _, ordinal := range finals {
			want[ordinal] = true
		}
		for _, s := range []*selector{small, large} {
			chosen, err := s.finish(int64(events))
			if err != nil {
				t.Fatal(err)
			}
			for ordinal := range int64(events) {
				if chosen.has(ordinal) != want[ordinal] {
					t.Fatalf("event %d of %d: selected %v", ordinal, events, chosen.has(ordinal))
				}
			}
			if err := s.close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestExport_Damage(t *testing.T) {
	t.Parallel()
	const brokenInside = `{"timestamp":"t","hostname":"h","event_type":"task_completed","task_id":"x","elapsed_time":1,"retry":false,"result":{"a" 1}}`
	for _, f := range Formats {
		_, stats, l, err := export(t, f, false, completed("a", "1")+"\nnot an event\n\n"+brokenInside+"\n"+completed("b", "2")+"\n"+completed("c", "3")[:99])
		if err != nil || stats.Rows != 2 || !slices.Equal(l.Damage[0].Lines, []int64{2, 4}) || !l.Damage[0].Torn {
			t.Errorf("%s: %+v %+v, error %v", f, stats, l.Damage, err)
		}
		if _, _, _, err := export(t, f, false, completed("a", "1"), "not an event\n"); !errors.Is(err, ErrNotALog) {
			t.Errorf("error %v", err)
		}
	}
}

func TestOpen_Errors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"gz": "\x1f\x8b\x08", "zst": "\x28\xb5\x2f\xfd\x00"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"gz": "gzip -dc FILE", "zst": "zstd -dc FILE", "none": "no such file", "": "is a directory"} {
		if _, err := Open(t.Context(), []string{filepath.Join(dir, name)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	ctx, stop := context.WithCancelCause(t.Context())
	stop(io.ErrClosedPipe)
	if _, err := Open(ctx, []string{"-"}, strings.NewReader("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// A log that shrinks between the passes is an error. A log that grows is not.
func TestExport_LogThatChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(completed("a", "1")+"\n"+completed("b", "1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), []string{path}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	_, _ = f.WriteString(completed("c", "1") + "\n")
	chosen, lines, err := l.choose(t.Context(), false)
	if err != nil || lines != 2 {
		t.Fatalf("%d lines, error %v", lines, err)
	}
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if err := l.rows(t.Context(), chosen, lines, func(*row) error { return nil }, func(line) {}); !errors.Is(err, errChanged) {
		t.Errorf("error %v", err)
	}
}

type failingWriter struct{ left int }

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return len(b), nil
}

// An output that cannot be written is an error, wherever it fails.
func TestExport_OutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(strings.Repeat(completed("a", `"`+strings.Repeat("x", 5000)+`"`)+"\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats {
		for _, size := range []int{0, 3, 1000} {
			l, err := Open(t.Context(), []string{path}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.Export(t.Context(), &failingWriter{size}, f, true); !errors.Is(err, io.ErrShortWrite) {
				t.Errorf("%s, %d bytes: error %v", f, size, err)
			}
			_ = l.Close()
		}
	}
}

// A Parquet file keeps types, columns and nulls, and has row groups of bounded size.
func TestExport_Parquet(t *testing.T) {
	t.Parallel()
	log := completed("a", `{"i":9007199254740993,"big":170141183460469231731,"neg":-170141183460469231731,"f":1,"s":"caf\udce9","mix":1,"nested":{"a":[1, 2]},"b":true,"huge":1e999,"n":null,"task_id":"own"}`) +
		"\n" + completed("b", `{"i":-1,"big":1,"f":0.5,"s":"","mix":"x","nested":[],"b":false,"huge":1,"neg":2}`) + "\n" + completed("c", `"text"`) +
		"\n" + `{"timestamp":5,"hostname":7,"event_type":"task_exited","task_id":"d","exit_code":"x","retry":false}`
	text, stats, _, err := export(t, Parquet, false, log)
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(strings.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range file.Schema().Fields() {
		names = append(names, f.Name()+" "+f.Type().String())
	}
	want := "task_id STRING,outcome STRING,timestamp TIMESTAMP(isAdjustedToUTC=true,unit=MICROS),hostname STRING,attempt INT(64,true),slot INT(64,true)," +
		"elapsed_time DOUBLE,exit_code INT(64,true),exception STRING,stderr_line STRING,retry BOOLEAN,retry_denied STRING,rerun BOOLEAN,run_id STRING,cpu_seconds DOUBLE," +
		"peak_memory_bytes INT(64,true),i INT(64,true),big DECIMAL(38,0),neg DECIMAL(38,0),f DOUBLE,s STRING,mix STRING,nested STRING,b BOOLEAN,huge STRING,n STRING," +
		"result_task_id STRING,result STRING"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("columns %s", got)
	}
	rows := make([]parquet.Row, 5)
	r := file.RowGroups()[0].Rows()
	defer func() { _ = r.Close() }()
	n, err := r.ReadRows(rows)
	if n != 4 || err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%d rows, error %v", n, err)
	}
	cell := func(row int, name string) string {
		i := slices.IndexFunc(names, func(s string) bool { return strings.HasPrefix(s, name+" ") })
		return rows[row][i].String()
	}
	for i, want := range []map[string]string{
		{"task_id": "a", "timestamp": "1795766400000001", "i": "9007199254740993", "f": "1", "s": "caf\uFFFD", "mix": "1", "nested": `{"a":[1, 2]}`, "b": "true", "huge": "1e999", "n": "<null>", "result_task_id": "own", "result": "<null>"},
		{"i": "-1", "f": "0.5", "s": "", "mix": "x", "nested": "[]", "b": "false", "huge": "1", "result": "<null>"},
		{"i": "<null>", "s": "<null>", "result": "text"},
		{"timestamp": "<null>", "hostname": "7", "exit_code": "<null>", "outcome": "task_exited", "retry": "false", "attempt": "<null>"},
	} {
		for name, value := range want {
			if got := cell(i, name); got != value {
				t.Errorf("row %d: %s is %q, want %q", i, name, got, value)
			}
		}
	}
	if got, want := []byte(cell(0, "neg")), "\xff\xff\xff\xff\xff\xff\xff\xf6"; !bytes.HasPrefix(got, []byte(want)) {
		t.Errorf("negative decimal: %x", got)
	}
	if stats.Misfits != 2 || stats.Columns != len(names) {
		t.Errorf("%+v", stats)
	}
}

func TestExport_ParquetRowGroups(t *testing.T) {
	t.Parallel()
	line := completed("a", `"`+strings.Repeat("x", 1<<20)+`"`) + "\n"
	text, _, _, err := export(t, Parquet, true, strings.Repeat(line, 70))
	if err != nil {
		t.Fatal(err)
	}
	file, err := parquet.OpenFile(strings.NewReader(text), int64(len(text)))
	if err != nil || len(file.RowGroups()) != 2 || file.NumRows() != 70 {
		t.Errorf("%d row groups, error %v", len(file.RowGroups()), err)
	}
}

func TestExport_CSV(t *testing.T) {
	t.Parallel()
	log := completed("a", `{"x":"=1+1","q":"say \"hi\"\r\n","e":"","n":null,"big":12345678901234567890123,"l":[1,{"a":"b"}]," s":" "}`) + "\n" +
		head + `"task_completed","task_id":"b","retry":false,"result_base64":"/w==","result_truncated":true,"result_bytes":9}`
	text, _, _, err := export(t, CSV, false, log)
	want := "task_id,outcome,timestamp,hostname,attempt,slot,elapsed_time,exit_code,exception,stderr_line,retry,retry_denied,rerun,run_id,cpu_seconds,peak_memory_bytes," +
		"x,q,e,n,big,l,\" s\",result_truncated,result_bytes,result_base64\r\n" +
		"a,task_completed,2026-11-27T08:00:00.000001,h,1,0,1.5,,,,false,,,,,,=1+1,\"say \"\"hi\"\"\r\n\",\"\",,12345678901234567890123,\"[1,{\"\"a\"\":\"\"b\"\"}]\",\" \",,,\r\n" +
		"b,task_completed,2026-11-27T08:00:00.000001,h,,,,,,,false,,,,,,,,,,,,,true,9,/w==\r\n"
	if err != nil || text != want {
		t.Errorf("error %v\n%s\nwant\n%s", err, text, want)
	}
}

func TestExport_JSONLinesKeepsValues(t *testing.T) {
	t.Parallel()
	text, _, _, err := export(t, JSONLines, false, completed("a", `{"i":123456789012345678901234567890,"s":"\udce9","d":1,"d":2.50,"Slot":1,"":0}`))
	want := `{"task_id":"a","outcome":"task_completed","timestamp":"2026-11-27T08:00:00.000001","hostname":"h","attempt":1,"slot":0,"elapsed_time":1.5,"retry":false,` +
		`"i":123456789012345678901234567890,"s":"\udce9","d":2.50,"result_Slot":1,"result_":0}` + "\n"
	if err != nil || text != want {
		t.Errorf("error %v\n%s\nwant\n%s", err, text, want)
	}
}

// Different keys have different columns, and none is that of an event.
func TestColumnName(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"sum": "sum", "result_sum": "result_sum", "attempt": "result_attempt", "result_attempt": "result_result_attempt",
		"result": "result_result", "result_result": "result_result_result", "": "result_", "result_": "result_result_",
		"TASK_ID": "result_TASK_ID", "result_bytes": "result_result_bytes", "event_type": "event_type", "Result_slot": "result_Result_slot",
	} {
		if got := columnName(key); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}

func TestColumnType(t *testing.T) {
	t.Parallel()
	for values, want := range map[string]columnType{
		"null": textColumn, "null 1": intColumn, "true null": boolColumn, "1 true": textColumn, "1 2.5": floatColumn, "9007199254740992 0.5": floatColumn,
		"9007199254740993 0.5": textColumn, "9223372036854775807": intColumn, "9223372036854775808": decimalColumn, "-9223372036854775808": intColumn,
		"99999999999999999999999999999999999999 -1": decimalColumn, "100000000000000000000000000000000000000": textColumn, "1e400": textColumn,
		"1e300": floatColumn, `"a" null`: textColumn, "{} 1": textColumn, "-0": intColumn, "9223372036854775808 0.5": textColumn,
	} {
		var seen kinds
		for value := range strings.FieldsSeq(values) {
			seen |= kindsOf([]byte(value))
		}
		if got := seen.columnType(); got != want {
			t.Errorf("%s: type %d, want %d", values, got, want)
		}
	}
}

func TestExport_ManyKeys(t *testing.T) {
	t.Parallel()
	object := func(n int) string {
		var keys []string
		for i := range n {
			keys = append(keys, fmt.Sprintf(`"k%d":%d`, i, i))
		}
		return "{" + strings.Join(append(keys, `"k3":"last"`), ",") + "}"
	}
	for _, f := range []Format{CSV, Parquet} {
		if _, stats, _, err := export(t, f, false, completed("a", object(maxColumns))); err != nil || stats.Columns != maxColumns+16 {
			t.Errorf("%s: %+v, error %v", f, stats, err)
		}
		for _, result := range []string{object(maxColumns + 1), `{"` + strings.Repeat("x", maxNameBytes+1) + `":1}`} {
			if _, _, _, err := export(t, f, false, completed("a", result)); err == nil || !strings.Contains(err.Error(), "--format jsonl") {
				t.Errorf("%s: error %v", f, err)
			}
		}
	}
	text, _, _, err := export(t, JSONLines, false, completed("a", object(5000)))
	if err != nil || strings.Count(text, `"k3":`) != 1 || !strings.Contains(text, `"k3":"last"`) || !strings.Contains(text, `"k4999":4999}`) {
		t.Errorf("error %v", err)
	}
}

// Keys that differ only in lone surrogates have different columns.
func TestExport_SurrogatesInKeys(t *testing.T) {
	t.Parallel()
	text, _, _, err := export(t, CSV, false, completed("a", `{"\udc80":1,"\udc81":2}`))
	if err != nil || !strings.Contains(text, ",\uFFFD,\uFFFD_\r\n") {
		t.Errorf("error %v, %q", err, text)
	}
}

func FuzzExport(f *testing.F) {
	f.Add(completed("a", `{"a":1}`)+"\n"+exited("b", ""), true)
	f.Add(completed("a", `{"a":[1e999,"\ud800"],"":{}}`)+"\n{}\n", false)
	f.Fuzz(func(t *testing.T, log string, all bool) {
		counts := map[Format]int64{}
		for _, format := range Formats {
			_, stats, _, err := export(t, format, all, log)
			if err == nil {
				counts[format] = stats.Rows
			}
		}
		if counts[CSV] != counts[Parquet] || counts[CSV] > counts[JSONLines] {
			t.Errorf("rows %v", counts)
		}
	})
}
