package pubsub

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/pipeline"
)

// firstTimes makes the first n requests of a method fail with a gRPC code.
func firstTimes(s *server, method string, n int32, code codes.Code, text string) {
	var seen atomic.Int32
	s.setFault(func(_ context.Context, m string, _ any) (bool, error) {
		if m != method || seen.Add(1) > n {
			return false, nil
		}
		return true, status.Error(code, text)
	})
}

// A request that fails with a transient error is sent again.
func TestReceive_RetriesTransientErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unknown, codes.Unauthenticated} {
		for _, method := range []string{"Pull", "Acknowledge", "ModifyAckDeadline"} {
			t.Run(method+" "+code.String(), func(t *testing.T) {
				t.Parallel()
				srv := newServer(t, nil, task)
				s := srv.open(t, Options{})
				defer closeNow(t, s)
				firstTimes(srv, method, 1, code, "not now")
				d := receive(t, s, 1)[0]
				if until, err := d.Extend(t.Context(), time.Minute); err != nil || time.Until(until) < 50*time.Second {
					t.Errorf("Extend: until %v, %v", until, err)
				}
				if err := d.Ack(t.Context()); err != nil {
					t.Errorf("Ack: %v", err)
				}
				if left := srv.left(); len(left) != 0 || srv.count(method) < 2 {
					t.Errorf("%d messages left after %d requests", len(left), srv.count(method))
				}
			})
		}
	}
}

// If no token could be obtained, the request is retried, unless the credentials were refused.
func TestATokenThatCannotBeFetched(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil, task)
	s := srv.open(t, Options{suspectTime: time.Nanosecond})
	firstTimes(srv, "Pull", 1, codes.Unauthenticated, "transport: per-RPC creds failed due to error: dial tcp: connection refused")
	if ds := receive(t, s, 1); len(ds) != 1 {
		t.Errorf("%d tasks", len(ds))
	}
	firstTimes(srv, "Pull", 100, codes.Unauthenticated, `transport: per-RPC creds failed due to error: {"error": "invalid_grant"}`)
	if _, err := s.Receive(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "renew") {
		t.Errorf("Receive: %v", err)
	}
	closeNow(t, s)
}

// Receive returns a permanent error with a message that explains the error, and sends no further
// requests.
func TestReceive_ExplainsPermanentErrors(t *testing.T) {
	t.Parallel()
	for code, words := range map[codes.Code][]string{
		codes.NotFound:         {`the subscription "` + subscription + `" does not exist`, "--queue-name", "--project-id"},
		codes.PermissionDenied: {"pubsub.subscriptions.consume", "roles/pubsub.subscriber", subscription},
		codes.Unauthenticated:  {"credentials", "renew", "gcloud auth"},
		codes.InvalidArgument:  {"Pull", subscription},
	} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, nil, task)
			s := srv.open(t, Options{suspectTime: time.Nanosecond})
			defer closeNow(t, s)
			firstTimes(srv, "Pull", 1000, code, "no")
			for range 2 {
				_, err := s.Receive(t.Context(), 10)
				if err == nil {
					t.Fatal("no error")
				}
				for _, word := range words {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("%q is not in: %v", word, err)
					}
				}
			}
			if n := srv.count("Pull"); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// A permanent error of Extend or Ack wraps ErrPermanent, which ends the run. If the run continued,
// every task would run repeatedly.
func TestSettle_ReturnsErrPermanent(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil, task)
	s := srv.open(t, Options{})
	defer closeNow(t, s)
	d := receive(t, s, 1)[0]
	srv.setFault(func(context.Context, string, any) (bool, error) {
		return true, status.Error(codes.PermissionDenied, "no")
	})
	if _, err := d.Extend(t.Context(), time.Minute); !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "ModifyAckDeadline") {
		t.Errorf("Extend: %v", err)
	}
	if err := d.Ack(t.Context()); !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "pubsub.subscriptions.consume") {
		t.Errorf("Ack: %v", err)
	}
}

