package taskfile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/internal/rawjson/rawjsontest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/taskfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// task is a pipeline.Task in a form that can be compared and printed.
type task struct{ id, data string }

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// drain calls Receive until Receive returns an error. It returns this error, or nil for io.EOF.
func drain(t testing.TB, src *taskfile.Source, limit int) ([]task, error) {
	t.Helper()
	var tasks []task
	for {
		deliveries, err := src.Receive(t.Context(), limit)
		if len(deliveries) > limit {
			t.Fatalf("Receive(%d) returned %d deliveries", limit, len(deliveries))
		}
		if len(deliveries) == 0 && err == nil {
			t.Fatal("Receive returned neither a delivery nor an error")
		}
		for _, d := range deliveries {
			if d.Attempt != 1 {
				t.Errorf("attempt is %d", d.Attempt)
			}
			tasks = append(tasks, task{d.Task.ID, string(d.Task.Data)})
		}
		if errors.Is(err, io.EOF) {
			if len(deliveries) > 0 {
				t.Error("io.EOF came together with deliveries")
			}
			return tasks, nil
		}
		if err != nil {
			_, again := src.Receive(t.Context(), limit)
			if again == nil || again.Error() != err.Error() {
				t.Errorf("the error is %v, and then %v", err, again)
			}
			return tasks, err
		}
	}
}

func closeSource(t testing.TB, src *taskfile.Source) {
	t.Helper()
	for range 2 { // it is idempotent
		if err := src.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

func readAll(t testing.TB, path string, opts taskfile.Options) ([]task, error) {
	t.Helper()
	src, err := taskfile.Open(path, opts)
	if err != nil {
		return nil, err
	}
	defer closeSource(t, src)
	return drain(t, src, 3)
}

func compress(t testing.TB, how string, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "":
		return text
	case "gz":
		w = gzip.NewWriter(&out)
	case "zst":
		var err error
		if w, err = zstd.NewWriter(&out); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// formats returns the same three tasks in every format, except that the last entry of flow.yml is invalid.
func formats() map[string]string {
	return map[string]string{
		"tasks.json":   `[ {"task_id":"a","data":{"n":1}}, {"x":[1],"data":[2],"task_id":"b"},{"task_id":"c","data":null} ]`,
		"lines.json":   "{\"task_id\":\"a\",\"data\":{\"n\":1}}\n{\"task_id\":\"b\",\"data\":[2]}\n{\"task_id\":\"c\",\"data\":null}",
		"tasks.jsonl":  "{\"task_id\":\"a\",\"data\":{\"n\":1}}\r\n\n{\"task_id\":\"b\",\"data\":[2]}\n{\"task_id\":\"c\",\"data\":null}\n",
		"tasks.ndjson": "{\"task_id\":\"a\",\"data\":{\"n\":1}}\n{\"task_id\":\"b\",\"data\":[2]}\n{\"task_id\":\"c\",\"data\":null}\n",
		"tasks.yaml":   "# tasks\n- task_id: a\n  data: {n: 1}\n- task_id: b\n  data:\n  - 2\n-\n  task_id: c\n  data:\n",
		"flow.yml":     "---\n[{task_id: a, data: {n: 1}}, {task_id: b, data: [2]}, task_id: d, ]",
		"TASKS.YML":    "%YAML 1.2\n---\n- {task_id: a, data: {n: 1}}\n...\n---\n[{task_id: b, data: [2]}]\n---\n  - task_id: c\n    data: ~\n",
	}
}

func wantABC() []task { return []task{{"a", `{"n":1}`}, {"b", `[2]`}, {"c", `null`}} }

func TestFormatsAndCompression(t *testing.T) {
	t.Parallel()
	files := formats()
	files["flow.yml"] = strings.Replace(files["flow.yml"], "task_id: d, ]", "{task_id: c, data: null}, ]", 1)
	for name, text := range files {
		for _, how := range []string{"", "gz", "zst"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				t.Parallel()
				packed := compress(t, how, []byte(text))
				names := []string{name, "renamed"} // the format is recognized by name or content
				if how != "" {
					names = append(names, name+"."+how)
				}
				for _, name := range names {
					path := writeFile(t, name, packed)
					got, err := readAll(t, path, taskfile.Options{})
					check(t, name, got, err)
				}
				got, err := readAll(t, "-", taskfile.Options{Stdin: bytes.NewReader(packed)})
				check(t, "stdin", got, err)
			})
		}
	}
}

func check(t *testing.T, name string, got []task, err error) {
	t.Helper()
	if err != nil || fmt.Sprint(got) != fmt.Sprint(wantABC()) {
		t.Errorf("%s: got %v, error %v", name, got, err)
	}
}

func TestStartsAndJoins(t *testing.T) {
	t.Parallel()
	one, two := `{"task_id":"a","data":{"n":1}}`+"\n", `{"task_id":"b","data":[2]}`+"\n"+`{"task_id":"c","data":null}`
	for name, content := range map[string]string{
		"mark.json":     "\xEF\xBB\xBF" + formats()["tasks.json"],
		"mark.yaml":     "\xEF\xBB\xBF" + formats()["tasks.yaml"],
		"members.jsonl": string(compress(t, "gz", []byte(one))) + string(compress(t, "gz", []byte(two))),
		"frames.jsonl":  string(compress(t, "zst", []byte(one))) + string(compress(t, "zst", []byte(two))),
		"skippable":     "\x50\x2A\x4D\x18\x04\x00\x00\x00abcd" + string(compress(t, "zst", []byte(one+two))),
		"space":         strings.Repeat(" \n", 200) + formats()["tasks.json"],
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(t, writeFile(t, name, []byte(content)), taskfile.Options{})
			check(t, name, got, err)
		})
	}
}

