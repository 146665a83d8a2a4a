//go:build !linux

package taskproto

import "errors"

// engineRing does not exist on this system: replies arrive over the socket, and permits are in
// the pipe.
type engineRing struct{}

func newEngineRing() (*engineRing, int, error) { return nil, -1, nil }

func (*engineRing) inUse() bool              { return false }
func (*engineRing) read([]byte) (int, error) { return 0, nil }
func (*engineRing) prepareWait() bool        { return true }
func (*engineRing) endWait()                 {}
func (*engineRing) addPermits(int)           {}
func (*engineRing) unclaimed() int           { return 0 }
func (*engineRing) claim(int) int            { return 0 }
func (*engineRing) close()                   {}

// A Ring is a worker process's side of the shared ring (Linux only). See docs/protocol.md.
type Ring struct{}

// OpenRing returns an error on this system.
func OpenRing(int, int) (*Ring, error) {
	return nil, errors.New("the shared ring is supported only on Linux")
}

// Claim reports whether this process may run the next task.
func (*Ring) Claim() bool { return false }

// Write returns an error on this system.
func (*Ring) Write([]byte) error { return errors.New("the shared ring is supported only on Linux") }
