package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/ctworker/ctworker/internal/batch"
	"github.com/ctworker/ctworker/internal/pubsubapi"
	"github.com/ctworker/ctworker/pipeline"
)

// lease is a message that has been pulled. It implements pipeline.Lease.
type lease struct {
	s              *Source
	id             string
	firstExtension <-chan struct{} // closed when its first extension is over
	expires        time.Time
}

// change is a change of a message's deadline.
type change struct {
	id    string
	after int32 // seconds until it can be pulled again
}

func (l *lease) ExpiresAt() time.Time { return l.expires }

func (l *lease) Ack(ctx context.Context) error {
	return l.s.retry(ctx, "Acknowledge", func() error { return l.s.acks.Do(ctx, l.id) })
}

// Release has it pulled again after the delay, or after ten minutes.
func (l *lease) Release(ctx context.Context, delay time.Duration) error {
	if err := l.awaitFirstExtension(ctx); err != nil {
		return err
	}
	c := change{id: l.id, after: pubsubapi.Seconds(min(delay+time.Second-1, pubsubapi.MaxAckDeadline))}
	return l.s.retry(ctx, "ModifyAckDeadline", func() error { return l.s.releases.Do(ctx, c) })
}

func (l *lease) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	if err := l.awaitFirstExtension(ctx); err != nil {
		return time.Time{}, err
	}
	d = min(d, pubsubapi.MaxAckDeadline).Truncate(time.Second)
	began := time.Now() // the answer may take its time
	err := l.s.retry(ctx, "ModifyAckDeadline", func() error { return l.s.extends.Do(ctx, change{l.id, pubsubapi.Seconds(d)}) })
	return began.Add(d), err
}

// wait waits for the first extension: one that came after what follows would undo it.
func (l *lease) awaitFirstExtension(ctx context.Context) error {
	select {
	case <-l.firstExtension:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// again does what is worth another try until ctx ends.
func (s *Source) retry(ctx context.Context, action string, do func() error) error {
	err := s.clients.Retry(ctx, action, batch.ErrClosed, do)
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, batch.ErrClosed):
		return err
	case pubsubapi.IsAckIDExpired(err):
		return fmt.Errorf("%w: %w", pipeline.ErrLeaseLost, err)
	}
	return fmt.Errorf("%w: %w", pipeline.ErrPermanent, s.queue.DescribeError(action, err))
}

func (s *Source) acknowledge(ctx context.Context, ids []string) []error {
	return s.requestEach(ids, func(ids []string) error {
		ctx, cancel := context.WithTimeout(ctx, pubsubapi.RequestTimeout)
		defer cancel()
		return s.client.Acknowledge(ctx, &pubsubpb.AcknowledgeRequest{Subscription: s.queue.Subscription, AckIds: ids})
	})
}

// modify makes a request for each of the deadlines that are asked for: as a rule one.
func (s *Source) modify(ctx context.Context, changes []change) []error {
	errs := make([]error, len(changes))
	at := map[int32][]int{}
	for i, c := range changes {
		at[c.after] = append(at[c.after], i)
	}
	for after, indexes := range at {
		ids := make([]string, len(indexes))
		for n, i := range indexes {
			ids[n] = changes[i].id
		}
		results := s.requestEach(ids, func(ids []string) error {
			ctx, cancel := context.WithTimeout(ctx, pubsubapi.RequestTimeout)
			defer cancel()
			return s.client.ModifyAckDeadline(ctx, &pubsubpb.ModifyAckDeadlineRequest{Subscription: s.queue.Subscription, AckIds: ids, AckDeadlineSeconds: after})
		})
		for n, i := range indexes {
			errs[i] = results[n]
		}
	}
	return errs
}

// each is what came of each message of a request for all. Where one of them may be why
// all of it was refused, and it is not said which, it makes a request for each half.
func (s *Source) requestEach(ids []string, request func(ids []string) error) []error {
	began := time.Now()
	err := request(ids)
	if err == nil {
		s.poller.ObserveLatency(time.Since(began))
	}
	errs, split := pubsubapi.AckErrors(ids, err)
	if half := len(ids) / 2; split {
		return append(s.requestEach(ids[:half], request), s.requestEach(ids[half:], request)...)
	}
	return errs
}
