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
	firstExtension <-chan struct{} // closed when the request of extendFirst has ended
	expires        time.Time
}

// change is a change of the ack deadline of a message.
type change struct {
	id    string
	after int32 // seconds until the message can be pulled again
}

func (l *lease) ExpiresAt() time.Time { return l.expires }

func (l *lease) Ack(ctx context.Context) error {
	return l.s.retry(ctx, "Acknowledge", func() error { return l.s.acks.Do(ctx, l.id) })
}

// Release makes the message available again after delay or ten minutes, whichever is shorter.
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
	began := time.Now() // the lease counts from before the request, because the response may be slow
	err := l.s.retry(ctx, "ModifyAckDeadline", func() error { return l.s.extends.Do(ctx, change{l.id, pubsubapi.Seconds(d)}) })
	return began.Add(d), err
}

// awaitFirstExtension waits for the end of the request that extendFirst has sent. If that request
// arrived after a later change of the deadline, it would undo the change.
func (l *lease) awaitFirstExtension(ctx context.Context) error {
	select {
	case <-l.firstExtension:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retry calls do, and retries transient errors until ctx ends. A lost lease is returned as
// ErrLeaseLost, and any other permanent error as ErrPermanent.
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

// modify sends one request per distinct deadline in changes. Usually, all changes have the same
// deadline.
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

// requestEach sends a request with all ids, and returns one error per id. If Pub/Sub rejects the
// request because of one id but does not name the id, requestEach sends one request for each half of
// the ids.
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
