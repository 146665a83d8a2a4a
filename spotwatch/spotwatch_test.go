package spotwatch_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/ctworker/ctworker/spotwatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder records what a Watcher reports.
type recorder struct {
	notices  chan spotwatch.Notice
	mu       sync.Mutex
	warnings []string
}

// watch runs w until the end of the test.
func watch(t *testing.T, w spotwatch.Watcher) *recorder {
	t.Helper()
	rec := &recorder{notices: make(chan spotwatch.Notice, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Watch(ctx, func(n spotwatch.Notice) { rec.notices <- n }, func(err error) {
			rec.mu.Lock()
			defer rec.mu.Unlock()
			rec.warnings = append(rec.warnings, err.Error())
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return rec
}

func (rec *recorder) next(t *testing.T) spotwatch.Notice {
	t.Helper()
	select {
	case n := <-rec.notices:
		return n
	case <-time.After(20 * time.Second):
		rec.mu.Lock()
		defer rec.mu.Unlock()
		t.Fatalf("no notice; warnings: %q", rec.warnings)
	}
	return spotwatch.Notice{}
}

// wantWarning fails the test unless there was exactly one warning, which contains texts.
func (rec *recorder) wantWarning(t *testing.T, texts ...string) {
	t.Helper()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.warnings) != 1 {
		t.Fatalf("warnings: %q", rec.warnings)
	}
	for _, text := range texts {
		if !strings.Contains(rec.warnings[0], text) {
			t.Errorf("warning %q does not contain %q", rec.warnings[0], text)
		}
	}
}

// server is a metadata service with variable responses.
type server struct {
	*httptest.Server
	mu        sync.Mutex
	responses map[string]string
	status    int // status of all responses, if not 0
	changed   chan struct{}
	requests  atomic.Int64
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{responses: map[string]string{}, changed: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *server) set(path, response string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responses[path] = response
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) get(path string) (response string, ok bool, status int, changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	response, ok = s.responses[path]
	return response, ok, s.status, s.changed
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	response, ok, status, changed := s.get(r.URL.Path)
	if tag := r.URL.Query().Get("last_etag"); tag != "" { // long poll
		for ok && fmt.Sprintf("%x", response) == tag {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
			response, ok, status, changed = s.get(r.URL.Path)
		}
	}
	switch {
	case status != 0:
		w.WriteHeader(status)
	case r.Method == http.MethodPut:
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		_, _ = io.WriteString(w, "token")
	case !ok:
		http.NotFound(w, r)
	case strings.HasPrefix(r.URL.Path, "/latest/") && r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token",
		strings.HasPrefix(r.URL.Path, "/computeMetadata/") && r.Header.Get("Metadata-Flavor") != "Google",
		strings.HasPrefix(r.URL.Path, "/metadata/") && r.Header.Get("Metadata") != "true":
		w.WriteHeader(http.StatusUnauthorized)
	default:
		w.Header().Set("ETag", fmt.Sprintf("%x", response))
		_, _ = io.WriteString(w, response)
	}
}

const aws = "/latest/meta-data/"

// TestAWS_ReportsEachNoticeOnce checks each metadata category, first with a value that is not a notice.
func TestAWS_ReportsEachNoticeOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for path, response := range map[string]string{
		"spot/instance-action": "<html>", "spot/termination-time": "2015-01-05T18:02:00Z", "events/maintenance/scheduled": "[]",
		"autoscaling/target-lifecycle-state": "InService", "events/recommendations/rebalance": "{}",
	} {
		s.set(aws+path, response)
	}
	rec := watch(t, spotwatch.AWS{Endpoint: s.URL, Rebalance: true})
	s.set(aws+"events/recommendations/rebalance", `{"noticeTime": "2027-01-01T00:00:00Z"}`)
	if n := rec.next(t); n.Kind != spotwatch.Rebalance || n.Source != "aws events/recommendations/rebalance" {
		t.Errorf("%+v", n)
	}
	s.set(aws+"spot/instance-action", `{"action": "stop", "time": "2099-09-18T08:22:00Z"}`)
	if n := rec.next(t); n.Kind != spotwatch.Termination || n.Action != "stop" || !n.Deadline.Equal(time.Date(2099, 9, 18, 8, 22, 0, 0, time.UTC)) || n.Source != "aws spot/instance-action" {
		t.Errorf("%+v", n)
	}
	s.set(aws+"events/maintenance/scheduled", `[{"NotBefore": "21 Jan 2099 09:00:43 GMT", "Code": "instance-retirement", "State": "active"}]`)
	if n := rec.next(t); n.Kind != spotwatch.Maintenance || n.Action != "instance-retirement" || n.Deadline.Year() != 2099 {
		t.Errorf("%+v", n)
	}
	s.set(aws+"autoscaling/target-lifecycle-state", "Terminated")
	if n := rec.next(t); n.Kind != spotwatch.Termination || n.Action != "Terminated" || !n.Deadline.IsZero() {
		t.Errorf("%+v", n)
	}
	if len(rec.notices) != 0 || len(rec.warnings) != 0 {
		t.Errorf("%d more notices; warnings: %q", len(rec.notices), rec.warnings)
	}
}

// If the metadata service fails, Watch reports one warning, and sends at most one request per
// second.
func TestAWS_WarnsOnceIfServiceFails(t *testing.T) {
	t.Parallel()
	for status, text := range map[int]string{http.StatusForbidden: "disabled (403)", http.StatusUnauthorized: "401", http.StatusServiceUnavailable: "503"} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.mu.Lock()
			s.status = status
			s.mu.Unlock()
			rec := watch(t, spotwatch.AWS{Endpoint: s.URL})
			<-time.After(6 * time.Second)
			rec.wantWarning(t, text, "termination notices for this instance are missed")
			if n := s.requests.Load(); n > 9 {
				t.Errorf("%d requests in 6 s", n)
			}
		})
	}
	t.Run("unreachable", func(t *testing.T) {
		t.Parallel()
		rec := watch(t, spotwatch.AWS{Endpoint: "http://127.0.0.1:1"})
		<-time.After(6 * time.Second)
		rec.wantWarning(t, "hop limit to 2", "pass --no-is-spot")
	})
}

