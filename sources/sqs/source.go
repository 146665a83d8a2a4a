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

// A Source takes tasks from a queue. It never ends by itself.
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
		Log: opts.Log, Reporter: opts.Reporter, SuspectTime: opts.suspectTime, ReceiveTimeout: opts.receiveTimeout, SlowAfter: opts.slowAfter,
	})
	s.deletes = batch.New(batch.Options[string]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.deleteBatch)
	s.extends = batch.New(batch.Options[visibility]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.changeBatch)
	s.releases = batch.New(batch.Options[visibility]{MaxItems: sqsapi.MaxBatchSize, Linger: opts.Linger}, s.changeBatch)
	return s
}

// Receive returns the tasks of the next messages; see pipeline.Source. It asks for as
// many as it may return, ten at once, and for more tens at once while they come full.
//
// An error that another try would only meet again, such as a queue that is not
// there, ends it for good. Whatever else SQS or the network answers is tried again.
func (s *Source) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	return s.poller.Receive(ctx, limit)
}

// ReceiveUntilIdle implements pipeline.Idler.
func (s *Source) ReceiveUntilIdle(ctx context.Context, limit int, idleAt func() time.Time) ([]*pipeline.Delivery, error) {
	return s.poller.ReceiveUntilIdle(ctx, limit, idleAt)
}

// Unanswered is when SQS last could not be asked; see pipeline.Prober.
func (s *Source) LastFailure() time.Time { return s.poller.LastFailure() }

// Close ends the polls, and returns once what they have brought has been released
// and what is to be settled has been. Close again does nothing.
func (s *Source) Close(ctx context.Context) error {
	s.poller.Close(ctx)
	s.deletes.Close(ctx)
	s.extends.Close(ctx)
	s.releases.Close(ctx)
	return nil
}

// ask makes one receive.
func (s *Source) receive(ctx context.Context, n int, wait time.Duration, try string) ([]queuepoll.Message, error) {
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: sqsapi.Seconds(wait),
		VisibilityTimeout: sqsapi.Seconds(s.opts.Lease), MessageSystemAttributeNames: []types.MessageSystemAttributeName{receiveCount},
	}
	if strings.HasSuffix(s.url, sqsapi.FIFOSuffix) { // what an answer that is lost had brought, another try brings again
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

// attempt returns the receive count of a message, or 0 if SQS reports none or an invalid one.
func attempt(m types.Message) int {
	n, err := strconv.Atoi(m.Attributes[string(receiveCount)])
	if err != nil {
		return 0
	}
	return n
}
