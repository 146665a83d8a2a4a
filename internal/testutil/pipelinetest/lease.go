package pipelinetest

import (
	"context"
	"time"

	"github.com/ctworker/ctworker/pipeline"
)

// A Lease records the acknowledgment and the release of its task. Unless Local is set, Extend reports
// that the lease is lost.
type Lease struct {
	Rec    *Recorder
	ID     string
	Local  bool            // the lease never expires
	Expiry time.Time       // when the lease expires; the zero time means in the far future
	AckErr error           // returned by Ack and Release after the request was recorded
	Hang   <-chan struct{} // if set, Ack blocks until Hang is closed
}

// Ack implements pipeline.Lease.
func (l Lease) Ack(ctx context.Context) error {
	if l.Hang != nil {
		select {
		case <-l.Hang:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l.Rec.settled(&l.Rec.acked, l.ID, "ack %s", l.ID)
	return l.AckErr
}

// Release implements pipeline.Lease.
func (l Lease) Release(ctx context.Context, delay time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	l.Rec.settled(&l.Rec.released, l.ID, "release %s %v", l.ID, delay)
	return l.AckErr
}

// Extend implements pipeline.Lease.
func (l Lease) Extend(context.Context, time.Duration) (time.Time, error) {
	if l.Local {
		return time.Time{}, nil
	}
	return time.Time{}, pipeline.ErrLeaseLost
}

// ExpiresAt implements pipeline.Lease.
func (l Lease) ExpiresAt() time.Time {
	switch {
	case l.Local:
		return time.Time{}
	case l.Expiry.IsZero():
		return time.Unix(1<<40, 0)
	}
	return l.Expiry
}

// A FuncLease calls functions. If the function of a request is nil, the request succeeds.
type FuncLease struct {
	Expiry    time.Time // when the lease expires; the zero time means never
	OnAck     func(ctx context.Context) error
	OnRelease func(ctx context.Context, delay time.Duration) error
	OnExtend  func(ctx context.Context, d time.Duration) error
}

// Ack implements pipeline.Lease.
func (l FuncLease) Ack(ctx context.Context) error {
	if l.OnAck == nil {
		return nil
	}
	return l.OnAck(ctx)
}

// Release implements pipeline.Lease.
func (l FuncLease) Release(ctx context.Context, delay time.Duration) error {
	if l.OnRelease == nil {
		return nil
	}
	return l.OnRelease(ctx, delay)
}

// Extend implements pipeline.Lease.
func (l FuncLease) Extend(ctx context.Context, d time.Duration) (time.Time, error) {
	if l.OnExtend != nil {
		if err := l.OnExtend(ctx, d); err != nil {
			return time.Time{}, err
		}
	}
	return time.Now().Add(d), nil
}

// ExpiresAt implements pipeline.Lease.
func (l FuncLease) ExpiresAt() time.Time { return l.Expiry }
