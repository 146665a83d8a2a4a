package taskproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// newRingPair returns a connection with a ring, the process's side of the ring, and the
// process's end of the socket.
func newRingPair(t *testing.T) (*EngineConn, *Ring, int) {
	t.Helper()
	s, fds, err := NewEngineConn(1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := s.OpenRing()
	if err != nil {
		t.Fatal(err)
	}
	childFD := fds.Socket
	dup, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	unixfd.Close(fd)
	w, err := OpenRing(dup, childFD)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); w.shared.close() })
	return s, w, childFD
}

// All written data arrives once and in order, for any length of the lines and any speed of ctworker
// and the process. Neither of them blocks forever.
func TestRing_PassesLinesInOrder(t *testing.T) {
	t.Parallel()
	for _, pace := range []string{"maximum speed", "slow writer", "slow reader"} {
		t.Run(pace, func(t *testing.T) {
			t.Parallel()
			s, w, childFD := newRingPair(t)
			const n = 30_000
			text := func(i int) []byte {
				size := i % 50
				if i%1000 == 0 {
					size = 3 * ringSize // more than there is room for
				}
				return append(fmt.Appendf(nil, "%d ", i), bytes.Repeat([]byte{byte('a' + i%26)}, size)...)
			}
			var both sync.WaitGroup
			both.Go(func() {
				defer unixfd.Close(childFD)
				for i := range n {
					if pace == "slow writer" && rand.IntN(100) == 0 {
						pause()
					}
					if err := w.Write(append(text(i), '\n')); err != nil {
						t.Errorf("line %d: %v", i, err)
						return
					}
				}
			})
			for i := range n {
				if pace == "slow reader" && rand.IntN(100) == 0 {
					pause()
				}
				line, err := s.Next()
				if err != nil || !bytes.Equal(line, text(i)) {
					t.Fatalf("line %d: %.60q, error %v", i, line, err)
				}
			}
			if line, err := s.Next(); !errors.Is(err, io.EOF) || len(line) > 0 {
				t.Errorf("after the last line: %q, error %v", line, err)
			}
			both.Wait()
		})
	}
}

// pause waits long enough for the other side to block.
func pause() {
	timer := time.NewTimer(200 * time.Microsecond)
	<-timer.C
}

// ctworker reads all data that a process wrote before it died, including an incomplete last line.
func TestRing_OutlivesProcess(t *testing.T) {
	t.Parallel()
	s, w, childFD := newRingPair(t)
	if err := w.Write([]byte("one\ntwo\nthr")); err != nil {
		t.Fatal(err)
	}
	unixfd.Close(childFD)
	for _, want := range []string{"one", "two"} {
		if line, err := s.Next(); err != nil || string(line) != want {
			t.Errorf("%q, error %v, want %q", line, err, want)
		}
	}
	if line, err := s.Next(); !errors.Is(err, io.EOF) || string(line) != "thr" {
		t.Errorf("%q, error %v, want an incomplete line and io.EOF", line, err)
	}
}

// A process that waits for room notices that ctworker has exited.
func TestRing_WriteFailsWithoutReader(t *testing.T) {
	t.Parallel()
	s, w, _ := newRingPair(t)
	full := make(chan error, 1)
	go func() { full <- w.Write(make([]byte, 2*ringSize)) }()
	_ = s.socket.f.Close()
	if err := <-full; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
}

// ctworker accepts replies over the socket if the process has not used the ring. It detects an
// invalid write position in the ring.
func TestRing_DetectsInvalidPositions(t *testing.T) {
	t.Parallel()
	s, w, childFD := newRingPair(t)
	if _, err := syscall.Write(childFD, []byte("over the socket\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := s.Next(); err != nil || string(line) != "over the socket" {
		t.Errorf("%q, error %v", line, err)
	}
	for _, invalid := range []uint64{ringSize + 1, 1 << 63, ^uint64(0)} {
		w.shared.head.writePos.Store(invalid)
		if line, err := s.Next(); !errors.Is(err, ErrCorruptRing) {
			t.Errorf("write position %d: %q, error %v", invalid, line, err)
		}
	}
	// An invalid read position has no effect, because ctworker keeps its own copy.
	w.shared.head.writePos.Store(4)
	w.shared.head.readPos.Store(1 << 60)
	copy(w.shared.data, "abc\n")
	if line, err := s.Next(); err != nil || string(line) != "abc" {
		t.Errorf("%q, error %v", line, err)
	}
}

// A process cannot resize the memory. If it could shrink the memory, ctworker could be killed by
// SIGBUS.
func TestRing_CannotBeResized(t *testing.T) {
	t.Parallel()
	r, fd, err := newEngineRing()
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	f := os.NewFile(uintptr(fd), "ring")
	defer func() { _ = f.Close() }()
	for _, size := range []int64{0, ringHeadSize, 1 << 20} {
		if err := f.Truncate(size); !errors.Is(err, os.ErrPermission) {
			t.Errorf("resize to %d bytes: error %v", size, err)
		}
	}
}

// Each permit is used once: either the process claims it, or ctworker takes it back.
func TestRing_PermitsAreUsedOnce(t *testing.T) {
	t.Parallel()
	s, w, _ := newRingPair(t)
	s.OnReady(Ready{Ring: true})
	const n = 10_000
	var both sync.WaitGroup
	claimed, revoked := 0, 0
	both.Go(func() {
		for range 4 * n {
			if w.Claim() {
				claimed++
			}
		}
	})
	both.Go(func() {
		for i := range n {
			s.AddPermits(1)
			if i%7 == 0 {
				revoked += s.Revoke(3)
			}
		}
	})
	both.Wait()
	remaining := s.Revoke(n)
	if claimed+revoked+remaining != n || w.Claim() {
		t.Errorf("%d permits claimed, %d revoked and %d remaining, want %d in total", claimed, revoked, remaining, n)
	}
	w.shared.head.permits.Store(-5)
	if s.Revoke(3) != 0 || w.Claim() {
		t.Error("claimed a permit although their number is negative")
	}
}
