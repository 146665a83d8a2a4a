package taskproto

import "errors"

// ErrCorruptRing is returned if the process stored an invalid write position in the ring.
var ErrCorruptRing = errors.New("corrupt shared ring: the process stored an invalid write position (CTWORKER_RING_FD)")

// ringReader reads replies from the ring. Until the process has written to the ring, it also reads
// replies from the socket. After that, data on the socket only wakes ctworker.
type ringReader struct {
	ring   *engineRing
	socket *socket
}

// Read implements inbound.
func (r *ringReader) Read(room []byte) (int, error) {
	for {
		if n, err := r.ring.read(room); n > 0 || err != nil {
			return n, err
		}
		// prepareWait notifies the process that this side waits on the socket.
		if r.ring.prepareWait() {
			break
		}
	}
	n, err := r.socket.Read(room)
	r.ring.endWait()
	if !r.ring.inUse() {
		return n, err
	}
	// First return the replies that the process wrote to the ring before it exited, and only then
	// the end of the socket.
	if replies, ringErr := r.ring.read(room); replies > 0 || ringErr != nil {
		return replies, ringErr
	}
	if n > 0 {
		return 0, nil
	}
	return n, err
}

// ringPermits are permits in the ring.
type ringPermits struct{ ring *engineRing }

func (p ringPermits) add(n int)      { p.ring.addPermits(n) }
func (p ringPermits) count() int     { return p.ring.unclaimed() }
func (p ringPermits) take(n int) int { return p.ring.claim(n) }
func (p ringPermits) close()         {} // the EngineConn closes the ring
