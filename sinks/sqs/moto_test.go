package sqs

import (
	"context"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sqs"

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

// readAll receives messages until the queue is empty.
func readAll(t testing.TB, client *sqs.Client, url string) (all [][]byte) {
	t.Helper()
	for {
		out, err := client.ReceiveMessage(context.Background(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 3600})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			all = append(all, []byte(*m.Body))
		}
	}
}
