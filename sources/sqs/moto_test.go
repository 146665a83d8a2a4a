package sqs

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/internal/testutil/sqstest"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/sourcetest"
)

// TestContractOnMoto runs the contract suite on moto. The feature ReportsLost is tested only with the
// fake server, because in moto a receipt handle remains valid after another receive.
func TestContractOnMoto(t *testing.T) {
	endpoint := sqstest.Start(t)
	var queues atomic.Int64
	sourcetest.Run(t, sourcetest.Harness{
		New: func(t testing.TB, tasks []pipeline.Task) pipeline.Source {
			name := fmt.Sprintf("jobs-%d", queues.Add(1))
			client, url := sqstest.Client(t, endpoint, name)
			send(t, client, url, bodies(tasks))
			opts := Options{Queue: name, Lease: 6 * time.Second, Wait: time.Second}.withDefaults()
			s, err := open(t.Context(), client, opts)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Parallel:         true,
		IgnoreGoroutines: sqstest.IgnoreConnections(),
		Features: sourcetest.Features{
			Redelivers: true, CountsAttempts: true, ReleaseDelay: time.Second,
			LeaseDuration: 6 * time.Second, MaxData: 1<<20 - 200,
		},
	})
}

// send sends messages. It sends large messages one at a time.
func send(t testing.TB, client *sqs.Client, url string, bodies []string) {
	t.Helper()
	for len(bodies) > 0 {
		n := min(len(bodies), sqsapi.MaxBatchSize)
		if len(bodies[0]) > 100_000 {
			n = 1
		}
		in := sqs.SendMessageBatchInput{QueueUrl: &url}
		for i, body := range bodies[:n] {
			in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{Id: sqsapi.EntryID(i), MessageBody: &body})
		}
		out, err := client.SendMessageBatch(t.Context(), &in)
		if err != nil || len(out.Failed) > 0 {
			t.Fatalf("send: %v, %v", err, out)
		}
		bodies = bodies[n:]
	}
}