func TestNoTasks(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"empty.jsonl": "", "blank.jsonl": " \n\n", "empty.yaml": "", "comments.yaml": "# none\n---\n...\n",
		"flow.yaml": "[ # none\n]\n", "empty.json": " [ ] \n", "empty": "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := readAll(t, writeFile(t, name, []byte(content)), taskfile.Options{})
			if err != nil || len(got) > 0 {
				t.Errorf("got %v, error %v", got, err)
			}
		})
	}
}

func TestJSONPassesByteForByte(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		"12345678901234567890", "1e400", "1.0", "-0", `"\u0041\/\n"`, `"ü𝄞"`, "{ \"a\" :\t1 ,\n\"a\": 2 }", "[\n]", `""`,
		"true", `{"task_id": 1, "data": {"data": []}}`, `"` + strings.Repeat("long ", 50_000) + `"`,
	} {
		got, err := readAll(t, writeFile(t, "t.json", []byte(`[{"data": `+data+` , "task_id":"\u0061\"b"}]`)), taskfile.Options{})
		if err != nil || len(got) != 1 || got[0] != (task{`a"b`, data}) {
			t.Errorf("data %.40q: got %.80v, error %v", data, got, err)
		}
	}
	for _, data := range rawjsontest.Corpus() {
		entry := `{"task_id":"caf\udce9","data":` + data + `}`
		for name, text := range map[string]string{"t.json": "[" + entry + "]", "t.jsonl": entry + "\n"} {
			got, err := readAll(t, writeFile(t, name, []byte(text)), taskfile.Options{})
			if err != nil || len(got) != 1 || got[0] != (task{"caf\xed\xb3\xa9", data}) {
				t.Errorf("%s: data %.40q: got %.80v, error %v", name, data, got, err)
			}
		}
	}
}

func TestEscapedKeys(t *testing.T) {
	t.Parallel()
	got, err := readAll(t, writeFile(t, "t.jsonl", []byte(`{"t\u0061sk_id":"x","\u0064ata":1}`)), taskfile.Options{})
	if err != nil || len(got) != 1 || got[0] != (task{"x", "1"}) {
		t.Errorf("got %v, error %v", got, err)
	}
}

