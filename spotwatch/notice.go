package spotwatch

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// Kind is the kind of a Notice.
type Kind string

// The kinds of notices.
const (
	// Termination means that the machine will be terminated, stopped or hibernated.
	Termination Kind = "termination"
	// Rebalance means that the risk of a termination has increased.
	Rebalance Kind = "rebalance"
	// Maintenance means that the provider will stop, retire or reboot the machine.
	Maintenance Kind = "maintenance"
)

// A Notice is a message from the provider about this machine.
type Notice struct {
	Kind Kind
	// Action is the provider's term for what it will do to the machine, for example "terminate".
	Action string
	// Deadline is the time at which the provider performs Action. It is zero if the provider does
	// not announce the time.
	Deadline time.Time
	// Source is the metadata category that contained the notice, for example "aws
	// spot/instance-action".
	Source string
}

// A Watcher watches for notices from one provider.
type Watcher interface {
	// Watch calls report once for each notice until ctx is done, and then returns. If the metadata
	// service cannot be used, Watch calls warn once and continues. Watch does not call report and
	// warn concurrently.
	Watch(ctx context.Context, report func(Notice), warn func(error))
}

// Simulated is a Watcher that reports a simulated termination notice.
type Simulated struct {
	// After is the time from the start of Watch to the notice.
	After time.Duration
	// Delay is the time from the notice to its deadline. If it is nil, the notice has no
	// deadline.
	Delay *time.Duration
}

// Watch implements Watcher.
func (s Simulated) Watch(ctx context.Context, report func(Notice), _ func(error)) {
	timer := time.NewTimer(s.After)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return
	}
	n := Notice{Kind: Termination, Action: "terminate", Source: "simulation"}
	if s.Delay != nil {
		n.Deadline = time.Now().Add(*s.Delay)
	}
	report(n)
}

// sleep waits for d. It returns false if ctx is done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// dedup reports each notice once. It treats two notices as equal if they differ only in Deadline, and
// by less than a second.
type dedup struct {
	report func(Notice)
	seen   map[Notice]bool
}

func (r *dedup) reportNew(n Notice) {
	key := n
	key.Deadline = n.Deadline.UTC().Truncate(time.Second)
	if r.seen == nil {
		r.seen = map[Notice]bool{}
	}
	if !r.seen[key] {
		r.seen[key] = true
		r.report(n)
	}
}

// warnOnce reports only the first warning.
type warnOnce struct {
	warn func(error)
	done bool
}

func (c *warnOnce) report(err error) {
	if !c.done {
		c.done = true
		c.warn(err)
	}
}

// statusError is an error for a response whose status is not 200.
type statusError struct {
	path     string
	response *http.Response
}

func (e statusError) Error() string       { return e.path + ": response status " + e.response.Status }
func (e statusError) HTTPStatusCode() int { return e.response.StatusCode }

// statusOf returns the HTTP status of the response that caused err, or 0 if there was no response.
func statusOf(err error) int {
	var answer interface{ HTTPStatusCode() int }
	if errors.As(err, &answer) {
		return answer.HTTPStatusCode()
	}
	return 0
}