// TestAWS_OfficialMock uses AWS's own mock of the metadata service, which requires tokens.
func TestAWS_OfficialMock(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "ec2-metadata-mock")
	build := exec.Command("go", "build", "-trimpath", "-modfile=tools/go.mod", "-o", program, "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // shares the build cache of "make build"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	const delay = 4 * time.Second
	cmd := exec.Command(program, "spot", "-n", "127.0.0.1", "-p", port, "--imdsv2", "-d", "4", "--rebalance-delay-sec", "4", "--action", "terminate", "-t", "2099-01-02T03:04:05Z")
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	rec := watch(t, spotwatch.AWS{Endpoint: "http://127.0.0.1:" + port, Rebalance: true})
	kinds := map[spotwatch.Kind]time.Duration{}
	for len(kinds) < 2 {
		n := rec.next(t)
		kinds[n.Kind] = time.Since(began) - delay
		if n.Kind == spotwatch.Termination && (n.Action != "terminate" || !n.Deadline.Equal(time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC))) {
			t.Errorf("%+v", n)
		}
	}
	t.Logf("delays of the notices, including the start of the mock: %v", kinds)
}

func TestGCP_ReportsEachNoticeOnce(t *testing.T) {
	t.Parallel()
	const gce = "/computeMetadata/v1/instance/"
	s := newServer(t)
	s.set(gce+"preempted", "FALSE")
	s.set(gce+"maintenance-event", "NONE")
	rec := watch(t, spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")})
	for s.requests.Load() < 4 { // until long polls for both categories are open
		<-time.After(time.Millisecond)
	}
	began := time.Now()
	s.set(gce+"preempted", "TRUE")
	n := rec.next(t)
	t.Logf("after %v", time.Since(began))
	if n.Kind != spotwatch.Termination || n.Action != "preempted" || n.Source != "gcp instance/preempted" {
		t.Errorf("%+v", n)
	}
	s.set(gce+"maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE") // a live migration does not interrupt tasks, so it is not reported
	s.set(gce+"maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
	if n := rec.next(t); n.Kind != spotwatch.Maintenance || n.Action != "TERMINATE_ON_HOST_MAINTENANCE" {
		t.Errorf("%+v", n)
	}
	if len(rec.warnings) != 0 {
		t.Errorf("warnings: %q", rec.warnings)
	}
}

// If the server returns from a long poll immediately, Watch pauses between two requests.
func TestGCP_PausesIfLongPollsReturnImmediately(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", fmt.Sprint(requests.Add(1)))
		_, _ = io.WriteString(w, "NONE")
	}))
	t.Cleanup(server.Close)
	watch(t, spotwatch.GCP{Host: strings.TrimPrefix(server.URL, "http://")})
	<-time.After(700 * time.Millisecond) // on a slow machine there are fewer requests
	if n := requests.Load(); n > 6 {
		t.Errorf("%d requests", n)
	}
}

