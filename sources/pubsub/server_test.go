package pubsub

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ctworker/ctworker/pipeline"
)

const (
	project      = "projects/test"
	topic        = project + "/topics/jobs-topic"
	subscription = project + "/subscriptions/jobs-subscription"
	deadTopic    = project + "/topics/dead-topic"
)

// server is a server in this process that behaves like Pub/Sub, with two exceptions: it accepts ack
// ids that have expired, and it answers a pull from an empty subscription after half a second.
type server struct {
	*pstest.Server

	mu    sync.Mutex
	calls map[string]int // number of requests, by method
	fault func(ctx context.Context, method string, request any) (handled bool, err error)
	sent  map[string]string  // bodies of messages, by message id
	gone  map[string]bool    // ids of messages that are acknowledged
	given map[string]bool    // ids of messages that have been pulled
	asked map[string][]int32 // requested ack deadlines, by message id
}

// newServer starts a server with a topic and a subscription, and publishes bodies. change, if set,
// changes the configuration with which the subscription is created.
func newServer(t testing.TB, change func(*pubsubpb.Subscription), bodies ...string) *server {
	t.Helper()
	s := &server{
		Server: pstest.NewServer(), calls: map[string]int{}, sent: map[string]string{},
		gone: map[string]bool{}, given: map[string]bool{}, asked: map[string][]int32{},
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, name := range []string{topic, deadTopic} {
		if _, err := s.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	sub := &pubsubpb.Subscription{Name: subscription, Topic: topic, AckDeadlineSeconds: 60}
	if change != nil {
		change(sub)
	}
	if _, err := s.GServer.CreateSubscription(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		s.publish(b)
	}
	return s
}

func (s *server) publish(body string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[s.Publish(topic, []byte(body), map[string]string{"an": "attribute"})] = body
}

// countsAttempts makes the subscription count the deliveries of each message.
func countsAttempts(s *pubsubpb.Subscription) {
	s.DeadLetterPolicy = &pubsubpb.DeadLetterPolicy{DeadLetterTopic: deadTopic, MaxDeliveryAttempts: 100}
}

// options returns the client options that connect a source to the server.
func (s *server) options() []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(s.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
		option.WithGRPCDialOption(grpc.WithUnaryInterceptor(s.intercept)),
	}
}

// intercept counts requests, and calls s.fault, which can make a request fail.
func (s *server) intercept(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	name := method[strings.LastIndex(method, "/")+1:]
	s.mu.Lock()
	s.calls[name]++
	fault := s.fault
	s.mu.Unlock()
	if fault != nil {
		if handled, err := fault(ctx, name, request); handled {
			return err
		}
	}
	err := next(ctx, method, request, answer, conn, opts...)
	if err == nil {
		s.record(request, answer)
	}
	return err
}

// record stores the effect of a successful request. Reading the state of pstest instead would be a
// data race.
func (s *server) record(request, answer any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	message := func(ackID string) string { id, _, _ := strings.Cut(ackID, ":"); return id }
	switch in := request.(type) {
	case *pubsubpb.PullRequest:
		out, _ := answer.(*pubsubpb.PullResponse)
		for _, m := range out.GetReceivedMessages() {
			s.given[m.GetMessage().GetMessageId()] = true
		}
	case *pubsubpb.AcknowledgeRequest:
		for _, id := range in.GetAckIds() {
			s.gone[message(id)] = true
		}
	case *pubsubpb.ModifyAckDeadlineRequest:
		for _, id := range in.GetAckIds() {
			s.asked[message(id)] = append(s.asked[message(id)], in.GetAckDeadlineSeconds())
		}
	}
}

func (s *server) setFault(fault func(ctx context.Context, method string, request any) (bool, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

func (s *server) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// open returns a source of the subscription.
func (s *server) open(t testing.TB, opts Options) *Source {
	t.Helper()
	src, err := s.tryOpen(t, opts)
	if err != nil {
		t.Fatal(err)
	}
	return src
}

func (s *server) tryOpen(t testing.TB, opts Options) (*Source, error) {
	t.Helper()
	opts.Queue, opts.Project, opts.ClientOptions = "jobs", "test", s.options()
	return Open(t.Context(), opts)
}

// left returns the bodies of the messages that are not acknowledged.
func (s *server) left() (bodies []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, body := range s.sent {
		if !s.gone[id] {
			bodies = append(bodies, body)
		}
	}
	return bodies
}

// visible returns the number of messages that can be pulled now. It pulls these messages.
func (s *server) visible(t testing.TB) int {
	t.Helper()
	out, err := s.GServer.Pull(context.Background(), &pubsubpb.PullRequest{Subscription: subscription, MaxMessages: 1000, ReturnImmediately: true}) //nolint:staticcheck // that is what it is for
	if err != nil {
		t.Fatal(err)
	}
	return len(out.GetReceivedMessages())
}

func bodies(tasks []pipeline.Task) (all []string) {
	for _, task := range tasks {
		id, _ := json.Marshal(task.ID)
		all = append(all, fmt.Sprintf(`{"task_id": %s, "data": %s}`, id, task.Data))
	}
	return all
}

const task = `{"task_id": "a", "data": {"n": 1}}`

const testTimeout = 20 * time.Second

func receive(t *testing.T, s *Source, limit int) []*pipeline.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	ds, err := s.Receive(ctx, limit)
	if err != nil {
		t.Fatalf("Receive: %v", err)
	}
	return ds
}

// all receives n tasks.
func all(t *testing.T, s *Source, n int) (ds []*pipeline.Delivery) {
	t.Helper()
	for len(ds) < n {
		ds = append(ds, receive(t, s, n-len(ds))...)
	}
	return ds
}

func closeNow(t *testing.T, s *Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Errorf("Close: %v", err)
	}
}
