package pubsub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"go.uber.org/goleak"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	topic        = "projects/test/topics/jobs-events-topic"
	subscription = "projects/test/subscriptions/jobs-events-subscription"
)

// server is a fake Pub/Sub server in this process.
type server struct {
	*pstest.Server

	mu       sync.Mutex
	requests int // number of Publish requests
	fault    func(method string) error
}

func newServer(t testing.TB) *server {
	t.Helper()
	s := &server{Server: pstest.NewServer()}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *server) setFault(fault func(method string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *server) open(t testing.TB, opts Options) (*Sink, error) {
	t.Helper()
	opts.Queue, opts.Project = "jobs-events", "test"
	opts.ClientOptions = []option.ClientOption{
		option.WithEndpoint(s.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithUnaryInterceptor(s.intercept)),
	}
	return Open(t.Context(), opts)
}

func (s *server) mustOpen(t testing.TB) *Sink {
	t.Helper()
	sink, err := s.open(t, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

func (s *server) intercept(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	s.mu.Lock()
	if _, ok := request.(*pubsubpb.PublishRequest); ok {
		s.requests++
	}
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if err := fault(method[strings.LastIndex(method, "/")+1:]); err != nil {
			return err
		}
	}
	return next(ctx, method, request, answer, conn, opts...)
}

// read pulls all messages that are available.
func (s *server) read(t testing.TB) (all [][]byte) {
	t.Helper()
	for {
		out, err := s.GServer.Pull(context.Background(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1000, ReturnImmediately: true}) //nolint:staticcheck // that is what it is for
		if err != nil {
			t.Fatal(err)
		}
		if len(out.GetReceivedMessages()) == 0 {
			return all
		}
		for _, m := range out.GetReceivedMessages() {
			all = append(all, m.GetMessage().GetData())
		}
	}
}

func TestContract(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			s := newServer(t)
			sink := s.mustOpen(t)
			var all [][]byte
			return sink, func() [][]byte {
				all = append(all, s.read(t)...)
				return all
			}
		},
		NewStalled: func(t testing.TB) pipeline.Sink {
			s := newServer(t)
			sink := s.mustOpen(t)
			s.setFault(func(string) error { return status.Error(codes.Unavailable, "not now") })
			return sink
		},
		IgnoreGoroutines: pubsubtest.IgnoreGoroutines(),
		Features:         sinktest.Features{MaxEvent: 3_900_000}, // the server accepts at most 4 MB
	})
}

func completed(id string, result []byte) pipeline.Event {
	return pipeline.Event{
		Time: time.Unix(1, 0), Hostname: "h", Type: pipeline.TaskCompleted, TaskID: id, Attempt: 1,
		Outcome: pipeline.Outcome{Kind: pipeline.Completed, Result: result},
	}
}

func write(t *testing.T, s *Sink, events ...pipeline.Event) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return s.Write(ctx, events)
}

func closeNow(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.Close(context.Background()); err != nil {
		t.Errorf("Close: %v", err)
	}
}

// Write sends an event again after a transient error.
func TestWrite_RetriesTransientErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			srv := newServer(t)
			s := srv.mustOpen(t)
			defer closeNow(t, s)
			failed := false
			srv.setFault(func(string) error {
				if failed {
					return nil
				}
				failed = true
				return status.Error(code, "not now")
			})
			if err := write(t, s, completed("a", nil), completed("b", nil)); err != nil {
				t.Fatal(err)
			}
			if n := len(srv.read(t)); n != 2 || !failed {
				t.Errorf("%d events", n)
			}
		})
	}
}

func TestWrite_ExplainsPermanentErrors(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	s, err := srv.open(t, Options{suspectTime: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	defer closeNow(t, s)
	for code, word := range map[codes.Code]string{
		codes.PermissionDenied: `allow pubsub.topics.publish on the topic "` + topic, codes.NotFound: "does not exist", codes.Unauthenticated: "renew",
	} {
		srv.setFault(func(string) error { return status.Error(code, "no") })
		if err := write(t, s, completed("a", nil)); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v: %v", code, err)
		}
	}
	srv.setFault(func(string) error { return status.Error(codes.PermissionDenied, "no") })
	if _, err := srv.open(t, Options{}); err == nil || !strings.Contains(err.Error(), "allow pubsub.subscriptions.get") {
		t.Errorf("Open: %v", err)
	}
}

// Open creates the topic and the subscription of a queue if they do not exist, because messages
// that are published to a topic without a subscription are lost.
func TestTheQueueIsCreated(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]bool{"nothing is there": false, "the topic is there": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newServer(t)
			if there {
				if _, err := srv.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
					t.Fatal(err)
				}
			}
			s, err := srv.open(t, Options{ExactlyOnce: true})
			if err != nil {
				t.Fatal(err)
			}
			defer closeNow(t, s)
			if err := write(t, s, completed("a", nil)); err != nil || len(srv.read(t)) != 1 {
				t.Errorf("%v", err)
			}
			sub, err := srv.GServer.GetSubscription(t.Context(), &pubsubpb.GetSubscriptionRequest{Subscription: subscription})
			if err != nil || !sub.GetEnableExactlyOnceDelivery() || sub.GetMessageRetentionDuration().AsDuration() != 7*24*time.Hour ||
				sub.GetExpirationPolicy() == nil || sub.GetExpirationPolicy().GetTtl() != nil {
				t.Errorf("%v, %v", sub, err)
			}
		})
	}
}

func TestManyEventsGoInBatches(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	s := srv.mustOpen(t)
	var events []pipeline.Event
	for i := range 1500 {
		events = append(events, completed(fmt.Sprint(i), []byte(`"`+strings.Repeat("x", 1000*(i%3))+`"`)))
	}
	if err := write(t, s, events...); err != nil {
		t.Fatal(err)
	}
	if n := len(srv.read(t)); n != 1500 || srv.requests > 3 {
		t.Errorf("%d events in %d requests", n, srv.requests)
	}
	closeNow(t, s)
	if err := write(t, s, events[0]); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// An event that is too large for Pub/Sub is sent with a truncated result.
func TestWrite_TruncatesLargeEvents(t *testing.T) {
	t.Parallel()
	srv := newServer(t)
	s := srv.mustOpen(t)
	defer closeNow(t, s)
	s.encoder.MaxBytes = 4096
	long, _ := json.Marshal(strings.Repeat("x", 10_000))
	if err := write(t, s, completed("a", long)); err != nil {
		t.Fatal(err)
	}
	var e map[string]any
	if all := srv.read(t); len(all) != 1 || json.Unmarshal(all[0], &e) != nil || e["result_truncated"] != true || e["result_bytes"] != float64(len(long)) {
		t.Errorf("%.300v", e)
	}
}
