package taskfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"

	"github.com/ctworker/ctworker/sources/taskfile"
)

func wantFault(t *testing.T, err error, file string, entry, line int64, reason string) {
	t.Helper()
	fault, ok := errors.AsType[*taskfile.Error](err)
	if !ok {
		t.Errorf("the error is %v", err)
		return
	}
	if fault.File != file || fault.Entry != entry || fault.Line != line || !strings.Contains(fault.Reason, reason) {
		t.Errorf("the error is %q (entry %d, line %d); want entry %d, line %d, %q", err, fault.Entry, fault.Line, entry, line, reason)
	}
	where := file + ": "
	if entry > 0 {
		where = fmt.Sprintf("%s: entry %d, line %d: ", file, entry, line)
	}
	if !strings.HasPrefix(err.Error(), where) {
		t.Errorf("the error is %q, and does not start with %q", err, where)
	}
}

type broken struct {
	name, file, content string
	good                int // tasks before the fault
	line                int64
	reason              string
}

func (b broken) run(t *testing.T) {
	t.Parallel()
	path := writeFile(t, b.file, []byte(b.content))
	got, err := readAll(t, path, taskfile.Options{MaxTaskSize: 1000})
	if len(got) != b.good {
		t.Errorf("there are %d tasks before the error, not %d", len(got), b.good)
	}
	entry := int64(b.good) + 1
	if b.line == 0 {
		entry = 0
	}
	wantFault(t, err, path, entry, b.line, b.reason)
	if !strings.HasSuffix(b.file, ".yaml") {
		return
	}
	// The error does not depend on how many entries are parsed together.
	slow := io.NopCloser(iotest.OneByteReader(strings.NewReader(b.content)))
	_, slowErr := readAll(t, path, taskfile.Options{MaxTaskSize: 1000, Stream: slow})
	if err != nil && (slowErr == nil || slowErr.Error() != err.Error()) {
		t.Errorf("the error is %q, and %q byte by byte", err, slowErr)
	}
}

const (
	ok1    = `{"task_id":"a","data":1}`
	start2 = "[" + ok1 + ",\n\n"
)

