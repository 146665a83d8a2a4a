//go:build !linux

package procexec

import "errors"

// ring is not there on this system: replies go over the socket, and claims over the pipe.
type ring struct{}

func newRing() (*ring, int, error) { return nil, -1, nil }

func (*ring) used() bool               { return false }
func (*ring) read([]byte) (int, error) { return 0, nil }
func (*ring) sleep() bool              { return true }
func (*ring) awake()                   {}
func (*ring) grant(int)                {}
func (*ring) unclaimed() int           { return 0 }
func (*ring) claim(int) int            { return 0 }
func (*ring) close()                   {}

// A Ring is a worker process's side of the memory that it shares with ctworker (Linux);
// see docs/protocol.md.
type Ring struct{}

// OpenRing returns an error on this system.
func OpenRing(int, int) (*Ring, error) { return nil, errors.New("no memory is shared on this system") }

// Claim reports whether the next task is this process's to run.
func (*Ring) Claim() bool { return false }

// Write leaves b to be read.
func (*Ring) Write([]byte) error { return errors.New("no memory is shared on this system") }
