package pubsubapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Retention is how long a subscription that Create creates keeps unacknowledged messages.
const Retention = 7 * 24 * time.Hour

// AckDeadline is the ack deadline of a subscription that Create creates.
const AckDeadline = time.Minute

// MinAckDeadline and MaxAckDeadline are the limits for the ack deadline of a subscription.
// MaxAckDeadline is also the limit for one extension (Google: Pub/Sub, Lease management).
const (
	MinAckDeadline = 10 * time.Second
	MaxAckDeadline = 10 * time.Minute
)

// A Queue is a topic and its subscription, which need not exist.
type Queue struct {
	// Name is the name of the queue. The names of the topic and the subscription are Name
	// with a suffix.
	Name string
	// Topic and Subscription are the full names, projects/…
	Topic, Subscription string

	clients *Clients
}

// Queue returns the queue with the given name. It sends no requests.
func (c *Clients) Queue(name string) *Queue {
	project := "projects/" + c.location.Project
	return &Queue{
		Name: name, Topic: project + "/topics/" + name + "-topic",
		Subscription: project + "/subscriptions/" + name + "-subscription", clients: c,
	}
}

// Info describes a subscription. Pub/Sub does not report the number of messages in a subscription.
type Info struct {
	// AckDeadline is the ack deadline of the subscription, the initial lease of a message.
	AckDeadline time.Duration
	// Retention is how long a message is kept; 0 if Pub/Sub does not report it.
	Retention time.Duration
	// ExactlyOnce reports whether exactly-once delivery is enabled.
	ExactlyOnce bool
	// DeadLetterTopic is the topic that receives messages which were delivered MaxDeliveries
	// times. It is "" if there is no such topic; Pub/Sub then does not count deliveries.
	DeadLetterTopic string
	MaxDeliveries   int
	// Problem explains why messages published to the topic of the queue cannot be pulled from
	// the subscription of the queue, and what to do. It is "" if they can be pulled.
	Problem string
	// TopicDeleted reports whether the topic of the subscription was deleted. Messages that were
	// published before the deletion can still be received.
	TopicDeleted bool
}

// deletedTopic is the topic that Pub/Sub reports for a subscription whose topic was deleted.
const deletedTopic = "_deleted-topic_"

// Info requests the configuration of the subscription. If the subscription does not exist, Info
// returns an error for which IsNotFound is true. If messages cannot be pulled from the
// subscription, Info returns both an Info and an error that wraps ErrUnusable.
func (q *Queue) Info(ctx context.Context) (Info, error) {
	s, err := atStart(ctx, q.clients, "GetSubscription", func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil {
		return Info{}, q.DescribeError("GetSubscription", err)
	}
	dead := s.GetDeadLetterPolicy()
	info := Info{
		AckDeadline: time.Duration(s.GetAckDeadlineSeconds()) * time.Second, Retention: s.GetMessageRetentionDuration().AsDuration(),
		ExactlyOnce: s.GetEnableExactlyOnceDelivery(), MaxDeliveries: int(dead.GetMaxDeliveryAttempts()),
		DeadLetterTopic: dead.GetDeadLetterTopic()[strings.LastIndex(dead.GetDeadLetterTopic(), "/")+1:],
		TopicDeleted:    s.GetTopic() == deletedTopic, Problem: q.problem(s),
	}
	if info.Problem != "" {
		return info, unusable(info.Problem)
	}
	return info, nil
}

// ErrUnusable is returned if a queue exists, but messages that are sent to the queue cannot be
// received from it.
var ErrUnusable = errors.New("the queue has a different configuration than this worker needs")

func unusable(problem string) error { return fmt.Errorf("pubsub: %s: %w", problem, ErrUnusable) }

// recreateAdvice is the advice for a queue with an unsuitable topic or subscription.
const recreateAdvice = "; delete both parts of the queue (ctworker queue delete; with --events the event queue) and create them again (ctworker queue create)"

// problem returns the value of Info.Problem for a subscription.
func (q *Queue) problem(s *pubsubpb.Subscription) string {
	fault := ""
	switch push := s.GetPushConfig().GetPushEndpoint(); {
	case s.GetTopic() == deletedTopic:
		return fmt.Sprintf("the topic of the subscription %q was deleted, so it receives no more messages", q.Subscription) +
			"; first collect the remaining messages if you need them (ctworker events)" + recreateAdvice
	case s.GetTopic() != q.Topic:
		fault = fmt.Sprintf("belongs to the topic %q instead of %q", s.GetTopic(), q.Topic)
	case s.GetDetached():
		fault = "is detached from its topic"
	case s.GetFilter() != "":
		fault = fmt.Sprintf("has the filter %q, which drops messages that ctworker sends", s.GetFilter())
	case push != "":
		fault = "pushes its messages to an address, so that they cannot be pulled"
	case s.GetBigqueryConfig().GetTable() != "", s.GetCloudStorageConfig().GetBucket() != "":
		fault = "exports its messages, so that they cannot be pulled"
	default:
		return ""
	}
	return fmt.Sprintf("the subscription %q %s", q.Subscription, fault) + recreateAdvice
}

// Find checks that the topic and the subscription exist, and that messages published to the
// topic can be pulled from the subscription. If both are missing, it returns an error for
// which IsNotFound is true. If only the subscription is missing, the error also wraps
// ErrUnusable.
func (q *Queue) Find(ctx context.Context) (Info, error) {
	info, err := q.Info(ctx)
	if err != nil && !IsNotFound(err) {
		return info, err
	}
	switch fault := q.findTopic(ctx); {
	case fault == nil && err == nil:
		return info, nil
	case fault == nil: // messages published until now are lost
		return info, &missingSubscriptionError{fmt.Sprintf("the topic %q exists, but its subscription %q does not, so messages sent to it are lost: create it (ctworker queue create)", q.Topic, q.Subscription), err}
	case !IsNotFound(fault), err != nil:
		return info, fault
	default:
		return info, unusable(fmt.Sprintf("the subscription %q exists, but its topic %q does not", q.Subscription, q.Topic) + recreateAdvice)
	}
}

// missingSubscriptionError is the error for a topic without a subscription. It wraps ErrUnusable, and
// IsNotFound returns true for it.
type missingSubscriptionError struct {
	text string
	err  error
}

func (e *missingSubscriptionError) Error() string { return "pubsub: " + e.text }

func (e *missingSubscriptionError) Unwrap() []error { return []error{e.err, ErrUnusable} }

func (q *Queue) findTopic(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "GetTopic", func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: q.Topic})
	})
	if err != nil {
		return q.DescribeError("GetTopic", err)
	}
	return nil
}

