package status

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
)

// fakeSource is a run.
type fakeSource struct {
	*Recorder
	mu       sync.Mutex
	snapshot Snapshot
	stuck    error
}

func (f *fakeSource) Snapshot(context.Context) Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.snapshot
	f.Fill(&s)
	return s
}

func (f *fakeSource) Responsive(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stuck
}

func (f *fakeSource) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// serve starts a server for a run, and closes it at the end of the test.
func serve(t *testing.T) (*Server, *fakeSource, string) {
	t.Helper()
	s, err := Listen("127.0.0.1:0", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	total := int64(10)
	source := &fakeSource{Recorder: NewRecorder(time.Now()), snapshot: Snapshot{
		Program: "<script>alert(1)</script>", Phase: PhaseRunning, StartedAt: time.Now(), Now: time.Now(), Slots: 3, Tasks: Tasks{Completed: 4, Done: 4, Total: &total},
		Queue: &Queue{Name: "jobs"},
	}}
	add(source.Recorder, 1, true, time.Second)
	s.Serve(source)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s, source, "http://" + s.Address()
}

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

// The page loads nothing from elsewhere, and contains nothing from tasks.
func TestServer_Page(t *testing.T) {
	t.Parallel()
	_, _, url := serve(t)
	for _, path := range []string{"/", "/app.js", "/style.css"} {
		code, header, body := get(t, url+path)
		if code != http.StatusOK || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d, %v", path, code, header)
		}
		for _, found := range regexp.MustCompile(`https?://[^"\s)]*|//[a-z]+\.[a-z]+`).FindAllString(body, -1) {
			if found != "http://www.w3.org/2000/svg" { // a name, which is not loaded
				t.Errorf("%s refers to %s", path, found)
			}
		}
		if strings.Contains(body, "alert(1)") || strings.Contains(body, "innerHTML") {
			t.Errorf("%s can contain text of tasks as HTML", path)
		}
	}
}

func TestServer_Status(t *testing.T) {
	t.Parallel()
	_, source, url := serve(t)
	code, header, body := get(t, url+"/api/v1/status")
	var s Snapshot
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != http.StatusOK || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s, %v", code, body, err)
	}
	if s.Slots != 3 || *s.Tasks.Total != 10 || len(s.Failures) != 1 || s.Failures[0].Reason != "reason 1" {
		t.Errorf("%+v", s)
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/debug/pprof/": 200, "/none": 404, "/page": 404} {
		if code, _, _ := get(t, url+path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	source.set(func() {
		source.snapshot.Phase, source.snapshot.StopReason = PhaseStopping, "SIGTERM"
		source.stuck = errors.New("stuck")
	})
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, _, body := get(t, url+path); code != http.StatusServiceUnavailable || body != "stuck\n" && body != "stopping: SIGTERM\n" {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// Requests that a web page of another site could make are rejected, and so are changes.
func TestServer_Rejects(t *testing.T) {
	t.Parallel()
	s, _, url := serve(t)
	_, port, _ := net.SplitHostPort(s.Address())
	for host, want := range map[string]int{
		"localhost:" + port: 200, "LOCALHOST": 200, "127.0.0.1:" + port: 200, "[::1]:" + port: 200, "127.9.9.9": 200,
		"evil.example": 421, "evil.example:" + port: 421, "localhost.evil.example": 421, "10.0.0.1:" + port: 421, "": 421,
	} {
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "GET /api/v1/status HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != want && (host != "" || response.StatusCode != http.StatusBadRequest) {
			t.Errorf("host %q: %v, error %v", host, response, err)
		}
		if err == nil {
			_ = response.Body.Close()
		}
		_ = conn.Close()
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		request, err := http.NewRequestWithContext(t.Context(), method, url+"/api/v1/status", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, response.StatusCode)
		}
	}
}

// Names and types of the metrics follow the conventions of Prometheus. The histogram has native and
// classic buckets.
func TestServer_Metrics(t *testing.T) {
	t.Parallel()
	s, _, url := serve(t)
	problems, err := testutil.GatherAndLint(s.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "ctworker_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	_, _, body := get(t, url+"/metrics")
	for _, want := range []string{
		`ctworker_task_attempts_total{outcome="completed"} 4`, `ctworker_task_duration_seconds_bucket{le="1"} 1`, `ctworker_task_duration_seconds_bucket{le="0.25"} 0`,
		"ctworker_task_duration_seconds_count 1", "ctworker_run_tasks 10", "ctworker_slots 3", "ctworker_stopping 0", "ctworker_queue_tasks_in_flight 0", "process_cpu_seconds_total", "go_goroutines",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%s is missing in\n%s", want, body)
		}
	}
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "ctworker_task_duration_seconds" {
			h := f.GetMetric()[0].GetHistogram()
			if h.GetSchema() != schema || len(h.GetPositiveSpan()) != 1 || h.GetPositiveSpan()[0].GetOffset() != 0 || len(h.GetBucket()) == 0 {
				t.Errorf("%v", h)
			}
		}
	}
}

// An open page receives updates, and the last state when the run ends.
func TestServer_Stream(t *testing.T) {
	t.Parallel()
	s, source, url := serve(t)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	next := func() string {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text()
			}
		}
		return ""
	}
	if first := next(); !strings.HasPrefix(first, `data: {"version"`) || !strings.Contains(first, `\u003cscript\u003e`) {
		t.Errorf("%s", first)
	}
	source.set(func() { source.snapshot.Phase = PhaseEnded })
	closed := make(chan error)
	go func() { closed <- s.http.Shutdown(context.Background()) }()
	s.cancel()
	last, end := "", ""
	for line := next(); line != ""; line = next() {
		if strings.HasPrefix(line, "data: {\"version\"") {
			last = line
		}
		if line == "event: end" {
			end = line
		}
	}
	if !strings.Contains(last, `"phase":"ended"`) || end == "" {
		t.Errorf("the last message is %.200s, %s", last, end)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// Clients that do not read do not block the end of the run, and do not use up memory.
func TestServer_SlowClients(t *testing.T) {
	t.Parallel()
	s, _, url := serve(t)
	for range maxClients {
		conn, err := net.Dial("tcp", s.Address())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		_, _ = fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil { // the stream has begun
			t.Fatal(err)
		}
	}
	if code, _, body := get(t, url+"/events"); code != http.StatusServiceUnavailable || !strings.Contains(body, "pages are open already") {
		t.Errorf("%d %s", code, body)
	}
}

func TestListen_Errors(t *testing.T) {
	t.Parallel()
	s, _, _ := serve(t)
	if _, err := Listen(s.Address(), zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "another program uses this port; give another one, or port 0") {
		t.Errorf("error %v", err)
	}
	if _, err := Listen("203.0.113.1:80", zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "--status-address 203.0.113.1:80") {
		t.Errorf("error %v", err)
	}
	unused, err := Listen("127.0.0.1:0", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if err := unused.Close(); err != nil {
		t.Error(err)
	}
}
