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

// watching is a watcher at work.
type watching struct {
	notices chan spotwatch.Notice
	mu      sync.Mutex
	said    []string
}

func watch(t *testing.T, w spotwatch.Watcher) *watching {
	t.Helper()
	at := &watching{notices: make(chan spotwatch.Notice, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.Watch(ctx, func(n spotwatch.Notice) { at.notices <- n }, func(text string) {
			at.mu.Lock()
			defer at.mu.Unlock()
			at.said = append(at.said, text)
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return at
}

func (at *watching) next(t *testing.T) spotwatch.Notice {
	t.Helper()
	select {
	case n := <-at.notices:
		return n
	case <-time.After(20 * time.Second):
		at.mu.Lock()
		defer at.mu.Unlock()
		t.Fatalf("no notice; it said %q", at.said)
	}
	return spotwatch.Notice{}
}

// wantSaid fails the test unless one thing was said, which has the words.
func (at *watching) wantSaid(t *testing.T, words ...string) {
	t.Helper()
	at.mu.Lock()
	defer at.mu.Unlock()
	if len(at.said) != 1 {
		t.Fatalf("it said %q", at.said)
	}
	for _, word := range words {
		if !strings.Contains(at.said[0], word) {
			t.Errorf("%q is not in %q", word, at.said[0])
		}
	}
}

// server is a metadata service whose answers can be changed.
type server struct {
	*httptest.Server
	mu      sync.Mutex
	answers map[string]string
	status  int // instead of any answer
	changed chan struct{}
	asked   atomic.Int64
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{answers: map[string]string{}, changed: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *server) set(path, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = answer
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *server) get(path string) (answer string, ok bool, status int, changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, ok = s.answers[path]
	return answer, ok, s.status, s.changed
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	answer, ok, status, changed := s.get(r.URL.Path)
	if tag := r.URL.Query().Get("last_etag"); tag != "" { // hangs until it has changed
		for ok && fmt.Sprintf("%x", answer) == tag {
			select {
			case <-changed:
			case <-r.Context().Done():
				return
			}
			answer, ok, status, changed = s.get(r.URL.Path)
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
		w.Header().Set("ETag", fmt.Sprintf("%x", answer))
		_, _ = io.WriteString(w, answer)
	}
}

const aws = "/latest/meta-data/"

// Each path of AWS's service is understood, what is none is passed over, and each notice
// comes once.
func TestAWS(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for path, answer := range map[string]string{
		"spot/instance-action": "<html>", "spot/termination-time": "2015-01-05T18:02:00Z", "events/maintenance/scheduled": "[]",
		"autoscaling/target-lifecycle-state": "InService", "events/recommendations/rebalance": "{}",
	} {
		s.set(aws+path, answer)
	}
	at := watch(t, spotwatch.AWS{Endpoint: s.URL, Rebalance: true})
	s.set(aws+"events/recommendations/rebalance", `{"noticeTime": "2027-01-01T00:00:00Z"}`)
	if n := at.next(t); n.Kind != spotwatch.Rebalance || n.Source != "aws events/recommendations/rebalance" {
		t.Errorf("%+v", n)
	}
	s.set(aws+"spot/instance-action", `{"action": "stop", "time": "2099-09-18T08:22:00Z"}`)
	if n := at.next(t); n.Kind != spotwatch.Termination || n.Action != "stop" || !n.Deadline.Equal(time.Date(2099, 9, 18, 8, 22, 0, 0, time.UTC)) || n.Source != "aws spot/instance-action" {
		t.Errorf("%+v", n)
	}
	s.set(aws+"events/maintenance/scheduled", `[{"NotBefore": "21 Jan 2099 09:00:43 GMT", "Code": "instance-retirement", "State": "active"}]`)
	if n := at.next(t); n.Kind != spotwatch.Maintenance || n.Action != "instance-retirement" || n.Deadline.Year() != 2099 {
		t.Errorf("%+v", n)
	}
	s.set(aws+"autoscaling/target-lifecycle-state", "Terminated")
	if n := at.next(t); n.Kind != spotwatch.Termination || n.Action != "Terminated" || !n.Deadline.IsZero() {
		t.Errorf("%+v", n)
	}
	if len(at.notices) != 0 || len(at.said) != 0 {
		t.Errorf("%d more notices; it said %q", len(at.notices), at.said)
	}
}

// A service that does not work is told of once, and asked no more than once a second.
func TestAWSFaults(t *testing.T) {
	t.Parallel()
	for status, words := range map[int]string{http.StatusForbidden: "turned off", http.StatusUnauthorized: "401", http.StatusServiceUnavailable: "503"} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.mu.Lock()
			s.status = status
			s.mu.Unlock()
			at := watch(t, spotwatch.AWS{Endpoint: s.URL})
			<-time.After(6 * time.Second)
			at.wantSaid(t, words, "termination notices are not seen")
			if n := s.asked.Load(); n > 9 {
				t.Errorf("%d requests in 6 s", n)
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		at := watch(t, spotwatch.AWS{Endpoint: "http://127.0.0.1:1"})
		<-time.After(6 * time.Second)
		at.wantSaid(t, "hop limit of 2", "leave out --is-spot")
	})
}

// A notice of the official mock, which wants tokens, reaches us within its next second.
func TestAWSOnTheMock(t *testing.T) {
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
	at := watch(t, spotwatch.AWS{Endpoint: "http://127.0.0.1:" + port, Rebalance: true})
	kinds := map[spotwatch.Kind]time.Duration{}
	for len(kinds) < 2 {
		n := at.next(t)
		kinds[n.Kind] = time.Since(began) - delay
		if n.Kind == spotwatch.Termination && (n.Action != "terminate" || !n.Deadline.Equal(time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC))) {
			t.Errorf("%+v", n)
		}
	}
	t.Logf("after the notice was there (and the mock's start): %v", kinds)
}

func TestGCP(t *testing.T) {
	t.Parallel()
	const gce = "/computeMetadata/v1/instance/"
	s := newServer(t)
	s.set(gce+"preempted", "FALSE")
	s.set(gce+"maintenance-event", "NONE")
	at := watch(t, spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")})
	for s.asked.Load() < 4 { // both hang
		<-time.After(time.Millisecond)
	}
	began := time.Now()
	s.set(gce+"preempted", "TRUE")
	n := at.next(t)
	t.Logf("after %v", time.Since(began))
	if n.Kind != spotwatch.Termination || n.Action != "preempted" || n.Source != "gcp instance/preempted" {
		t.Errorf("%+v", n)
	}
	s.set(gce+"maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE") // nobody notices
	s.set(gce+"maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE")
	if n := at.next(t); n.Kind != spotwatch.Maintenance || n.Action != "TERMINATE_ON_HOST_MAINTENANCE" {
		t.Errorf("%+v", n)
	}
	if len(at.said) != 0 {
		t.Errorf("it said %q", at.said)
	}
}

// A server that answers at once, though it was asked to wait for a change, is not asked
// without a pause.
func TestGCP_PacesAnswersThatDoNotWait(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", fmt.Sprint(asked.Add(1)))
		_, _ = io.WriteString(w, "NONE")
	}))
	t.Cleanup(server.Close)
	watch(t, spotwatch.GCP{Host: strings.TrimPrefix(server.URL, "http://")})
	<-time.After(700 * time.Millisecond) // on a slow machine there are fewer requests
	if n := asked.Load(); n > 6 {
		t.Errorf("%d requests", n)
	}
}

// Where the server fails for a while, it is asked again, and told of once.
func TestGCPFaults(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.mu.Lock()
	s.status = http.StatusServiceUnavailable
	s.mu.Unlock()
	at := watch(t, spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")})
	for s.asked.Load() < 2 {
		<-time.After(time.Millisecond)
	}
	s.mu.Lock()
	s.status = 0
	s.answers["/computeMetadata/v1/instance/preempted"] = "TRUE"
	s.mu.Unlock()
	if n := at.next(t); n.Kind != spotwatch.Termination {
		t.Errorf("%+v", n)
	}
	at.wantSaid(t, "503", "leave out --is-spot")
}

func TestAzure(t *testing.T) {
	t.Parallel()
	const events = "/metadata/scheduledevents"
	event := func(kind, at, machine string) string {
		return fmt.Sprintf(`{"DocumentIncarnation": 1, "Events": [{"EventId": "x", "EventType": %q, "Resources": [%q], "EventStatus": "Scheduled", "NotBefore": %q}]}`, kind, machine, at)
	}
	s := newServer(t)
	s.set("/metadata/instance/compute/name", "worker-7")
	s.set(events, event("Preempt", "Mon, 19 Sep 2016 18:29:47 GMT", "neighbour"))
	at := watch(t, spotwatch.Azure{Endpoint: s.URL})
	for s.asked.Load() < 3 {
		<-time.After(time.Millisecond)
	}
	began := time.Now()
	s.set(events, event("Preempt", "Mon, 19 Sep 2016 18:29:47 GMT", "worker-7"))
	n := at.next(t)
	t.Logf("after %v", time.Since(began))
	if n.Kind != spotwatch.Termination || n.Action != "Preempt" || !n.Deadline.Equal(time.Date(2016, 9, 19, 18, 29, 47, 0, time.UTC)) {
		t.Errorf("%+v", n)
	}
	s.set(events, event("Freeze", "", "worker-7"))
	s.set(events, event("Redeploy", "", "worker-7"))
	if n := at.next(t); n.Kind != spotwatch.Maintenance || n.Action != "Redeploy" || !n.Deadline.IsZero() {
		t.Errorf("%+v", n)
	}
	s.set(events, "garbage")
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-time.After(10 * time.Millisecond) {
		at.mu.Lock()
		said := len(at.said)
		at.mu.Unlock()
		if said > 0 {
			break
		}
	}
	at.wantSaid(t, "Azure")
}

func TestSimulated(t *testing.T) {
	t.Parallel()
	delay := 30 * time.Second
	for _, d := range []*time.Duration{nil, &delay} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			at := watch(t, spotwatch.Simulated{After: 10 * time.Second, Delay: d})
			n := at.next(t)
			if time.Since(began) != 10*time.Second || n.Kind != spotwatch.Termination || d == nil != n.Deadline.IsZero() || d != nil && !n.Deadline.Equal(began.Add(40*time.Second)) {
				t.Errorf("%+v", n)
			}
		})
	}
}

// A panic in what a notice is reported to is one of Watch, which its caller can recover.
func TestGCP_PanicIsTheCallers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.set("/computeMetadata/v1/instance/preempted", "TRUE")
	s.set("/computeMetadata/v1/instance/maintenance-event", "NONE")
	defer func() {
		if v := recover(); v == nil || !strings.Contains(fmt.Sprint(v), "a fault") {
			t.Errorf("recovered %v", v)
		}
	}()
	spotwatch.GCP{Host: strings.TrimPrefix(s.URL, "http://")}.Watch(t.Context(), func(spotwatch.Notice) { panic("a fault") }, func(string) {})
}
