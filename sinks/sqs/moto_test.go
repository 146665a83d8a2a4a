package sqs

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sinks/sinktest"
)

// TestContractOnMoto runs the contract suite of sinks on moto.
func TestContractOnMoto(t *testing.T) {
	endpoint := sqstest.Start(t)
	queues := 0
	sinktest.Run(t, sinktest.Harness{
		New: func(t testing.TB) (pipeline.Sink, func() [][]byte) {
			queues++
			client, _ := sqstest.Client(t, endpoint, "another")
			s, err := open(t.Context(), client, Options{Queue: fmt.Sprintf("events-%d", queues)}) // creates the queue
			if err != nil {
				t.Fatal(err)
			}
			queue, err := sqsapi.FindQueue(t.Context(), client, s.queue, nil)
			if err != nil {
				t.Fatal(err)
			}
			var all [][]byte
			return s, func() [][]byte {
				all = append(all, readAll(t, client, queue.URL)...)
				return all
			}
		},
		IgnoreGoroutines: sqstest.IgnoreConnections(),
		Features:         sinktest.Features{MaxEvent: 200_000}, // moto reports a maximum of 256 KiB
	})
}

// readAll receives and deletes messages until the queue has none, neither visible nor hidden. A response that is
// lost hides its messages only for a second.
func readAll(t testing.TB, client *sqs.Client, url string) (all [][]byte) {
	t.Helper()
	ctx := context.Background()
	seen := map[string]bool{}
	counts := []types.QueueAttributeName{types.QueueAttributeNameApproximateNumberOfMessages, types.QueueAttributeNameApproximateNumberOfMessagesNotVisible}
	for {
		out, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range out.Messages {
			if !seen[*m.MessageId] {
				seen[*m.MessageId] = true
				all = append(all, []byte(*m.Body))
			}
			if _, err := client.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
		if len(out.Messages) > 0 {
			continue
		}
		left, err := client.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: counts})
		if err != nil {
			t.Fatal(err)
		}
		if left.Attributes[string(counts[0])] == "0" && left.Attributes[string(counts[1])] == "0" {
			return all
		}
	}
}
