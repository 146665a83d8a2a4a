package queuepoll

import (
	"math/rand/v2"
	"time"
)

// minWait is the minimum time that a request waits for a message.
const minWait = time.Second

// firstPause is the pause after the first early empty answer.
const firstPause = 250 * time.Millisecond

// pace determines when the next request is sent. Most servers send an empty answer only when the
// requested wait is over. Some servers answer early, and must not get hundreds of requests per second.
// The pause after the first early empty answer is short, so that a new message is received soon. Each
// further early empty answer doubles the pause, up to the rest of the requested wait. The mutex of the
// Poller guards a pace.
type pace struct {
	early     int       // number of consecutive early empty answers
	next      time.Time // earliest time of the next request
	lastEmpty time.Time // time of the last empty answer
}

// record records an answer with n messages. early is the time between the arrival of the answer and
// the end of the requested wait.
func (p *pace) record(now time.Time, early time.Duration, n int) {
	if n > 0 {
		p.early, p.next = 0, time.Time{}
		return
	}
	p.lastEmpty = now
	if early <= 0 {
		p.early = 0
		return
	}
	if now.Before(p.next) { // a concurrent request has already set the pause
		return
	}
	pause := min(firstPause<<min(p.early, 20), early)
	p.early++
	p.next = now.Add(pause*3/4 + rand.N(pause/2+1))
}

// until returns the pause before the next request. If the request can be sent now, the pause is 0 or
// negative. When another request ends, the caller should request a new pause. left is the time until the
// idle timeout, and running is the number of open requests. idle reports that the idle timeout has
// passed, and that a recent answer has shown that the queue is empty.
func (p *pace) until(now time.Time, left time.Duration, running int) (pause time.Duration, idle bool) {
	recent := now.Add(left).Sub(p.lastEmpty) // age of the last empty answer at the idle timeout
	switch {
	case left <= 0 && running > 0: // wait for the open request
		return minWait, false
	case left <= 0 && recent < minWait:
		return 0, true
	case left <= 0: // check again that the queue is empty
		return 0, false
	case left < minWait && recent < minWait: // a request would outlast the idle timeout
		return left, false
	}
	return min(p.next.Sub(now), left), false
}
