package pubsubapi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/api/option"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/ctworker/ctworker/internal/pubsubapi"
)

func connect(t *testing.T, opts ...pstest.ServerReactorOption) (*pstest.Server, *pubsubapi.Clients) {
	t.Helper()
	server := pstest.NewServer(opts...)
	t.Cleanup(func() { _ = server.Close() })
	clients, err := pubsubapi.NewClients(t.Context(), pubsubapi.Location{Project: "test"}, option.WithEndpoint(server.Addr), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clients.Close() })
	return server, clients
}

func TestQueue(t *testing.T) {
	t.Parallel()
	server, clients := connect(t)
	q := clients.Queue("jobs")
	if q.Topic != "projects/test/topics/jobs-topic" || q.Subscription != "projects/test/subscriptions/jobs-subscription" {
		t.Errorf("%+v", q)
	}
	if _, err := q.Find(t.Context()); !pubsubapi.IsNotFound(err) || !strings.Contains(err.Error(), "ctworker queue create") {
		t.Errorf("before it is created: %v", err)
	}
	for _, want := range []bool{true, false} {
		if created, err := q.Create(t.Context(), true); created != want || err != nil {
			t.Errorf("created %v, %v", created, err)
		}
	}
	info, err := q.Find(t.Context())
	if err != nil || info.AckDeadline != pubsubapi.AckDeadline || info.Retention != pubsubapi.Retention || !info.ExactlyOnce || info.DeadLetterTopic != "" {
		t.Errorf("%+v, %v", info, err)
	}
	server.Publish(q.Topic, []byte("x"), nil)
	if err := q.Purge(t.Context()); err != nil {
		t.Error(err)
	}
	out, err := clients.Subscriptions.Pull(t.Context(), &pubsubpb.PullRequest{Subscription: q.Subscription, MaxMessages: 1})
	if err != nil || len(out.GetReceivedMessages()) != 0 {
		t.Errorf("after a purge: %v, %v", out, err)
	}
	if err := q.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if err := q.Delete(t.Context()); !pubsubapi.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
}

// If only the topic or only the subscription of a queue exists, Delete deletes it. Info
// returns an error for a subscription without a topic.
func TestDelete_OfHalfAQueue(t *testing.T) {
	t.Parallel()
	_, clients := connect(t)
	q := clients.Queue("jobs")
	if _, err := q.Create(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := clients.Topics.DeleteTopic(t.Context(), &pubsubpb.DeleteTopicRequest{Topic: q.Topic}); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Info(t.Context()); err == nil || !strings.Contains(err.Error(), "the topic of the subscription") {
		t.Errorf("%v", err)
	}
	if err := q.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := clients.Topics.CreateTopic(t.Context(), &pubsubpb.Topic{Name: q.Topic}); err != nil {
		t.Fatal(err)
	}
	if err := q.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestDescribeError(t *testing.T) {
	t.Parallel()
	_, clients := connect(t)
	q := clients.Queue("jobs")
	disabled, err := status.New(codes.PermissionDenied, "no").WithDetails(&errdetails.ErrorInfo{Reason: "SERVICE_DISABLED"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		action string
		err    error
		want   string
	}{
		{"Pull", status.Error(codes.NotFound, ""), `subscription "projects/test/subscriptions/jobs-subscription" does not exist`},
		{"Publish", status.Error(codes.NotFound, ""), `topic "projects/test/topics/jobs-topic" does not exist`},
		{"Publish", status.Error(codes.PermissionDenied, ""), "allow pubsub.topics.publish on the topic"},
		{"Seek", status.Error(codes.PermissionDenied, ""), "roles/pubsub.subscriber"},
		{"Pull", disabled.Err(), "gcloud services enable pubsub.googleapis.com --project test"},
		{"Pull", status.Error(codes.Unauthenticated, ""), "gcloud auth application-default login"},
		{"Pull", status.Error(codes.Unavailable, "dial"), "PUBSUB_EMULATOR_HOST"},
		{"Pull", status.Error(codes.FailedPrecondition, "odd"), "odd"},
	} {
		if err := q.DescribeError(tc.action, tc.err); !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%s, %v: %v", tc.action, tc.err, err)
		}
	}
	for _, action := range []string{"Pull", "Acknowledge", "ModifyAckDeadline", "Seek", "GetSubscription", "CreateSubscription", "DeleteSubscription", "Publish", "GetTopic", "CreateTopic", "DeleteTopic"} {
		if err := q.DescribeError(action, status.Error(codes.PermissionDenied, "")); !strings.Contains(err.Error(), "roles/pubsub.") {
			t.Errorf("%v", err)
		}
	}
}

func TestWhatIsTriedAgain(t *testing.T) {
	t.Parallel()
	for code := codes.OK + 1; code <= codes.Unauthenticated; code++ {
		final := map[codes.Code]bool{
			codes.InvalidArgument: true, codes.NotFound: true, codes.AlreadyExists: true, codes.PermissionDenied: true, codes.FailedPrecondition: true,
			codes.OutOfRange: true, codes.Unimplemented: true, codes.DataLoss: true, codes.Unauthenticated: true,
		}[code]
		if err := fmt.Errorf("wrapped: %w", status.Error(code, "")); pubsubapi.IsRetryable(err) == final {
			t.Errorf("%v: passing is %v", code, !final)
		}
	}
}

// Find returns an error if Pub/Sub remains unreachable after a few attempts.
func TestFind_ReportsAnUnreachableProvider(t *testing.T) {
	t.Parallel()
	_, clients := connect(t, pstest.WithErrorInjection("GetTopic", codes.Unavailable, "away"))
	if _, err := clients.Queue("jobs").Find(t.Context()); err == nil || !strings.Contains(err.Error(), "is unreachable") {
		t.Errorf("%v", err)
	}
}

func TestConnect(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", "")
	t.Setenv("NO_GCE_CHECK", "true")
	if _, err := pubsubapi.NewClients(t.Context(), pubsubapi.Location{}); err == nil || !strings.Contains(err.Error(), "--project-id") {
		t.Errorf("without a project: %v", err)
	}
	c, err := pubsubapi.NewClients(t.Context(), pubsubapi.Location{Project: "test"})
	if err == nil {
		_ = c.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "gcloud auth application-default login") {
		t.Errorf("without credentials: %v", err)
	}
}

// Each region has its own endpoint.
func TestRegion(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{"": "pubsub.googleapis.com:443", "europe-west1": "europe-west1-pubsub.googleapis.com:443"} {
		asked := ""
		c, err := pubsubapi.NewClients(t.Context(), pubsubapi.Location{Project: "test", Region: region}, option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithUnaryInterceptor(func(_ context.Context, _ string, _, _ any, conn *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
				asked = conn.Target()
				return status.Error(codes.PermissionDenied, "no request is sent")
			})))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Queue("jobs").Info(t.Context()); !pubsubapi.IsDenied(err) {
			t.Errorf("%v", err)
		}
		if asked != want && !strings.HasSuffix(asked, "/"+want) {
			t.Errorf("%q: %s", region, asked)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