// ackFailure returns the error that a subscription with exactly-once delivery returns if only some
// messages of a request cannot be acknowledged. of maps the ack ids of these messages to error codes.
func ackFailure(of map[string]string) error {
	s, err := status.New(codes.InvalidArgument, "Some acknowledgement ids in the request were invalid.").WithDetails(
		&errdetails.ErrorInfo{Reason: "EXACTLY_ONCE_ACKID_FAILURE", Domain: "pubsub.googleapis.com", Metadata: of})
	if err != nil {
		panic(err)
	}
	return s.Err()
}

// Each message of a request has its own result: the lease on one message is lost, one message is
// retried, and the other messages are settled.
func TestPartialFailure(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil, task, task, task, task)
	s := srv.open(t, Options{Linger: 50 * time.Millisecond})
	defer closeNow(t, s)
	ds := all(t, s, 4)
	var mu sync.Mutex
	var requests [][]string
	srv.setFault(func(ctx context.Context, method string, request any) (bool, error) {
		in, ok := request.(*pubsubpb.AcknowledgeRequest)
		if !ok {
			return false, nil
		}
		mu.Lock()
		requests = append(requests, in.GetAckIds())
		first := len(requests) == 1
		mu.Unlock()
		if !first {
			return false, nil
		}
		ids := in.GetAckIds()
		if len(ids) != 4 {
			t.Errorf("%d messages were acknowledged at once", len(ids))
			return false, nil
		}
		rest := &pubsubpb.AcknowledgeRequest{Subscription: subscription, AckIds: ids[2:]}
		if _, err := srv.GServer.Acknowledge(ctx, rest); err != nil {
			t.Error(err)
		}
		srv.record(rest, nil)
		return true, ackFailure(map[string]string{ids[0]: "PERMANENT_FAILURE_INVALID_ACK_ID", ids[1]: "TRANSIENT_FAILURE_SERVICE_UNAVAILABLE"})
	})
	errs := make(chan error, len(ds))
	for _, d := range ds {
		go func() { errs <- d.Ack(t.Context()) }()
	}
	lost := 0
	for range ds {
		switch err := <-errs; {
		case errors.Is(err, pipeline.ErrLeaseLost):
			lost++
		case err != nil:
			t.Error(err)
		}
	}
	if lost != 1 || len(requests) != 2 || len(requests[1]) != 1 || requests[1][0] != requests[0][1] || len(srv.left()) != 1 {
		t.Errorf("%d lost, requests %v, %d left", lost, requests, len(srv.left()))
	}
}

// A request may be rejected because of one message that the error does not name. All other messages
// of the request are still settled.
func TestOneBadMessageOfMany(t *testing.T) {
	t.Parallel()
	srv := newServer(t, nil, task, task, task, task, task)
	s := srv.open(t, Options{Linger: 50 * time.Millisecond})
	defer closeNow(t, s)
	ds := all(t, s, 5)
	bad := ""
	srv.setFault(func(_ context.Context, _ string, request any) (bool, error) {
		in, ok := request.(*pubsubpb.AcknowledgeRequest)
		if !ok {
			return false, nil
		}
		if bad == "" {
			bad = in.GetAckIds()[3]
		}
		if slices.Contains(in.GetAckIds(), bad) {
			return true, status.Error(codes.InvalidArgument, "Invalid ack id")
		}
		return false, nil
	})
	errs := make(chan error, len(ds))
	for _, d := range ds {
		go func() { errs <- d.Ack(t.Context()) }()
	}
	lost := 0
	for range ds {
		if err := <-errs; errors.Is(err, pipeline.ErrLeaseLost) {
			lost++
		} else if err != nil {
			t.Error(err)
		}
	}
	if lost != 1 || len(srv.left()) != 1 {
		t.Errorf("%d lost, %d left", lost, len(srv.left()))
	}
}

