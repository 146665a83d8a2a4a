package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ctworker/ctworker/internal/app"
	"github.com/ctworker/ctworker/internal/testutil/netfault"
)

// records generates a task file of n tasks, of recordBytes each, while it is read.
type records struct{ n, at int64 }

const recordBytes = 4096

func (r *records) size() int64 { return r.n * recordBytes }

func (r *records) Read(p []byte) (int, error) {
	if r.at >= r.size() {
		return 0, io.EOF
	}
	head := fmt.Sprintf(`{"task_id":"t%09d","data":{"num1":1,"num2":2,"pad":"`, r.at/recordBytes)
	const tail = "\"}}\n"
	record := head + strings.Repeat("x", recordBytes-len(head)-len(tail)) + tail
	n := copy(p, record[r.at%recordBytes:])
	r.at += int64(n)
	return n, nil
}

func (r *records) Seek(offset int64, origin int) (int64, error) {
	switch origin {
	case io.SeekStart:
		r.at = offset
	case io.SeekCurrent:
		r.at += offset
	case io.SeekEnd:
		r.at = r.size() + offset
	}
	return r.at, nil
}

// serveHTTP serves files by their paths, and returns the address.
func serveHTTP(t *testing.T, files map[string]func() io.ReadSeeker) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("ETag", `"one"`)
		http.ServeContent(w, r, r.URL.Path, time.Time{}, open())
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// A large file is read from a server that breaks connections. Each task runs once, and the file is
// never in memory as a whole. The test builds ctworker, because the test binary needs more memory.
func TestRemote_LargeFile(t *testing.T) {
	t.Parallel()
	const cuts, maxKiB = 20, 48 << 10
	n := int64(taskCount(8<<20, 64<<20)) / recordBytes
	dir := t.TempDir()
	for name, path := range map[string]string{"ctworker": ".", "worker": "../../examples/go-worker"} {
		// The same flags as "make build", to share its build cache.
		build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, name), path)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	address := serveHTTP(t, map[string]func() io.ReadSeeker{"/tasks.jsonl": func() io.ReadSeeker { return &records{n: n} }})
	network := netfault.NewProxy(t, address, n*recordBytes/(cuts+1), cuts)
	in := prepare(t, dir, "run", "--task-file", "http://"+network.Address+"/tasks.jsonl", "-j", "2", "--isolation", "reuse", "--", "./worker")
	in.cmd.Path, in.cmd.Args[0] = filepath.Join(dir, "ctworker"), "ctworker"
	startedAt := time.Now()
	in.start()
	peak := watchMemory(t, in.cmd.Process.Pid)
	in.want(app.ExitOK)
	peakKiB := peak()
	all := in.byTask()
	for id, e := range all {
		if e.Type != "task_completed" {
			t.Errorf("task %s: unexpected event: %+v", id, e)
		}
	}
	t.Logf("%d tasks in %d MB, %d cuts, %.1f s, %.1f MiB peak memory", n, n*recordBytes/1_000_000, network.Cuts(), time.Since(startedAt).Seconds(), float64(peakKiB)/1024)
	if int64(len(all)) != n || network.Cuts() != cuts || peakKiB > maxKiB || peakKiB == 0 {
		t.Errorf("events of %d of %d tasks, %d cuts, %d KiB peak memory; want %d cuts and at most %d KiB", len(all), n, network.Cuts(), peakKiB, cuts, maxKiB)
	}
}

// watchMemory records the peak memory of a process. The returned function waits for the exit of the
// process, and returns the peak in KiB. The resource usage that the kernel reports cannot be used,
// because it is at least the memory of the parent at the start of the process.
func watchMemory(t *testing.T, pid int) (peak func() int64) {
	t.Helper()
	var peakKiB int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ; ; <-time.After(5 * time.Millisecond) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			_, rest, ok := strings.Cut(string(status), "VmHWM:")
			if err != nil || !ok {
				return
			}
			var kib int64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				peakKiB = kib
			}
		}
	}()
	return func() int64 { <-ended; return peakKiB }
}

