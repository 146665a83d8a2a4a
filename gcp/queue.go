package gcp

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

// Retention is how long a subscription that is created here keeps what nobody
// acknowledges.
const Retention = 7 * 24 * time.Hour

// AckDeadline is for how long a subscription that is created here holds a message for
// whoever has pulled it, unless that is changed.
const AckDeadline = time.Minute

// LeastAckDeadline is the shortest that a subscription can have, and MostAckDeadline the
// longest, which is also the longest that can be asked for a message
// (Google: Pub/Sub, Lease management).
const (
	LeastAckDeadline = 10 * time.Second
	MostAckDeadline  = 10 * time.Minute
)

// A Queue is a topic and its subscription, which need not be there.
type Queue struct {
	// Name is the queue's name: the topic's and the subscription's without their endings.
	Name string
	// Topic and Subscription are the full names, projects/…
	Topic, Subscription string

	clients *Clients
}

// Queue is the queue of a name.
func (c *Clients) Queue(name string) *Queue {
	project := "projects/" + c.place.Project
	return &Queue{
		Name: name, Topic: project + "/topics/" + name + "-topic",
		Subscription: project + "/subscriptions/" + name + "-subscription", clients: c,
	}
}

// Info is what Pub/Sub reports of a subscription. It does not report how many messages it
// has.
type Info struct {
	// AckDeadline is for how long a message is held at first.
	AckDeadline time.Duration
	// Retention is how long a message is kept; 0 if Pub/Sub does not say.
	Retention time.Duration
	// ExactlyOnce says that it delivers each message exactly once.
	ExactlyOnce bool
	// DeadLetterTopic is the name of the topic to which a message goes that has been
	// delivered MaxDeliveries times; "" if there is none. Deliveries are counted only
	// if there is one.
	DeadLetterTopic string
	MaxDeliveries   int
	// Problem is why messages that are published to the queue's topic do not come out of
	// its subscription, and what to do; "" if they do.
	Problem string
	// TopicDeleted says that the subscription is left from a topic that was deleted. What
	// was published before can still be received.
	TopicDeleted bool
}

// deletedTopic is the topic of a subscription whose own was deleted.
const deletedTopic = "_deleted-topic_"

// Info asks for the subscription. An error that IsNoQueue says that there is none. One that
// messages cannot come out of is an error that Is ErrUnusable, and is returned with it.
func (q *Queue) Info(ctx context.Context) (Info, error) {
	s, err := atStart(ctx, q.clients, "GetSubscription", func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil {
		return Info{}, q.Explain("GetSubscription", err)
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

// ErrUnusable says that a queue exists, but not so that what is sent to it is received
// from it.
var ErrUnusable = errors.New("the queue cannot be used as it is")

func unusable(problem string) error { return fmt.Errorf("pubsub: %s: %w", problem, ErrUnusable) }

// anew says how to go on if a part of a queue is not as it has to be.
const anew = "; ctworker queue delete deletes both parts of the queue (--events: of the queue of events), and ctworker queue create creates them anew"

// problem compares a subscription with what the queue needs.
func (q *Queue) problem(s *pubsubpb.Subscription) string {
	is := ""
	switch push := s.GetPushConfig().GetPushEndpoint(); {
	case s.GetTopic() == deletedTopic:
		return fmt.Sprintf("the topic of the subscription %q was deleted, so that nothing comes any more to what it still has", q.Subscription) +
			"; collect what is in it if that is needed (ctworker events)" + anew
	case s.GetTopic() != q.Topic:
		is = fmt.Sprintf("belongs to the topic %q and not to %q", s.GetTopic(), q.Topic)
	case s.GetDetached():
		is = "is detached from its topic"
	case s.GetFilter() != "":
		is = fmt.Sprintf("has the filter %q, which drops messages that ctworker sends", s.GetFilter())
	case push != "":
		is = "pushes its messages to an address, so that they cannot be pulled"
	case s.GetBigqueryConfig().GetTable() != "", s.GetCloudStorageConfig().GetBucket() != "":
		is = "exports its messages, so that they cannot be pulled"
	default:
		return ""
	}
	return fmt.Sprintf("the subscription %q %s", q.Subscription, is) + anew
}

// Find asks whether the queue is there, both parts of it and such that what is published to
// the one is received from the other. An error that IsNoQueue says that neither is there.
func (q *Queue) Find(ctx context.Context) (Info, error) {
	info, err := q.Info(ctx)
	if err != nil && !IsNoQueue(err) {
		return info, err
	}
	switch fault := q.findTopic(ctx); {
	case fault == nil && err == nil:
		return info, nil
	case fault == nil: // what was published to it until now is lost already
		return info, &halfError{fmt.Sprintf("the topic %q is there, but its subscription %q is not, so that what is sent is lost: ctworker queue create creates it (--events: in the queue of events)", q.Topic, q.Subscription), err}
	case !IsNoQueue(fault), err != nil:
		return info, fault
	default:
		return info, unusable(fmt.Sprintf("the subscription %q is there, but its topic %q is not", q.Subscription, q.Topic) + anew)
	}
}

// halfError is the error of a topic without a subscription. It IsNoQueue and Is ErrUnusable.
type halfError struct {
	text string
	err  error
}

func (e *halfError) Error() string { return "pubsub: " + e.text }

func (e *halfError) Unwrap() []error { return []error{e.err, ErrUnusable} }

func (q *Queue) findTopic(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "GetTopic", func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: q.Topic})
	})
	if err != nil {
		return q.Explain("GetTopic", err)
	}
	return nil
}