// If the server fails for a while, Watch warns once and continues.
func TestGCP_RecoversAfterFailures(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mu.Lock()
	s.status = http.StatusServiceUnavailable
	s.mu.Unlock()
	rec := watch(t, spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")})
	for s.requests.Load() < 2 {
		<-time.After(time.Millisecond)
	}
	s.mu.Lock()
	s.status = 0
	s.responses["/computeMetadata/v1/instance/preempted"] = "TRUE"
	s.mu.Unlock()
	if n := rec.next(t); n.Kind != spotwatch.Termination {
		t.Errorf("%+v", n)
	}
	rec.wantWarning(t, "503", "pass --no-is-spot")
}

func TestAzure_ReportsEachNoticeOnce(t *testing.T) {
	t.Parallel()
	const events = "/metadata/scheduledevents"
	event := func(kind, at, machine string) string {
		return fmt.Sprintf(`{"DocumentIncarnation": 1, "Events": [{"EventId": "x", "EventType": %q, "Resources": [%q], "EventStatus": "Scheduled", "NotBefore": %q}]}`, kind, machine, at)
	}
	s := newServer(t)
	s.set("/metadata/instance/compute/name", "worker-7")
	s.set(events, event("Preempt", "Mon, 19 Sep 2016 18:29:47 GMT", "other-machine"))
	rec := watch(t, spotwatch.Azure{Endpoint: s.URL})
	for s.requests.Load() < 3 {
		<-time.After(time.Millisecond)
	}
	began := time.Now()
	s.set(events, event("Preempt", "Mon, 19 Sep 2016 18:29:47 GMT", "worker-7"))
	n := rec.next(t)
	t.Logf("after %v", time.Since(began))
	if n.Kind != spotwatch.Termination || n.Action != "Preempt" || !n.Deadline.Equal(time.Date(2016, 9, 19, 18, 29, 47, 0, time.UTC)) {
		t.Errorf("%+v", n)
	}
	s.set(events, event("Freeze", "", "worker-7"))
	s.set(events, event("Redeploy", "", "worker-7"))
	if n := rec.next(t); n.Kind != spotwatch.Maintenance || n.Action != "Redeploy" || !n.Deadline.IsZero() {
		t.Errorf("%+v", n)
	}
	s.set(events, "garbage")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		rec.mu.Lock()
		warnings := len(rec.warnings)
		rec.mu.Unlock()
		if warnings > 0 {
			break
		}
	}
	rec.wantWarning(t, "Azure")
}

