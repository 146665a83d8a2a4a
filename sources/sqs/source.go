package sqs

import (
	"context"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/internal/queuepoll"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/pipeline"
)

// A Source receives tasks from a queue. It is never exhausted.
type Source struct {
	client client
	url    string
	opts   Options
	poller *queuepoll.Poller

	deletes           *batch.Batcher[string]
	extends, releases *batch.Batcher[visibility]
}

func newSource(c client, url string, opts Options) *Source {
	s := &Source{client: c, url: url, opts: opts}
	s.poller = queuepoll.New(queuepoll.Options{
		Provider: "sqs", Action: "ReceiveMessage", Receive: s.receive, Classify: sqsapi.Classify, Explain: s.describeError,
		MaxBatchSize: sqsapi.MaxBatchSize, Wait: queuepoll.MaxWait(opts.Wait, opts.Lease), Lease: opts.Lease, Raw: opts.Raw, OnMalformed: opts.OnMalformed,
		Log: opts.Log, Reporter: opts.reporter, SuspectTime: opts.suspectTime, ReceiveTimeout: opts.receiveTimeout, SlowAfter: opts.slowAfter,
	})
	s.deletes = batch.New(batch.Options[string]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.deleteBatch)
	s.extends = batch.New(batch.Options[visibility]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.changeBatch)
	s.releases = batch.New(batch.Options[visibility]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.changeBatch)
	return s
}

// Receive returns the tasks of the next messages; see pipeline.Source. It requests up to limit
// messages, at most ten per request, and sends more concurrent requests as long as the
// responses are full.
//
// Transient errors are retried. After a permanent error, such as a missing queue, this call and all
// further calls return that error.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return s.poller.Receive(ctx, limit)
}

// ReceiveUntilIdle implements pipeline.Idler.
func (s *Source) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	return s.poller.ReceiveUntilIdle(ctx, limit, idleAt)
}

// LastFailure returns the time at which SQS was last unreachable; see
// pipeline.HealthReporter.
func (s *Source) LastFailure() time.Time { return s.poller.LastFailure() }

// Hints implements pipeline.Hinter. The queue is shared with other workers.
func (s *Source) Hints() pipeline.Hints {
	return pipeline.Hints{Shared: true, BatchSize: sqsapi.MaxBatchSize}
}

// Close stops the polls, releases the messages that Receive has not returned, and waits for
// the open settlements. A second Close does nothing.
func (s *Source) Close(ctx context.Context) error {
	s.poller.Close(ctx)
	s.deletes.Close(ctx)
	s.extends.Close(ctx)
	s.releases.Close(ctx)
	return nil
}

// receive sends one ReceiveMessage request.
func (s *Source) receive(ctx context.Context, n int, wait time.Duration, try string) ([]queuepoll.Message, error) {
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: sqsapi.Seconds(wait),
		VisibilityTimeout: sqsapi.Seconds(s.opts.Lease), MessageSystemAttributeNames: []types.MessageSystemAttributeName{receiveCount},
	}
	if strings.HasSuffix(s.url, sqsapi.FIFOSuffix) { // if the response is lost, the retry gets the same messages
		in.ReceiveRequestAttemptId = &try
	}
	sent := boottime.Now()
	out, err := s.client.ReceiveMessage(ctx, in)
	if err != nil {
		return nil, err
	}
	expires := queuepoll.ExpiresAt(sent, s.opts.Lease)
	messages := make([]queuepoll.Message, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = queuepoll.Message{
			ID: awssdk.ToString(m.MessageId), Body: awssdk.ToString(m.Body), Attempt: attempt(m),
			Lease: &lease{s: s, handle: awssdk.ToString(m.ReceiptHandle), sent: sent, expires: expires},
		}
	}
	return messages, nil
}

func (s *Source) describeError(err error) error {
	return sqsapi.DescribeError("ReceiveMessage", s.opts.Queue, err)
}

// receiveCount is the attribute that counts the receives of a message.
const receiveCount = types.MessageSystemAttributeNameApproximateReceiveCount

// attempt returns the receive count of a message, or 0 if SQS reports no count or an invalid count.
func attempt(m types.Message) int {
	n, err := strconv.Atoi(m.Attributes[string(receiveCount)])
	if err != nil {
		return 0
	}
	return n
}
