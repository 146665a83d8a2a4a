package queuepoll

import (
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
)

// A lease starts when the server assigns a message to a request. The client knows only that this
// happens after it has sent the request, and before it reads the response. The time between these
// two events can be long: while the response is in the socket buffer, the process may be stopped, or
// the machine suspended. Therefore this package counts a lease from the time at which the request was
// sent. A request waits for at most a third of the lease duration, so that most of the lease remains
// when a message arrives late.

// waitsPerLease is the lease duration divided by the maximum time that a request waits.
const waitsPerLease = 3

// MaxWait returns wait, the time that a request waits for a message, limited to a third of the lease
// duration or 1 s, whichever is longer.
func MaxWait(wait, lease time.Duration) time.Duration {
	return min(wait, max((lease/waitsPerLease).Truncate(time.Second), minWait))
}

// ExpiresAt returns the earliest time at which a lease can expire. sent is the time at which the
// request was sent, on the clock of package boottime. The result is on the clock of
// time.Now.
func ExpiresAt(sent time.Time, lease time.Duration) time.Time {
	now := time.Now()
	return now.Add(lease - boottime.Now().Sub(sent))
}
