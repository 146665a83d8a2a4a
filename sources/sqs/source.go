package sqs

import (
	"context"
	"strconv"
	"strings"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/pipeline/batch"
	"github.com/ctworker/ctworker/sources/poll"
)

// A Source takes tasks from a queue. It never ends by itself.
type Source struct {
	client client
	url    string
	opts   Options
	poller *poll.Poller

	deletes           *batch.Batcher[string]
	extends, releases *batch.Batcher[visibility]
}

func newSource(c client, url string, opts Options) *Source {
	s := &Source{client: c, url: url, opts: opts}
	s.poller = poll.New(poll.Options{
		Provider: "sqs", Action: "ReceiveMessage", Ask: s.ask, Classify: aws.Classify, Explain: s.explain,
		Most: aws.BatchMost, Wait: poll.MaxWait(opts.Wait, opts.Lease), Lease: opts.Lease, Raw: opts.Raw, Malformed: opts.Malformed,
		Log: opts.Log, Reporter: opts.Reporter, SuspectTime: opts.suspectTime, Limit: opts.limit, Late: opts.late,
	})
	s.deletes = batch.New(batch.Options[string]{Most: aws.BatchMost, Linger: opts.Linger}, s.deleteBatch)
	s.extends = batch.New(batch.Options[visibility]{Most: aws.BatchMost, Linger: opts.Linger}, s.changeBatch)
	s.releases = batch.New(batch.Options[visibility]{Most: aws.BatchMost, Linger: opts.Linger}, s.changeBatch)
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
func (s *Source) Unanswered() time.Time { return s.poller.Unanswered() }

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
func (s *Source) ask(ctx context.Context, n int, wait time.Duration, try string) ([]poll.Message, error) {
	in := &sqs.ReceiveMessageInput{
		QueueUrl: &s.url, MaxNumberOfMessages: int32(n), WaitTimeSeconds: aws.Seconds(wait),
		VisibilityTimeout: aws.Seconds(s.opts.Lease), MessageSystemAttributeNames: []types.MessageSystemAttributeName{receiveCount},
	}
	if strings.HasSuffix(s.url, aws.FIFO) { // what an answer that is lost had brought, another try brings again
		in.ReceiveRequestAttemptId = &try
	}
	sent := boottime.Now()
	out, err := s.client.ReceiveMessage(ctx, in)
	if err != nil {
		return nil, err
	}
	expires := poll.Expires(sent, s.opts.Lease)
	messages := make([]poll.Message, len(out.Messages))
	for i, m := range out.Messages {
		messages[i] = poll.Message{
			ID: awssdk.ToString(m.MessageId), Body: awssdk.ToString(m.Body), Attempt: attempt(m),
			Lease: &lease{s: s, handle: awssdk.ToString(m.ReceiptHandle), sent: sent, expires: expires},
		}
	}
	return messages, nil
}

func (s *Source) explain(err error) error { return aws.Explain("ReceiveMessage", s.opts.Queue, err) }

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
