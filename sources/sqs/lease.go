package sqs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/boottime"
	"github.com/ctworker/ctworker/internal/sqsapi"
	"github.com/ctworker/ctworker/pipeline"
)

// lease is a message in flight. It implements pipeline.Lease.
type lease struct {
	s       *Source
	handle  string
	sent    time.Time // time of the receive request, by package boottime
	expires time.Time
}

// visibility is a change of the visibility timeout of a message.
type visibility struct {
	handle string
	after  int32 // seconds until the message can be received again
}

func (l *lease) ExpiresAt() time.Time { return l.expires }

func (l *lease) Ack(ctx context.Context) error {
	return l.s.retry(ctx, "DeleteMessage", func() error { return l.s.deletes.Do(ctx, l.handle) })
}

func (l *lease) Release(ctx context.Context, delay time.Duration) error {
	change := visibility{handle: l.handle, after: roundUp(min(delay, l.remaining()))}
	return l.s.retry(ctx, "ChangeMessageVisibility", func() error { return l.s.releases.Do(ctx, change) })
}

// Extend extends the lease to d from now, or to the remaining part of sqsapi.MaxHold if that is
// shorter.
func (l *lease) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	d = min(d, l.remaining())
	if d < time.Second {
		return time.Time{}, fmt.Errorf("%w: SQS delivers a message again %v after it was received", pipeline.ErrLeaseLost, sqsapi.MaxHold)
	}
	began := time.Now() // the lease counts from before the request, because the response may be slow
	change := visibility{handle: l.handle, after: sqsapi.Seconds(d)}
	err := l.s.retry(ctx, "ChangeMessageVisibility", func() error { return l.s.extends.Do(ctx, change) })
	return began.Add(d.Truncate(time.Second)), err
}

// remaining returns the remaining part of sqsapi.MaxHold, less holdMargin. The result may be slightly
// too small, because it is counted from the receive request, and SQS counts from a later time.
func (l *lease) remaining() time.Duration {
	return max(sqsapi.MaxHold-boottime.Now().Sub(l.sent)-holdMargin, 0)
}

// holdMargin is the time that is reserved for the request that extends the lease.
const holdMargin = 30 * time.Second

func roundUp(d time.Duration) int32 { return sqsapi.Seconds(d + time.Second - 1) }

// retry calls do, and retries transient errors until ctx ends. A lost lease is returned as
// ErrLeaseLost, and any other permanent error as ErrPermanent.
func (s *Source) retry(ctx context.Context, action string, do func() error) error {
	err := sqsapi.Retry(ctx, sqsapi.RetryOptions{Action: action, Final: batch.ErrClosed, Reporter: s.opts.reporter, SuspectTime: s.opts.suspectTime}, do)
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, batch.ErrClosed):
		return err
	case sqsapi.IsReceiptExpired(err):
		return fmt.Errorf("%w: %w", pipeline.ErrLeaseLost, err)
	}
	return fmt.Errorf("%w: %w", pipeline.ErrPermanent, sqsapi.DescribeError(action, s.opts.Queue, err))
}

func (s *Source) deleteBatch(ctx context.Context, handles []string) []error {
	in := sqs.DeleteMessageBatchInput{QueueUrl: &s.url}
	for i, handle := range handles {
		in.Entries = append(in.Entries, types.DeleteMessageBatchRequestEntry{Id: sqsapi.EntryID(i), ReceiptHandle: &handle})
	}
	ctx, cancel := context.WithTimeout(ctx, sqsapi.RequestTimeout)
	defer cancel()
	began := time.Now()
	out, err := s.client.DeleteMessageBatch(ctx, &in)
	if err != nil {
		return sqsapi.RepeatError(len(handles), err)
	}
	s.poller.ObserveLatency(time.Since(began))
	id := func(e types.DeleteMessageBatchResultEntry) *string { return e.Id }
	return sqsapi.BatchErrors(len(handles), out.Successful, id, out.Failed)
}

func (s *Source) changeBatch(ctx context.Context, changes []visibility) []error {
	in := sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &s.url}
	for i, c := range changes {
		in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
			Id: sqsapi.EntryID(i), ReceiptHandle: &c.handle, VisibilityTimeout: c.after,
		})
	}
	ctx, cancel := context.WithTimeout(ctx, sqsapi.RequestTimeout)
	defer cancel()
	began := time.Now()
	out, err := s.client.ChangeMessageVisibilityBatch(ctx, &in)
	if err != nil {
		return sqsapi.RepeatError(len(changes), err)
	}
	s.poller.ObserveLatency(time.Since(began))
	id := func(e types.ChangeMessageVisibilityBatchResultEntry) *string { return e.Id }
	return sqsapi.BatchErrors(len(changes), out.Successful, id, out.Failed)
}