func TestTasksDoNotShareMemory(t *testing.T) {
	t.Parallel()
	src, err := taskfile.Open(writeFile(t, "t.json", []byte(formats()["tasks.json"])), taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	deliveries, err := src.Receive(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(deliveries[0].Task.Data, "overwritten"...)
	if got := string(deliveries[1].Task.Data); got != "[2]" {
		t.Errorf("appending to one task's data changes another's to %s", got)
	}
}

func TestSkip(t *testing.T) {
	t.Parallel()
	for name, text := range formats() {
		if name == "flow.yml" {
			continue // its last entry is broken; see below
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := writeFile(t, name, []byte(text))
			got, err := readAll(t, path, taskfile.Options{Skip: 2})
			if err != nil || fmt.Sprint(got) != "[{c null}]" {
				t.Errorf("skip 2: got %v, error %v", got, err)
			}
			if got, err = readAll(t, path, taskfile.Options{Skip: 4}); err != nil || len(got) > 0 {
				t.Errorf("skip 4: got %v, error %v", got, err)
			}
		})
	}
	t.Run("checks", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"bad.json", "bad.yaml"} {
			path := writeFile(t, name, []byte(`[{"task_id":"a","data":1},`+"\n"+`{"data":1},{"task_id":"c","data":1}]`))
			_, err := readAll(t, path, taskfile.Options{Skip: 3})
			wantFault(t, err, path, 2, 2, "task_id is missing")
		}
	})
}

