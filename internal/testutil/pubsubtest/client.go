package pubsubtest

import (
	"context"
	"sync"
	"testing"

	pubsub "cloud.google.com/go/pubsub/v2/apiv1"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// ClientOptions returns options for a Pub/Sub client that connects to the server at address.
func ClientOptions(address string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// A Client gives tests direct access to the queues of a project.
type Client struct {
	Topics        *pubsub.TopicAdminClient
	Subscriptions *pubsub.SubscriptionAdminClient
	Project       string

	t     testing.TB
	close sync.Once
}

// NewClient returns a client for the server at address. It is closed at the end of the test.
func NewClient(t testing.TB, address, project string) *Client {
	t.Helper()
	topics, err := pubsub.NewTopicAdminClient(t.Context(), ClientOptions(address)...)
	if err != nil {
		t.Fatal(err)
	}
	subscriptions, err := pubsub.NewSubscriptionAdminClient(t.Context(), ClientOptions(address)...)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Topics: topics, Subscriptions: subscriptions, Project: project, t: t}
	t.Cleanup(c.Close)
	return c
}

// Close closes the client before the end of the test.
func (c *Client) Close() {
	c.close.Do(func() {
		_ = c.Topics.Close()
		_ = c.Subscriptions.Close()
	})
}

// Topic returns the full name of the topic of a queue.
func (c *Client) Topic(queue string) string {
	return "projects/" + c.Project + "/topics/" + queue + "-topic"
}

// Subscription returns the full name of the subscription of a queue.
func (c *Client) Subscription(queue string) string {
	return "projects/" + c.Project + "/subscriptions/" + queue + "-subscription"
}

// Create creates a queue. If change is not nil, it may change the subscription before the subscription is
// created.
func (c *Client) Create(queue string, change func(*pubsubpb.Subscription)) {
	c.t.Helper()
	if _, err := c.Topics.CreateTopic(c.t.Context(), &pubsubpb.Topic{Name: c.Topic(queue)}); err != nil {
		c.t.Fatal(err)
	}
	s := &pubsubpb.Subscription{Name: c.Subscription(queue), Topic: c.Topic(queue), AckDeadlineSeconds: 60}
	if change != nil {
		change(s)
	}
	if _, err := c.Subscriptions.CreateSubscription(c.t.Context(), s); err != nil {
		c.t.Fatal(err)
	}
}

// Publish sends messages to a queue.
func (c *Client) Publish(queue string, bodies ...string) {
	c.t.Helper()
	for _, b := range bodies {
		in := &pubsubpb.PublishRequest{Topic: c.Topic(queue), Messages: []*pubsubpb.PubsubMessage{{Data: []byte(b), Attributes: map[string]string{"an": "attribute"}}}}
		if _, err := c.Topics.Publish(context.Background(), in); err != nil {
			c.t.Fatal(err)
		}
	}
}