func TestBrokenJSON(t *testing.T) {
	t.Parallel()
	for _, b := range []broken{
		{"string", "t.json", start2 + `"x"]`, 1, 3, "the entry is a string: an entry is an object"},
		{"null", "t.json", start2 + `null]`, 1, 3, "the entry is null"},
		{"number", "t.json", start2 + `1]`, 1, 3, "the entry is a number"},
		{"bool", "t.json", start2 + `true]`, 1, 3, "the entry is true or false"},
		{"array", "t.jsonl", ok1 + "\n[]", 1, 2, "the entry is an array"},
		{"no id", "t.json", start2 + "{\n\n\"data\":1}]", 1, 3, "task_id is missing"},
		{"no id, far", "t.json", start2 + "{" + strings.Repeat("\n", 400) + "\"data\":1}]", 1, 3, "task_id is missing"},
		{"id fraction", "t.json", start2 + `{"task_id":7.0,"data":1}]`, 1, 3, "task_id is 7.0, a number: it must be a string or an integer"},
		{"id exponent", "t.json", start2 + `{"task_id":1e3,"data":1}]`, 1, 3, "task_id is 1e3, a number: it must be a string or an integer"},
		{"id true", "t.json", start2 + `{"task_id":true,"data":1}]`, 1, 3, "task_id is true or false"},
		{"id null", "t.json", start2 + `{"task_id":null,"data":1}]`, 1, 3, "task_id is null"},
		{"id object", "t.json", start2 + `{"task_id":{},"data":1}]`, 1, 3, "task_id is an object"},
		{"id empty", "t.json", start2 + `{"task_id":"","data":1}]`, 1, 3, "task_id is empty"},
		{"no data", "t.json", start2 + `{"task_id":"x"}]`, 1, 3, "data is missing"},
		{"nothing", "t.jsonl", ok1 + "\n{}", 1, 2, "task_id is missing"},
		{"id twice", "t.json", start2 + `{"task_id":"x","task_id":"y","data":1}]`, 1, 3, `duplicate key "task_id"`},
		{"data twice", "t.json", start2 + "{\"task_id\":\"x\",\"data\":1,\n\"d\\u0061ta\":1}]", 1, 4, `duplicate key`},
		{"other twice", "t.json", start2 + `{"x":1,"task_id":"x","data":1,"\u0078":1}]`, 1, 3, "duplicate key"},
		{"syntax", "t.json", start2 + "{\"task_id\":\"x\",\n\"data\":tru}]", 1, 4, "in literal true"},
		{"single quotes", "t.json", start2 + "{'task_id':1}]", 1, 3, "not valid JSON"},
		{"no colon", "t.json", start2 + "{\"task_id\"\n\"x\"}]", 1, 4, "expecting ':'"},
		{"bad number", "t.jsonl", ok1 + "\n" + `{"task_id":"x","data":01}`, 1, 2, "not valid JSON"},
		{"bad escape", "t.jsonl", ok1 + "\n" + `{"task_id":"x","data":"\q"}`, 1, 2, "escape"},
		{"newline in string", "t.jsonl", ok1 + "\n{\"task_id\":\"x\n\",\"data\":1}", 1, 2, "not valid JSON"},
		{"comment", "t.jsonl", ok1 + "\n// no", 1, 2, "not valid JSON"},
		{"garbage", "t.json", start2 + ok1 + "]\n\n]", 2, 5, "more after the closing ]"},
		{"second array", "t.json", "[" + ok1 + "]\n[" + ok1 + "]", 1, 2, "more after the closing ]"},
		{"no comma", "t.json", "[" + ok1 + "\n" + ok1 + "]", 1, 2, "expecting ','"},
		{"no comma in entry", "t.json", start2 + "{\"task_id\":\"x\"\n\"data\":1}]", 1, 4, "expecting ','"},
		{"trailing comma", "t.json", "[" + ok1 + "\n,\n]", 1, 2, "comma before the closing ]"},
		{"two commas", "t.json", "[" + ok1 + "\n,,\n" + ok1 + "]", 1, 2, "comma"},
		{"comma between lines", "t.jsonl", ok1 + "\n,\n" + ok1, 1, 2, "comma where an entry must start"},
		{"wrong bracket", "t.json", "[" + ok1 + "\n}", 1, 2, "not valid JSON"},
		{"cut off in entry", "t.json", start2 + "{\"task_id\":\"x\",\n\"da", 1, 4, "it is cut off"},
		{"cut off after comma", "t.json", start2, 1, 1, "before the closing ]"},
		{"cut off after entry", "t.json", "[" + ok1 + "\n\n", 1, 1, "before the closing ]"},
		{"cut off line", "t.jsonl", ok1 + "\n{\"task_id\":\"x\",", 1, 2, "in the middle of the entry: it is cut off"},
		{"cut off number", "t.jsonl", ok1 + "\n{\"task_id\":\"x\",\"data\":1", 1, 2, "it is cut off"},
		{"invalid UTF-8", "t.json", start2 + "{\"task_id\":\"x\xff\",\"data\":1}]", 1, 3, "invalid UTF-8"},
		{"invalid UTF-8 outside", "t.json", start2 + "\xff", 1, 3, "invalid UTF-8"},
		{"surrogate in bytes", "t.json", start2 + "{\"task_id\":\"x\",\"data\":\n[1,\n\"\xed\xb3\xa9\",\n2]}]", 1, 5, "invalid UTF-8"},
		{"invalid UTF-8 in a name", "t.jsonl", ok1 + "\n{\"task_id\":\"x\",\"\xff\":1,\"data\":1}", 1, 2, "invalid UTF-8"},
		{"too large", "t.json", start2 + `{"task_id":"x","data":"` + strings.Repeat("x", 1000) + `"}]`, 1, 3, "more than 1000 bytes"},
		{"far too large", "t.json", start2 + `{"task_id":"x",` + "\n" + `"data":"` + strings.Repeat("\\n", 100_000) + `"}]`, 1, 3, "more than 1000 bytes"},
		{"too deep", "t.json", `[{"task_id":"x","data":` + strings.Repeat("[", 500) + "}", 0, 1, "not valid JSON"},
		{"scalar", "t.json", "\n7", 0, 2, "starts with a number: the tasks must be a list"},
		{"object of tasks", "t.json", `{"tasks":[]}`, 0, 1, `the file is an object with the list "tasks", not a list`},
		{"empty", "t.json", "", 0, 0, "the file is empty: a JSON file with no tasks is []"},
		{"blank", "t.json", " \n", 0, 0, "the file is empty"},
		{"UTF-16 mark", "t.json", "\xFF\xFE[\x00]\x00", 0, 0, "save it as UTF-8"},
		{"UTF-16", "t.json", "[\x00]\x00", 0, 0, "save it as UTF-8"},
		{"UTF-16 big", "t.jsonl", "\x00{\x00}", 0, 0, "save it as UTF-8"},
		{"named gzip", "t.json.gz", "[]", 0, 0, "the name says gzip, but the content is not compressed"},
		{"named zstd", "t.json.zst", "\x1f\x8b\x08", 0, 0, "the name says zstd, but the content is gzip"},
		{"bzip2", "t.json", "BZh91AY&SY", 0, 0, "the file is bzip2"},
	} {
		t.Run(b.name, b.run)
	}
}

