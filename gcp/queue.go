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

// Info is what Pub/Sub tells of a subscription. It tells not how many messages it has.
type Info struct {
	// AckDeadline is for how long a message is held at first.
	AckDeadline time.Duration
	// Retention is how long a message is kept.
	Retention time.Duration
	// ExactlyOnce says that it delivers each message exactly once.
	ExactlyOnce bool
	// DeadLetterTopic is the name of the topic to which a message goes that has been
	// delivered MaxDeliveries times; "" if there is none. Deliveries are counted only
	// where there is one.
	DeadLetterTopic string
	MaxDeliveries   int
}

// deletedTopic is the topic of a subscription whose own was deleted.
const deletedTopic = "_deleted-topic_"

// Info asks for the subscription. An error that IsNoQueue says that there is none.
func (q *Queue) Info(ctx context.Context) (Info, error) {
	s, err := atStart(ctx, func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil {
		return Info{}, q.Explain("GetSubscription", err)
	}
	if s.GetTopic() == deletedTopic {
		return Info{}, fmt.Errorf("pubsub: the topic of the subscription %q was deleted, so that nothing can come any more: delete the subscription as well, and create the queue anew", q.Subscription)
	}
	dead := s.GetDeadLetterPolicy()
	return Info{
		AckDeadline: time.Duration(s.GetAckDeadlineSeconds()) * time.Second, Retention: s.GetMessageRetentionDuration().AsDuration(),
		ExactlyOnce: s.GetEnableExactlyOnceDelivery(), MaxDeliveries: int(dead.GetMaxDeliveryAttempts()),
		DeadLetterTopic: dead.GetDeadLetterTopic()[strings.LastIndex(dead.GetDeadLetterTopic(), "/")+1:],
	}, nil
}

// Find asks whether the queue is there, both parts of it: what is published to a topic
// without a subscription is lost.
func (q *Queue) Find(ctx context.Context) (Info, error) {
	_, err := atStart(ctx, func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.GetTopic(ctx, &pubsubpb.GetTopicRequest{Topic: q.Topic})
	})
	if err != nil {
		return Info{}, q.Explain("GetTopic", err)
	}
	return q.Info(ctx)
}

// Create creates what is missing of the queue. What is there is taken as it is.
func (q *Queue) Create(ctx context.Context, exactlyOnce bool) (created bool, err error) {
	if _, err := q.Find(ctx); err == nil || !IsNoQueue(err) {
		return false, err
	}
	_, err = atStart(ctx, func(ctx context.Context) (*pubsubpb.Topic, error) {
		return q.clients.Topics.CreateTopic(ctx, &pubsubpb.Topic{Name: q.Topic})
	})
	if err != nil && codeOf(err) != codes.AlreadyExists {
		return false, q.Explain("CreateTopic", err)
	}
	_, err = atStart(ctx, func(ctx context.Context) (*pubsubpb.Subscription, error) {
		return q.clients.Subscriptions.CreateSubscription(ctx, &pubsubpb.Subscription{
			Name: q.Subscription, Topic: q.Topic, AckDeadlineSeconds: Seconds(AckDeadline),
			MessageRetentionDuration: durationpb.New(Retention), EnableExactlyOnceDelivery: exactlyOnce,
			ExpirationPolicy: &pubsubpb.ExpirationPolicy{}, // never: its default deletes what nobody has asked for in a month
		})
	})
	switch {
	case err == nil:
		return true, nil
	case codeOf(err) == codes.AlreadyExists: // another worker was faster
		return false, nil
	}
	return false, q.Explain("CreateSubscription", err)
}

// Purge deletes all that was published until now.
func (q *Queue) Purge(ctx context.Context) error {
	_, err := atStart(ctx, func(ctx context.Context) (*pubsubpb.SeekResponse, error) {
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
	_, err := atStart(ctx, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, q.clients.Subscriptions.DeleteSubscription(ctx, &pubsubpb.DeleteSubscriptionRequest{Subscription: q.Subscription})
	})
	if err != nil && !IsNoQueue(err) {
		return q.Explain("DeleteSubscription", err)
	}
	_, fault := atStart(ctx, func(ctx context.Context) (struct{}, error) {
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
