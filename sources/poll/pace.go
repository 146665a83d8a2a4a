package poll

import (
	"math/rand/v2"
	"time"
)

// leastWait is the shortest time that a request is asked to wait for a message.
const leastWait = time.Second

// firstPause is the pause after the first answer that was empty and early.
const firstPause = 250 * time.Millisecond

// pace is when the next request is made. Most servers keep an empty answer back for as long
// as they were asked to; one that does not must not be asked hundreds of times a second.
// After an early empty answer the pause is short, so that a message that has just
// arrived is not kept waiting, and it doubles with each further one up to the wait that was
// asked for. The owner of the Poller's mutex owns it.
type pace struct {
	early  int       // how many answers in a row have been empty and early
	next   time.Time // no request before
	looked time.Time // when the last answer came that had no message
}

// answered enters an answer with n messages, which came that much before the wait that was
// asked for was over.
func (p *pace) answered(now time.Time, early time.Duration, n int) {
	if n > 0 {
		p.early, p.next = 0, time.Time{}
		return
	}
	p.looked = now
	if early <= 0 {
		p.early = 0
		return
	}
	if now.Before(p.next) { // another request that was under way at the same time
		return
	}
	pause := min(firstPause<<min(p.early, 20), early)
	p.early++
	p.next = now.Add(pause*3/4 + rand.N(pause/2+1))
}

// until returns how long to wait before the next request, if no other one ends earlier: 0
// is to make it now. left is the time after which there has been nothing to do for long
// enough, and running how many requests are under way. idle says that this is so: a recent
// answer has shown that the queue is empty.
func (p *pace) until(now time.Time, left time.Duration, running int) (pause time.Duration, idle bool) {
	recent := now.Add(left).Sub(p.looked) // how old the last answer will be, or was
	switch {
	case left <= 0 && running > 0: // its answer decides
		return leastWait, false
	case left <= 0 && recent < leastWait:
		return 0, true
	case left <= 0: // look once more
		return 0, false
	case left < leastWait && recent < leastWait: // a request would outlast the end
		return left, false
	}
	return min(p.next.Sub(now), left), false
}
