package pubsub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// A malformed message is reported unchanged, and acknowledged afterwards.
func TestMalformed(t *testing.T) {
	t.Parallel()
	bad := []string{`no JSON`, `{"data": {}}`, `{"task_id": 5.5, "data": {}}`, `{"task_id": "x"}`, `[]`, "\xff\x00", ""}
	srv := newServer(t, nil, append(bad, task)...)
	var mu sync.Mutex
	reported := map[string]error{}
	s := srv.open(t, Options{OnMalformed: func(_ context.Context, body string, reason error) error {
		if !slices.Contains(srv.left(), body) {
			t.Errorf("%q was acknowledged before it was reported", body)
		}
		mu.Lock()
		defer mu.Unlock()
		reported[body] = reason
		return nil
	}})
	ds := receive(t, s, 10)
	if len(ds) != 1 || ds[0].Task.ID != "a" || string(ds[0].Task.Data) != `{"n": 1}` {
		t.Errorf("received %v", ds)
	}
	closeNow(t, s)
	for _, body := range bad {
		if reported[body] == nil {
			t.Errorf("%q was not reported", body)
		}
	}
	if left := srv.left(); len(left) != 1 {
		t.Errorf("%q are left", left)
	}
}

// With Options.Raw the source returns each message unchanged, even if it is malformed.
func TestRaw(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil, "no JSON")
	s := srv.open(t, Options{Raw: true})
	defer closeNow(t, s)
	ds := receive(t, s, 10)
	if len(ds) != 1 || string(ds[0].Task.Data) != "no JSON" || ds[0].Task.ID == "" {
		t.Fatalf("received %v", ds)
	}
	if err := ds[0].Ack(t.Context()); err != nil || len(srv.left()) != 0 {
		t.Errorf("%v, %d left", err, len(srv.left()))
	}
}

// If a pull is open when the shutdown begins, the messages that it receives are released immediately,
// so that other workers can receive them.
func TestALatePullIsReleased(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil)
	s := srv.open(t, Options{})
	arrived, answer := make(chan struct{}), make(chan struct{})
	srv.setFault(func(_ context.Context, method string, _ any) (bool, error) {
		if method == "Pull" {
			close(arrived)
			<-answer
		}
		return false, nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	received := make(chan error)
	go func() {
		_, err := s.Receive(ctx, 10)
		received <- err
	}()
	<-arrived
	cancel()
	if err := <-received; !errors.Is(err, context.Canceled) { // the server has not answered
		t.Errorf("Receive: %v", err)
	}
	srv.publish(task)
	close(answer)
	closeNow(t, s)
	if n := srv.visible(t); n != 1 || len(srv.left()) != 1 {
		t.Errorf("%d can be pulled", n)
	}
}

// If a pull returns immediately without messages, the source pauses before the next pull.
func TestEmptyPulls(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil)
	s := srv.open(t, Options{})
	defer closeNow(t, s)
	srv.setFault(func(_ context.Context, method string, _ any) (bool, error) { return method == "Pull", nil })
	ctx, cancel := context.WithTimeout(t.Context(), 1100*time.Millisecond)
	defer cancel()
	if _, err := s.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Receive: %v", err)
	}
	if n := srv.count("Pull"); n > 6 {
		t.Errorf("%d pulls in a second", n)
	}
}

// Many messages are pulled and acknowledged with few requests.
func TestBatches(t *testing.T) {
	t.Parallel()
	const n = 2000
	srv := newServer(t, nil)
	for range n {
		srv.publish(task)
	}
	s := srv.open(t, Options{Linger: 50 * time.Millisecond})
	defer closeNow(t, s)
	errs := make(chan error, n)
	for got := 0; got < n; {
		ds := receive(t, s, min(1000, n-got))
		got += len(ds)
		for _, d := range ds {
			go func() { errs <- d.Ack(t.Context()) }()
		}
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if pulls, acks := srv.count("Pull"), srv.count("Acknowledge"); pulls > n/maxPullMessages+9 || acks > pulls+9 {
		t.Errorf("%d pulls, %d requests to acknowledge", pulls, acks)
	}
	if left := srv.left(); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
}

// Open returns an error that explains why a subscription or an option cannot be used.
func TestOpen_Rejects(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		opts   Options
		change func(*pubsubpb.Subscription)
		denied bool
		want   string // part of the error; "": no error
	}{
		"not exactly once":       {opts: Options{ExactlyOnce: true}, want: "does not deliver exactly once"},
		"exactly once":           {opts: Options{ExactlyOnce: true}, change: func(s *pubsubpb.Subscription) { s.EnableExactlyOnceDelivery = true }},
		"it does not count":      {opts: Options{CountAttempts: true}, want: "dead-letter policy"},
		"it counts":              {opts: Options{CountAttempts: true}, change: countsAttempts},
		"no permission":          {denied: true},
		"needs a permission":     {opts: Options{ExactlyOnce: true}, denied: true, want: "allow pubsub.subscriptions.get"},
		"another name":           {change: func(s *pubsubpb.Subscription) { s.Name = project + "/subscriptions/other" }, want: "does not exist"},
		"a lease that is longer": {opts: Options{Lease: 11 * time.Minute}, want: "10m0s"},
		"a wait that is longer":  {opts: Options{Wait: time.Hour}, want: "1m30s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, tc.change)
			srv.setFault(func(_ context.Context, method string, _ any) (bool, error) {
				return tc.denied && method == "GetSubscription", status.Error(codes.PermissionDenied, "no")
			})
			s, err := srv.tryOpen(t, tc.opts)
			switch {
			case tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v", err)
			case err == nil:
				closeNow(t, s)
			}
		})
	}
}
