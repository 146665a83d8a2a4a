package pubsubapi_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/internal/retry"
	"github.com/ctworker/ctworker/pipeline"
)

// Create checks whether messages that are published to the topic of a queue arrive at an existing
// subscription, which another program may have created.
func TestCreate_ComparesWhatIsThere(t *testing.T) {
	t.Parallel()
	const sub, topic, other = "projects/test/subscriptions/jobs-subscription", "projects/test/topics/jobs-topic", "projects/test/topics/other-topic"
	for name, tc := range map[string]struct {
		sub       *pubsubpb.Subscription
		drop      bool // delete the topic after sub is created
		recreated bool // create the topic again after that
		once      bool
		want      string // part of the error
		deleted   bool
	}{
		"as it should be":            {sub: &pubsubpb.Subscription{Topic: topic}},
		"exactly once, not wanted":   {sub: &pubsubpb.Subscription{Topic: topic, EnableExactlyOnceDelivery: true}},
		"with a dead-letter policy":  {sub: &pubsubpb.Subscription{Topic: topic, DeadLetterPolicy: &pubsubpb.DeadLetterPolicy{DeadLetterTopic: other, MaxDeliveryAttempts: 5}}},
		"not exactly once":           {sub: &pubsubpb.Subscription{Topic: topic}, once: true, want: "does not deliver exactly once"},
		"the topic is deleted":       {sub: &pubsubpb.Subscription{Topic: topic}, drop: true, want: "was deleted", deleted: true},
		"the topic is another's now": {sub: &pubsubpb.Subscription{Topic: topic}, drop: true, recreated: true, want: "was deleted", deleted: true},
		"of another topic":           {sub: &pubsubpb.Subscription{Topic: other}, want: "other-topic"},
		"with a filter":              {sub: &pubsubpb.Subscription{Topic: topic, Filter: `attributes:x`}, want: "filter"},
		"pushing":                    {sub: &pubsubpb.Subscription{Topic: topic, PushConfig: &pubsubpb.PushConfig{PushEndpoint: "http://127.0.0.1:1/"}}, want: "pushes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, clients := connect(t)
			for _, name := range []string{topic, other} {
				if _, err := server.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: name}); err != nil {
					t.Fatal(err)
				}
			}
			tc.sub.Name = sub
			if _, err := server.GServer.CreateSubscription(t.Context(), tc.sub); err != nil {
				t.Fatal(err)
			}
			if tc.drop {
				if _, err := server.GServer.DeleteTopic(t.Context(), &pubsubpb.DeleteTopicRequest{Topic: topic}); err != nil {
					t.Fatal(err)
				}
			}
			if tc.recreated {
				if _, err := server.GServer.CreateTopic(t.Context(), &pubsubpb.Topic{Name: topic}); err != nil {
					t.Fatal(err)
				}
			}
			q := clients.Queue("jobs")
			created, err := q.Create(t.Context(), tc.once)
			if created || tc.want == "" && err != nil || tc.want != "" && (!errors.Is(err, pubsubapi.ErrUnusable) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "ctworker queue delete")) {
				t.Errorf("created %v: %v", created, err)
			}
			if info, _ := q.Info(t.Context()); info.TopicDeleted != tc.deleted {
				t.Errorf("deleted: %v", info.TopicDeleted)
			}
			if _, err := clients.Topics.GetTopic(t.Context(), &pubsubpb.GetTopicRequest{Topic: topic}); tc.drop && !tc.recreated && !pubsubapi.IsNotFound(err) {
				t.Errorf("the topic was created again, but it has no subscription: %v", err)
			}
			if err := q.Delete(t.Context()); err != nil {
				t.Errorf("Delete: %v", err)
			}
			if created, err := q.Create(t.Context(), tc.once); !created || err != nil {
				t.Errorf("after it was deleted: created %v, %v", created, err)
			}
		})
	}
}

// If the library panics, or the response confirms a wrong number of messages, the request is sent
// again.
func TestSender_RepeatsDamagedAnswers(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(answer any){
		"a panic":      func(any) { panic("nil dereference") },
		"no ids":       func(answer any) { answer.(*pubsubpb.PublishResponse).MessageIds = nil },
		"too many":     func(answer any) { a := answer.(*pubsubpb.PublishResponse); a.MessageIds = append(a.MessageIds, "x") },
		"a used token": func(any) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pstest.NewServer()
			t.Cleanup(func() { _ = server.Close() })
			var publishes atomic.Int32
			intercept := func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				err := next(ctx, method, request, answer, conn, opts...)
				if strings.HasSuffix(method, "/Publish") && publishes.Add(1) == 1 {
					if name == "a used token" {
						return status.Error(codes.Unauthenticated, "for a second")
					}
					damage(answer)
				}
				return err
			}
			clients, err := pubsubapi.NewClients(t.Context(), pubsubapi.Location{Project: "test"}, option.WithEndpoint(server.Addr), option.WithoutAuthentication(),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())), option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(intercept)))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = clients.Close() })
			q := clients.Queue("jobs")
			if _, err := q.Create(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			s := q.NewSender(0)
			if err := s.Send(t.Context(), pubsubapi.Message{Data: "x"}); err != nil || publishes.Load() != 2 {
				t.Errorf("%v after %d requests", err, publishes.Load())
			}
			withheld := []pubsubapi.Message{{Data: "y", Withheld: func() bool { return true }}, {Data: "z"}}
			if err := s.SendAll(t.Context(), withheld); err != nil || publishes.Load() != 3 { // the response has no id for the withheld message
				t.Errorf("%v after %d requests", err, publishes.Load())
			}
			s.Close(t.Context())
		})
	}
}

func TestClassify_Suspect(t *testing.T) {
	t.Parallel()
	for _, err := range []error{status.Error(codes.Unauthenticated, "no"), &pipeline.PanicError{Value: "nil"}} {
		if pubsubapi.Classify(err) != retry.Suspect {
			t.Errorf("%v: %v", err, pubsubapi.Classify(err))
		}
	}
}