// The line of an error is right, wherever the chunks end in which the file is read.
func TestLinesOfLargeFiles(t *testing.T) {
	t.Parallel()
	const count = 10_000
	for name, entry := range map[string]string{"t.json": ok1 + "\n,", "t.yaml": yaml1} {
		prefix, bad, after := "[", "{"+strings.Repeat("\n", 200_000)+`"data":1}`, "]"
		line := int64(count + 1)
		if name == "t.yaml" {
			prefix, bad, after = "", "-"+strings.Repeat("\n", 200_000)+"  data: 1", "\n- x\n"
			line = 2*count + 1
		}
		path := writeFile(t, name, []byte(prefix+strings.Repeat(entry, count)+bad+after))
		got, err := readAll(t, path, taskfile.Options{})
		if len(got) != count {
			t.Errorf("%s: there are %d tasks before the error", name, len(got))
		}
		wantFault(t, err, path, count+1, line, "task_id is missing")
		path = writeFile(t, name, []byte(prefix+strings.Repeat(entry, count)+"\n\n% \""))
		_, err = readAll(t, path, taskfile.Options{})
		if name == "t.json" {
			wantFault(t, err, path, count+1, line+2, "not valid JSON")
		}
	}
}

func TestBrokenCompression(t *testing.T) {
	t.Parallel()
	// The data compresses badly, so that tasks precede the cut or the fault in the compressed file.
	var text strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&text, "{\"task_id\":\"%d\",\"data\":%d}\n", i, uint32(i)*2_654_435_761)
	}
	for _, how := range []string{"gz", "zst"} {
		packed := compress(t, how, []byte(text.String()))
		for _, part := range []int{1, 4, 5, len(packed) / 2, len(packed) - 2} {
			t.Run(fmt.Sprintf("%s/cut at %d", how, part), func(t *testing.T) {
				t.Parallel()
				path := writeFile(t, "t.jsonl", packed[:part])
				if part < 4 {
					path = writeFile(t, "t.jsonl."+how, packed[:part])
				}
				got, err := readAll(t, path, taskfile.Options{})
				fault, ok := errors.AsType[*taskfile.Error](err)
				if !ok || part >= 4 && !strings.Contains(fault.Reason, "cut off") {
					t.Fatalf("error %v after %d tasks", err, len(got))
				}
				if part > 100 && (len(got) == 0 || fault.Entry != int64(len(got))+1 || fault.Line < fault.Entry-1 || fault.Line > fault.Entry) {
					t.Errorf("error %v after %d tasks", err, len(got))
				}
			})
		}
		t.Run(how+"/damaged", func(t *testing.T) {
			t.Parallel()
			damaged := append([]byte{}, packed...)
			damaged[len(damaged)/2] ^= 0x55
			_, err := readAll(t, writeFile(t, "t.jsonl", damaged), taskfile.Options{})
			if _, ok := errors.AsType[*taskfile.Error](err); !ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

// Bytes after the compressed data are not reported as compressed data that is cut off.
func TestBytesAfterCompressedData(t *testing.T) {
	t.Parallel()
	const text = "[" + ok1 + "]"
	for how, magic := range map[string]string{"gz": "\x1F\x8B", "zst": "\x28\xB5\x2F\xFD"} {
		name := map[string]string{"gz": "gzip", "zst": "zstd"}[how]
		one := compress(t, how, []byte(text))
		two := slices.Concat(compress(t, how, []byte(text[:9])), compress(t, how, []byte(text[9:])))
		for _, packed := range [][]byte{one, two} {
			for _, rest := range []string{"\n", "\x00", "xyz", magic[:1] + "x", "garbage, and more of it", strings.Repeat("\x00", 100_000)} {
				for _, stream := range []bool{false, true} {
					path := writeFile(t, "t.json", slices.Concat(packed, []byte(rest)))
					opts := taskfile.Options{}
					if stream {
						opts.Stream = io.NopCloser(iotest.OneByteReader(bytes.NewReader(slices.Concat(packed, []byte(rest)))))
					}
					got, err := readAll(t, path, opts)
					if len(got) != 1 {
						t.Errorf("%s, %.10q: %d tasks before the error", how, rest, len(got))
					}
					wantFault(t, err, path, 0, 0, fmt.Sprintf("the %s data ends at byte %d of the file, and the bytes after it are not %s", name, len(packed), name))
				}
			}
			for cut := 1; cut <= len(magic); cut++ {
				path := writeFile(t, "t.json", slices.Concat(packed, []byte(magic[:cut])))
				_, err := readAll(t, path, taskfile.Options{})
				if err == nil || !strings.Contains(err.Error(), "the "+name+" file is cut off") {
					t.Errorf("%s, second part cut at %d: error %v", how, cut, err)
				}
			}
		}
	}
}

// All kinds of frames and blocks are read to their end.
func TestZstdFrames(t *testing.T) {
	t.Parallel()
	var random strings.Builder
	for i := range 30_000 { // more than a block
		fmt.Fprintf(&random, "%d,", uint32(i)*2_654_435_761)
	}
	skippable := []byte("\x5A\x2A\x4D\x18\x03\x00\x00\x00xyz")
	for name, value := range map[string]string{
		"short": "", "incompressible": random.String()[:3000], "many blocks": random.String(), "repeated": strings.Repeat("0,", 200_000),
	} {
		text := `[{"task_id":"a","data":[` + value + "0]}]"
		for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
			for _, single := range []bool{false, true} {
				for _, crc := range []bool{false, true} {
					w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(level), zstd.WithSingleSegment(single), zstd.WithEncoderCRC(crc))
					if err != nil {
						t.Fatal(err)
					}
					whole := w.EncodeAll([]byte(text), nil)
					var b bytes.Buffer // compressed without knowing its size
					w.Reset(&b)
					_, err = w.Write([]byte(text))
					if err := errors.Join(err, w.Close()); err != nil {
						t.Fatal(err)
					}
					for _, packed := range [][]byte{whole, b.Bytes(), slices.Concat(skippable, whole, skippable)} {
						got, err := readAll(t, writeFile(t, "t.json.zst", packed), taskfile.Options{})
						if err != nil || len(got) != 1 {
							t.Errorf("%s: %d tasks, error %v", name, len(got), err)
						}
						got, err = readAll(t, writeFile(t, "t.json.zst", append(slices.Clone(packed), 'x')), taskfile.Options{})
						if err == nil || len(got) != 1 || !strings.Contains(err.Error(), fmt.Sprintf("ends at byte %d", len(packed))) {
							t.Errorf("%s, and a byte: %d tasks, error %v", name, len(got), err)
						}
					}
				}
			}
		}
	}
}

// A read error between two members or frames does not count as the end of the file.
func TestReadErrorBetweenCompressedParts(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"gz", "zst"} {
		for _, fault := range []error{io.ErrUnexpectedEOF, io.ErrClosedPipe} {
			packed := compress(t, how, []byte(ok1+"\n"))
			stream := io.NopCloser(io.MultiReader(bytes.NewReader(packed), iotest.ErrReader(fault)))
			got, err := readAll(t, "t.jsonl", taskfile.Options{Stream: stream})
			if len(got) != 1 || !errors.Is(err, fault) {
				t.Errorf("%s: %d tasks, error %v, want %v", how, len(got), err, fault)
			}
		}
	}
}

func TestZstdWindow(t *testing.T) {
	t.Parallel()
	// This frame has one empty block, and a header that requests a window of 512 MiB.
	const frame = "\x28\xB5\x2F\xFD\x00\x98\x01\x00\x00"
	path := writeFile(t, "t.jsonl", []byte(frame))
	_, err := readAll(t, path, taskfile.Options{})
	if err == nil || !strings.Contains(err.Error(), "window of more than 128 MiB") {
		t.Errorf("error %v", err)
	}
}