// If the ack deadline of the subscription differs from the lease duration, one request extends the
// leases of all messages of a response as soon as they arrive. If the durations are equal, this
// request is not sent.
func TestTheFirstExtension(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		deadline int32
		lease    time.Duration
		modacks  int
	}{
		"shorter":  {10, time.Minute, 1},
		"longer":   {600, 4 * time.Second, 1},
		"the same": {60, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = tc.deadline }, task, task, task)
			s := srv.open(t, Options{Lease: tc.lease})
			ds := all(t, s, 3)
			if left := time.Until(ds[0].Plumbing().ExpiresAt()); left > min(tc.lease, time.Duration(tc.deadline)*time.Second) || left <= 0 {
				t.Errorf("the lease ends in %v", left)
			}
			release := func(d *pipeline.Delivery) { _ = d.Release(t.Context(), 0) }
			release(ds[0])
			for _, d := range ds[1:] {
				if err := d.Ack(t.Context()); err != nil {
					t.Error(err)
				}
			}
			closeNow(t, s)
			released := 0
			for id := range srv.sent {
				asked := srv.asked[id]
				if n := len(asked); n > 0 && asked[n-1] == 0 {
					released++
					asked = asked[:n-1]
				}
				if len(asked) != tc.modacks || len(asked) > 0 && time.Duration(asked[0])*time.Second != tc.lease {
					t.Errorf("deadlines %v", srv.asked[id])
				}
			}
			if released != 1 {
				t.Errorf("%d were released last", released)
			}
		})
	}
}

// If the first extension takes a long time, it does not undo a release.
func TestALateFirstExtension(t *testing.T) {
	t.Parallel()
	srv := newServer(t, func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = 10 }, task)
	s := srv.open(t, Options{})
	arrived, answer := make(chan struct{}), make(chan struct{})
	srv.setFault(func(_ context.Context, method string, request any) (bool, error) {
		if in, ok := request.(*pubsubpb.ModifyAckDeadlineRequest); ok && in.GetAckDeadlineSeconds() == 60 {
			close(arrived)
			<-answer
		}
		return false, nil
	})
	d := receive(t, s, 1)[0]
	<-arrived
	released := make(chan error)
	go func() { released <- d.Release(t.Context(), 0) }()
	select {
	case err := <-released:
		t.Errorf("it was released before: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(answer)
	if err := <-released; err != nil {
		t.Error(err)
	}
	if n := srv.visible(t); n != 1 {
		t.Errorf("%d can be pulled", n)
	}
	closeNow(t, s)
}

// A pull that times out does not show that Pub/Sub is reachable. The source therefore sends another
// request.
func TestReceive_ChecksTheNetworkAfterAPullTimesOut(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"nothing to do": false, "the network is away": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t, nil)
			s := srv.open(t, Options{Wait: time.Second})
			srv.setFault(func(ctx context.Context, method string, _ any) (bool, error) {
				if method == "Pull" {
					<-ctx.Done()
					return true, status.FromContextError(ctx.Err()).Err()
				}
				return away, status.Error(codes.Unavailable, "no route to host")
			})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			if _, err := s.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Receive: %v", err)
			}
			if at := s.LastFailure(); at.IsZero() == away {
				t.Errorf("it could not be asked at %v", at)
			}
			if n := srv.count("GetSubscription"); n < 2 {
				t.Errorf("%d probes", n-1)
			}
			closeNow(t, s)
		})
	}
}

// If Google's library panics in the first extension of a lease, only this request fails.
func TestPanicInTheFirstExtension(t *testing.T) {
	t.Parallel()
	srv := newServer(t, func(s *pubsubpb.Subscription) { s.AckDeadlineSeconds = 10 }, task)
	s := srv.open(t, Options{})
	defer closeNow(t, s)
	var once sync.Once
	srv.setFault(func(_ context.Context, method string, _ any) (bool, error) {
		if method == "ModifyAckDeadline" {
			once.Do(func() { panic("a nil pointer") })
		}
		return false, nil
	})
	d := receive(t, s, 1)[0]
	if _, err := d.Extend(t.Context(), time.Minute); err != nil {
		t.Errorf("Extend: %v", err)
	}
	if err := d.Ack(t.Context()); err != nil {
		t.Errorf("Ack: %v", err)
	}
}