func TestProgress(t *testing.T) {
	t.Parallel()
	first, rest := `[{"task_id":"a","data":1}`, `, {"task_id":"b","data":1}]`+"\n"
	src, err := taskfile.Open(writeFile(t, "t.json", []byte("\xEF\xBB\xBF"+first+rest)), taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	size := int64(3 + len(first+rest))
	want := func(read, total int64) {
		t.Helper()
		if r, n := src.Progress(); r != read || n != total {
			t.Errorf("progress is %d of %d, not %d of %d", r, n, read, total)
		}
	}
	want(0, size)
	if _, err := src.Receive(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	want(int64(3+len(first)), size)
	if _, err := drain(t, src, 1); err != nil {
		t.Fatal(err)
	}
	want(size, size)
}

func TestProgressOfYAML(t *testing.T) {
	t.Parallel()
	for name, entry := range map[string]string{"block.yaml": "- {task_id: a, data: 1}\n", "flow.yaml": "{task_id: a, data: 1},\n"} {
		prefix, suffix := "", ""
		if name == "flow.yaml" {
			prefix, suffix = "[", "]"
		}
		const count = 5000 // more than a chunk
		src, err := taskfile.Open(writeFile(t, name, []byte(prefix+strings.Repeat(entry, count)+suffix)), taskfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer closeSource(t, src)
		for _, n := range []int{1, count - 2} {
			if _, err := src.Receive(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if n > 1 {
				n++
			}
			want := len(prefix) + n*len(entry)
			if name == "flow.yaml" {
				want-- // the entry does not include the line end
			}
			if read, _ := src.Progress(); read != int64(want) {
				t.Errorf("%s: progress is %d and not %d after %d tasks", name, read, want, n)
			}
		}
	}
}

func TestProgressOfOtherFiles(t *testing.T) {
	t.Parallel()
	for name, text := range map[string][]byte{
		"t.yaml": []byte(formats()["tasks.yaml"]), "t.json.gz": compress(t, "gz", []byte(formats()["tasks.json"])),
	} {
		src, err := taskfile.Open(writeFile(t, name, text), taskfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer closeSource(t, src)
		if _, err := src.Receive(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if read, total := src.Progress(); read <= 0 || read > total || total != int64(len(text)) {
			t.Errorf("%s: progress is %d of %d at the first task", name, read, total)
		}
		if _, err := drain(t, src, 1); err != nil {
			t.Fatal(err)
		}
		if read, total := src.Progress(); read != total {
			t.Errorf("%s: progress is %d of %d at the end", name, read, total)
		}
	}
}

func TestReceiveReadsNoFurtherThanLimit(t *testing.T) {
	t.Parallel()
	src, err := taskfile.Open(writeFile(t, "t.jsonl", []byte(`{"task_id":"a","data":1}`+"\nbroken")), taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	if got, err := src.Receive(t.Context(), 1); err != nil || len(got) != 1 {
		t.Errorf("got %d deliveries, error %v", len(got), err)
	}
}

func TestGoodTasksComeWithTheError(t *testing.T) {
	t.Parallel()
	src, err := taskfile.Open(writeFile(t, "t.jsonl", []byte(`{"task_id":"a","data":1}`+"\n1")), taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	got, err := src.Receive(t.Context(), 5)
	if len(got) != 1 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %d deliveries, error %v", len(got), err)
	}
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	_, err := taskfile.Open(filepath.Join(t.TempDir(), "none.json"), taskfile.Options{})
	if fault, ok := errors.AsType[*taskfile.Error](err); !ok || !errors.Is(err, fs.ErrNotExist) || fault.Reason != "there is no such file" {
		t.Errorf("missing file: %v", err)
	}
	_, err = taskfile.Open(t.TempDir(), taskfile.Options{})
	if err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Errorf("directory: %v", err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	_, err = taskfile.Open("-", taskfile.Options{Stdin: dir})
	if err == nil || err.Error() != "standard input: is a directory, not a file" {
		t.Errorf("directory on stdin: %v", err)
	}
	path := writeFile(t, "secret.json", []byte("[]"))
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 { // root may read anything
		if _, err = taskfile.Open(path, taskfile.Options{}); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("unreadable file: %v", err)
		}
	}
}

func TestStdinMayBeARegularFile(t *testing.T) {
	t.Parallel()
	file, err := os.Open(writeFile(t, "any", []byte(formats()["tasks.json"])))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	got, err := readAll(t, "-", taskfile.Options{Stdin: file})
	check(t, "stdin", got, err)
	if _, err := file.Stat(); err != nil {
		t.Errorf("Close has closed a file that is not its own: %v", err)
	}
}

func TestReceiveAfterTheContext(t *testing.T) {
	t.Parallel()
	src, err := taskfile.Open(writeFile(t, "t.json", []byte(formats()["tasks.json"])), taskfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer closeSource(t, src)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := src.Receive(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	got, err := drain(t, src, 2)
	check(t, "later", got, err)
}

// endsAfter is a context that ends after n calls of Err.
type endsAfter struct {
	context.Context
	n int
}

func (c *endsAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestContextEndsWhileReading(t *testing.T) {
	t.Parallel()
	const count = 5000
	path := writeFile(t, "t.jsonl", bytes.Repeat([]byte(`{"task_id":"a","data":1}`+"\n"), count))
	for _, skip := range []int64{0, 4000} {
		src, err := taskfile.Open(path, taskfile.Options{Skip: skip})
		if err != nil {
			t.Fatal(err)
		}
		defer closeSource(t, src)
		got, err := src.Receive(&endsAfter{t.Context(), 2}, count)
		if skip == 0 && (err != nil || len(got) == 0 || len(got) == count) || skip > 0 && (len(got) > 0 || !errors.Is(err, context.Canceled)) {
			t.Errorf("skip %d: got %d deliveries, error %v", skip, len(got), err)
		}
		rest, err := drain(t, src, count)
		if want := count - int(skip) - len(got); err != nil || len(rest) != want {
			t.Errorf("skip %d: then got %d and not %d deliveries, error %v", skip, len(rest), want, err)
		}
	}
}

var _ pipeline.Source = (*taskfile.Source)(nil)
