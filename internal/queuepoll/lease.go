package queuepoll

import (
	"time"

	"github.com/ctworker/ctworker/internal/boottime"
)

// A lease begins when the server hands a message to a request. The client knows only that
// this is after it has sent the request and before it has the answer, which may be long
// apart: this process may be stopped, or the machine suspended, with an answer in its
// socket. So a lease is counted from the request, and a request waits for a small part of
// a lease only, so that most of the lease is left when a message comes at the end of it.

// leaseShare is the part of a lease that a request may wait for a message.
const waitsPerLease = 3

// MaxWait is how long a request waits for a message at most if it is to wait no longer
// than wait, and a message is held for lease at first: a third of the lease, and at least
// 1 s.
func MaxWait(wait, lease time.Duration) time.Duration {
	return min(wait, max((lease/waitsPerLease).Truncate(time.Second), minWait))
}

// Expires is when the lease on a message ends, at the earliest, that came with the answer
// to a request sent at sent, by package boottime. It is a time of package time.
func ExpiresAt(sent time.Time, lease time.Duration) time.Time {
	now := time.Now()
	return now.Add(lease - boottime.Now().Sub(sent))
}
