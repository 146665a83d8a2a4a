package spotwatch

import (
	"context"
	"time"
)

// Kind is what sort of notice it is.
type Kind string

// The kinds of notices.
const (
	// Termination: the machine will be taken away, stopped or hibernated.
	Termination Kind = "termination"
	// Rebalance: it is more likely than before that it will be.
	Rebalance Kind = "rebalance"
	// Maintenance: the provider will stop, retire or reboot the machine.
	Maintenance Kind = "maintenance"
)

// A Notice is what a provider has said of this machine.
type Notice struct {
	Kind Kind
	// Action is what will be done to the machine, in the provider's own word, such as
	// terminate.
	Action string
	// Deadline is when; zero where the provider does not say.
	Deadline time.Time
	// Source is where the provider says so, such as "aws spot/instance-action".
	Source string
}

// A Watcher reports notices.
type Watcher interface {
	// Watch reports each notice once, from one goroutine, until ctx ends. What goes wrong
	// meanwhile it tells once, in words.
	Watch(ctx context.Context, report func(Notice), warn func(text string))
}

// Simulated makes up a notice.
type Simulated struct {
	// After is how long after the start of Watch it comes.
	After time.Duration
	// Delay is how long after it the machine is taken away; nil is never.
	Delay *time.Duration
}

// Watch implements Watcher.
func (s Simulated) Watch(ctx context.Context, report func(Notice), _ func(string)) {
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

// sleep waits for d, or until ctx ends; then it reports false.
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

// reporter reports a notice once.
type dedup struct {
	report func(Notice)
	seen   map[Notice]bool
}

func (r *dedup) reportChange(n Notice) {
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

// complaint tells once what is wrong.
type warnOnce struct {
	warn func(string)
	said bool
}

func (c *warnOnce) once(text string) {
	if !c.said {
		c.said = true
		c.warn(text)
	}
}