// Errors in a remote file have the same details as those in a local file, and do not show the
// credentials in the URL.
func TestRemote_Errors(t *testing.T) {
	t.Parallel()
	text := func(s string) func() io.ReadSeeker { return func() io.ReadSeeker { return strings.NewReader(s) } }
	address := serveHTTP(t, map[string]func() io.ReadSeeker{
		"/broken.jsonl": text(`{"task_id":"a","data":1}` + "\n" + `{"task_id":"b"}`),
		"/tasks.yaml":   text("- task_id: a\n  data: 1\n- {task_id: b, data: 0o10}\n"),
		"/not.json.gz":  text("[]"),
	})
	dir := t.TempDir()
	run := func(code int, file string, args ...string) *invocation {
		t.Helper()
		in := prepare(t, dir, append([]string{"run", "--task-file", "http://me:secret@" + address + file + "?token=secret"}, append(args, "--", "/bin/true")...)...).start()
		in.want(code)
		if strings.Contains(in.stderr.String(), "secret") {
			t.Errorf("standard error contains a secret:\n%s", in.stderr.String())
		}
		return in
	}
	run(app.ExitFatal, "/broken.jsonl").wantError("http://"+address+"/broken.jsonl", "entry 2", "line 2", "data is missing")
	if log := readFile(t, dir, "events.log"); !bytes.Contains(log, []byte("task_completed")) || !bytes.Contains(log, []byte("fatal_exception")) || bytes.Contains(log, []byte("secret")) {
		t.Errorf("unexpected event log:\n%s", log)
	}
	run(app.ExitOK, "/tasks.yaml", "--tasks-to-skip", "1").wantError(`"task_count":1`, "ambiguous YAML value", `/tasks.yaml","entry":2,"line":3,"value":"0o10"`)
	run(app.ExitUsage, "/none.json").wantError("the file does not exist")
	run(app.ExitFatal, "/not.json.gz").wantError("the name says gzip")
	run(app.ExitUsage, "/tasks.yaml", "--event-log-file", "s3://bucket/events.log").wantError("--event-log-file", "local disk")
	in := prepare(t, dir, "run", "--task-file", "ftp://host/tasks.json", "--", "true").start()
	in.want(app.ExitUsage)
	in.wantError("unsupported scheme ftp://")
}

// A signal ends a run that waits for data of a remote file.
func TestRemote_SignalWhileServerHangs(t *testing.T) {
	t.Parallel()
	silent, requested := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"task_id":"a","data":1}`+"\n")
		_ = http.NewResponseController(w).Flush()
		close(requested)
		<-silent
	}))
	t.Cleanup(s.Close)
	defer close(silent)
	in := prepare(t, t.TempDir(), "run", "--task-file", s.URL+"/tasks.jsonl", "--", "/bin/true").start()
	<-requested
	startedAt := time.Now()
	in.signal(syscall.SIGTERM)
	in.want(143) // the file was not read to its end
	if took := time.Since(startedAt); took > 10*time.Second {
		t.Errorf("ctworker exited %v after the signal, want at most 10 s", took)
	}
}

// A file in S3 is loaded into a queue.
func TestRemoteLoad(t *testing.T) {
	t.Parallel()
	c, address := startSQS(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[0], cloud: c, counter: c.counter(), counterAddress: address}
	endpoint := "http://" + c.address()
	client := s3.New(s3.Options{
		Region: "us-east-1", BaseEndpoint: &endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""),
	})
	if _, err := client.CreateBucket(context.Background(), &s3.CreateBucketInput{Bucket: awssdk.String("bucket")}); err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(&records{n: 300})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(context.Background(), &s3.PutObjectInput{Bucket: awssdk.String("bucket"), Key: awssdk.String("dir/tasks.jsonl"), Body: bytes.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
	network := netfault.NewProxy(t, c.address(), 200_000, 3)
	j.useAddress(address)
	j.vars = append(j.vars, "AWS_ENDPOINT_URL_S3=http://"+network.Address)
	j.do(0, "load", "--task-file", "s3://bucket/dir/tasks.jsonl", "--create", "--tasks-to-skip", "50").wantError("250 tasks are in the queue")
	j.wantTasks(250, 0)
	if network.Cuts() != 3 {
		t.Errorf("%d cuts of the connection, want 3", network.Cuts())
	}
}