func TestSimulated_ReportsNotice(t *testing.T) {
	t.Parallel()
	delay := 30 * time.Second
	for _, d := range []*time.Duration{nil, &delay} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			rec := watch(t, spotwatch.Simulated{After: 10 * time.Second, Delay: d})
			n := rec.next(t)
			if time.Since(began) != 10*time.Second || n.Kind != spotwatch.Termination || d == nil != n.Deadline.IsZero() || d != nil && !n.Deadline.Equal(began.Add(40*time.Second)) {
				t.Errorf("%+v", n)
			}
		})
	}
}

// If report panics, Watch panics in the goroutine of its caller, who can recover the panic.
func TestGCP_PanicsInCallersGoroutine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.set("/computeMetadata/v1/instance/preempted", "TRUE")
	s.set("/computeMetadata/v1/instance/maintenance-event", "NONE")
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "a fault") {
			t.Errorf("recovered %v", v)
		}
	}()
	spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")}.Watch(t.Context(), func(spotwatch.Notice) { panic("a fault") }, func(error) {})
}

// This example reports a simulated notice. For real notices, use the Watcher that Detect returns.
func Example() {
	w := spotwatch.Simulated{After: time.Millisecond}
	w.Watch(context.Background(), func(n spotwatch.Notice) { fmt.Println(n.Kind, n.Action, n.Source) }, func(error) {})
	// Output: termination terminate simulation
}

// A failed request is an error. It does not mean that the machine has no zone, or is not a spot
// instance.
func TestIdentity_ErrorOnlyIfServiceFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		watcher       func(s *server) spotwatch.Watcher
		id, zone      string
		spot, isASpot string
	}{
		"AWS":   {func(s *server) spotwatch.Watcher { return spotwatch.AWS{Endpoint: s.URL} }, "/latest/meta-data/instance-id", "/latest/meta-data/placement/availability-zone", "/latest/meta-data/instance-life-cycle", "spot"},
		"GCP":   {func(s *server) spotwatch.Watcher { return spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")} }, "/computeMetadata/v1/instance/name", "/computeMetadata/v1/instance/zone", "/computeMetadata/v1/instance/scheduling/preemptible", "TRUE"},
		"Azure": {func(s *server) spotwatch.Watcher { return spotwatch.Azure{Endpoint: s.URL} }, "/metadata/instance/compute/name", "/metadata/instance/compute/zone", "/metadata/instance/compute/priority", "Spot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.set(tc.id, "name-1")
			w := tc.watcher(s)
			if i, err := spotwatch.Identify(t.Context(), w); err != nil || i != (spotwatch.Identity{ID: "name-1"}) {
				t.Errorf("without a zone: got %+v, %v", i, err)
			}
			if spot, err := spotwatch.IsSpot(t.Context(), w); spot || err != nil {
				t.Errorf("without a life cycle: IsSpot returned %v, %v", spot, err)
			}
			s.set(tc.zone, "projects/1/zones/z-1")
			s.set(tc.spot, tc.isASpot)
			if i, err := spotwatch.Identify(t.Context(), w); err != nil || !strings.HasSuffix(i.Zone, "z-1") {
				t.Errorf("with a zone: got %+v, %v", i, err)
			}
			if spot, err := spotwatch.IsSpot(t.Context(), w); !spot || err != nil {
				t.Errorf("of a spot instance: IsSpot returned %v, %v", spot, err)
			}
			s.mu.Lock()
			s.status = http.StatusServiceUnavailable
			s.mu.Unlock()
			if i, err := spotwatch.Identify(t.Context(), w); err == nil || i.ID != "" || i.Type != "" {
				t.Errorf("status 503: got %+v, %v", i, err)
			}
			if spot, err := spotwatch.IsSpot(t.Context(), w); spot || err == nil {
				t.Errorf("status 503: IsSpot returned %v, %v", spot, err)
			}
		})
	}
}
