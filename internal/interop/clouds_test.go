//go:build interop

package interop

import (
	"errors"
	"slices"
	"strings"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"google.golang.org/api/iterator"

	"github.com/ctworker/ctworker/internal/testutil/pubsubtest"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
)

// names returns the names of the job's queues, or topics and subscriptions, as the provider knows them.
func (j *job) names() (all []string) {
	j.t.Helper()
	if j.provider == "AWS" {
		out, err := sqstest.NewClient(j.sqs).ListQueues(j.t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: &j.id})
		if err != nil {
			j.t.Fatal(err)
		}
		for _, url := range out.QueueUrls {
			all = append(all, url[strings.LastIndexByte(url, '/')+1:])
		}
		slices.Sort(all)
		return all
	}
	c := pubsubtest.NewClient(j.t, j.pubsub, j.project)
	defer c.Close()
	topics := c.Topics.ListTopics(j.t.Context(), &pubsubpb.ListTopicsRequest{Project: "projects/" + j.project})
	for {
		topic, err := topics.Next()
		if errors.Is(err, iterator.Done) {
			break
		}
		if err != nil {
			j.t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(topic.Name, "projects/"+j.project+"/"))
	}
	for _, s := range j.subscriptions() {
		all = append(all, strings.TrimPrefix(s.Name, "projects/"+j.project+"/"))
	}
	slices.Sort(all)
	return all
}

// subscriptions returns the subscriptions of the job's project.
func (j *job) subscriptions() (all []*pubsubpb.Subscription) {
	j.t.Helper()
	c := pubsubtest.NewClient(j.t, j.pubsub, j.project)
	defer c.Close()
	subscriptions := c.Subscriptions.ListSubscriptions(j.t.Context(), &pubsubpb.ListSubscriptionsRequest{Project: "projects/" + j.project})
	for {
		s, err := subscriptions.Next()
		if errors.Is(err, iterator.Done) {
			return all
		}
		if err != nil {
			j.t.Fatal(err)
		}
		all = append(all, s)
	}
}

// wantEmpty fails the test unless the job's task queue is empty.
func (j *job) wantEmpty() {
	j.t.Helper()
	if j.provider == "GCP" {
		c := pubsubtest.NewClient(j.t, j.pubsub, j.project)
		defer c.Close()
		//nolint:staticcheck // Pub/Sub itself may return an empty response too early; the emulator does not
		out, err := c.Subscriptions.Pull(j.t.Context(), &pubsubpb.PullRequest{Subscription: c.Subscription(j.id), MaxMessages: 100, ReturnImmediately: true})
		if err != nil {
			j.t.Fatal(err)
		}
		if n := len(out.ReceivedMessages); n > 0 {
			j.t.Errorf("%d messages are in the queue, want none", n)
		}
		return
	}
	client := sqstest.NewClient(j.sqs)
	url, err := client.GetQueueUrl(j.t.Context(), &sqs.GetQueueUrlInput{QueueName: &j.id})
	if err != nil {
		j.t.Fatal(err)
	}
	out, err := client.GetQueueAttributes(j.t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url.QueueUrl, AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll}})
	if err != nil {
		j.t.Fatal(err)
	}
	if visible, inFlight := out.Attributes["ApproximateNumberOfMessages"], out.Attributes["ApproximateNumberOfMessagesNotVisible"]; visible != "0" || inFlight != "0" {
		j.t.Errorf("%s messages visible and %s in flight, want none", visible, inFlight)
	}
}

// attributes returns the bodies and message attributes of the messages in the job's SQS task queue.
func (j *job) attributes() (all []string) {
	j.t.Helper()
	client := sqstest.NewClient(j.sqs)
	url, err := client.GetQueueUrl(j.t.Context(), &sqs.GetQueueUrlInput{QueueName: &j.id})
	if err != nil {
		j.t.Fatal(err)
	}
	out, err := client.ReceiveMessage(j.t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url.QueueUrl, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"}})
	if err != nil {
		j.t.Fatal(err)
	}
	for _, m := range out.Messages {
		for name, a := range m.MessageAttributes {
			all = append(all, strings.ReplaceAll(aws.ToString(m.Body), " ", "")+" "+name+" "+aws.ToString(a.DataType)+" "+aws.ToString(a.StringValue))
		}
	}
	slices.Sort(all)
	return all
}