// Create creates the topic and the subscription if they do not exist. It does not change an
// existing topic or subscription. It returns an error that wraps ErrUnusable if messages cannot be
// pulled from an existing subscription, or if exactlyOnce is set and the subscription does not
// deliver exactly once.
func (q *Queue) Create(ctx context.Context, exactlyOnce bool) (created bool, err error) {
	info, err := q.Find(ctx)
	if err == nil {
		return false, q.checkExactlyOnce(info, exactlyOnce)
	}
	if !IsNotFound(err) {
		return false, err
	}
	_, err = atStart(ctx, q.clients, "CreateTopic", func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.CreateTopic(ctx, &pubsubpb.Topic{Name: q.Topic})
	})
	if err != nil && codeOf(err) != codes.AlreadyExists {
		return false, q.DescribeError("CreateTopic", err)
	}
	_, err = atStart(ctx, q.clients, "CreateSubscription", func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.CreateSubscription(ctx, &pubsubpb.Subscription{
			Name: q.Subscription, Topic: q.Topic, AckDeadlineSeconds: Seconds(AckDeadline),
			MessageRetentionDuration: durationpb.New(Retention), EnableExactlyOnceDelivery: exactlyOnce,
			ExpirationPolicy: &pubsubpb.ExpirationPolicy{}, // never expires; by default, Pub/Sub deletes it after 31 days without use
		})
	})
	switch {
	case err == nil:
		return true, nil
	case codeOf(err) == codes.AlreadyExists: // another worker was faster, or the subscription is unsuitable
		info, err := q.Info(ctx)
		if err != nil {
			return false, err
		}
		return false, q.checkExactlyOnce(info, exactlyOnce)
	}
	return false, q.DescribeError("CreateSubscription", err)
}

func (q *Queue) checkExactlyOnce(info Info, exactlyOnce bool) error {
	if exactlyOnce && !info.ExactlyOnce {
		return unusable(q.NotExactlyOnce())
	}
	return nil
}

// NotExactlyOnce returns a message that says that the subscription does not deliver exactly once, and
// what to do.
func (q *Queue) NotExactlyOnce() string {
	return fmt.Sprintf("the subscription %q does not deliver exactly once: delete it and create it again (ctworker queue delete and ctworker queue create --exactly-once-queue), or leave out --exactly-once-queue", q.Subscription)
}

// Purge deletes all messages that were published until now.
func (q *Queue) Purge(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "Seek", func(ctx context.Context) (*pubsubpb.SeekResponse, error) {
		return q.clients.Subscriptions.Seek(ctx, &pubsubpb.SeekRequest{
			Subscription: q.Subscription, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.Now()},
		})
	})
	if err != nil {
		return q.DescribeError("Seek", err)
	}
	return nil
}

// Delete deletes the subscription, with all its messages, and the topic. If neither exists,
// it returns an error for which IsNotFound is true.
func (q *Queue) Delete(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "DeleteSubscription", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.clients.Subscriptions.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil && !IsNotFound(err) {
		return q.DescribeError("DeleteSubscription", err)
	}
	_, fault := atStart(ctx, q.clients, "DeleteTopic", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.clients.Topics.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: q.Topic})
	})
	if fault != nil && (!IsNotFound(fault) || err != nil) {
		return q.DescribeError("DeleteTopic", fault)
	}
	return nil
}

// ErrTooLarge is returned for a message that is larger than Pub/Sub accepts.
var ErrTooLarge = errors.New("the message is too large for the queue")

// Seconds returns d in whole seconds, rounded down.
func Seconds(d time.Duration) int32 { return int32(d / time.Second) }