// Create creates what is missing of the queue. What is there is not changed; it is an error
// that Is ErrUnusable if messages would not come out of it, or not exactly once though that
// is wanted.
func (q *Queue) Create(ctx context.Context, exactlyOnce bool) (created bool, err error) {
	info, err := q.Find(ctx)
	if err == nil {
		return false, q.checkOnce(info, exactlyOnce)
	}
	if !IsNoQueue(err) {
		return false, err
	}
	_, err = atStart(ctx, q.clients, "CreateTopic", func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.CreateTopic(ctx, &pubsubpb.Topic{Name: q.Topic})
	})
	if err != nil && codeOf(err) != codes.AlreadyExists {
		return false, q.Explain("CreateTopic", err)
	}
	_, err = atStart(ctx, q.clients, "CreateSubscription", func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.CreateSubscription(ctx, &pubsubpb.Subscription{
			Name: q.Subscription, Topic: q.Topic, AckDeadlineSeconds: Seconds(AckDeadline),
			MessageRetentionDuration: durationpb.New(Retention), EnableExactlyOnceDelivery: exactlyOnce,
			ExpirationPolicy: &pubsubpb.ExpirationPolicy{}, // never: its default deletes what nobody has asked for in a month
		})
	})
	switch {
	case err == nil:
		return true, nil
	case codeOf(err) == codes.AlreadyExists: // another worker was faster, or it is not what it should be
		info, err := q.Info(ctx)
		if err != nil {
			return false, err
		}
		return false, q.checkOnce(info, exactlyOnce)
	}
	return false, q.Explain("CreateSubscription", err)
}

func (q *Queue) checkOnce(info Info, exactlyOnce bool) error {
	if exactlyOnce && !info.ExactlyOnce {
		return unusable(q.NotExactlyOnce())
	}
	return nil
}

// NotExactlyOnce says that the subscription does not deliver exactly once, and what to do.
func (q *Queue) NotExactlyOnce() string {
	return fmt.Sprintf("the subscription %q does not deliver exactly once, and is not changed: delete it and create it anew (ctworker queue delete and ctworker queue create --exactly-once-queue), or leave out --exactly-once-queue", q.Subscription)
}

// Purge deletes all that was published until now.
func (q *Queue) Purge(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "Seek", func(ctx context.Context) (*pubsubpb.SeekResponse, error) {
		return q.clients.Subscriptions.Seek(ctx, &pubsubpb.SeekRequest{
			Subscription: q.Subscription, Target: &pubsubpb.SeekRequest_Time{Time: timestamppb.Now()},
		})
	})
	if err != nil {
		return q.Explain("Seek", err)
	}
	return nil
}

// Delete deletes the subscription, with all that is in it, and the topic. An error that
// IsNoQueue says that neither was there.
func (q *Queue) Delete(ctx context.Context) error {
	_, err := atStart(ctx, q.clients, "DeleteSubscription", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.clients.Subscriptions.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil && !IsNoQueue(err) {
		return q.Explain("DeleteSubscription", err)
	}
	_, fault := atStart(ctx, q.clients, "DeleteTopic", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.clients.Topics.DeleteTopic(ctx, &pubsubpb.DeleteTopicRequest{Topic: q.Topic})
	})
	if fault != nil && (!IsNoQueue(fault) || err != nil) {
		return q.Explain("DeleteTopic", fault)
	}
	return nil
}

// ErrTooLarge says that a message is larger than Pub/Sub takes.
var ErrTooLarge = errors.New("it is too large for the queue")

// Seconds is d in whole seconds, rounded down.
func Seconds(d time.Duration) int32 { return int32(d / time.Second) }
