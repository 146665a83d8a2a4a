package procexec

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
)

// bothEnds are a session with a ring and the process's side of it, in one process.
func bothEnds(t *testing.T) (*conn, *Ring, int) {
	t.Helper()
	s, childFD, _, err := socketPair(1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	r, fd, err := newEngineRing()
	if err != nil {
		t.Fatal(err)
	}
	s.ring = r
	dup, err := syscall.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	closeFD(fd)
	w, err := OpenRing(dup, childFD)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close(); w.shared.close() })
	return s, w, childFD
}

// Whatever is written comes, once and in order, however long the lines are and whoever
// waits for whom; and nobody waits for ever.
func TestRingCarries(t *testing.T) {
	t.Parallel()
	for _, pace := range []string{"as fast as can be", "slow writer", "slow reader"} {
		t.Run(pace, func(t *testing.T) {
			t.Parallel()
			s, w, childFD := bothEnds(t)
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
				defer closeFD(childFD)
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
				line, err := s.next()
				if err != nil || !bytes.Equal(line, text(i)) {
					t.Fatalf("line %d: %.60q, error %v", i, line, err)
				}
			}
			if line, err := s.next(); !errors.Is(err, io.EOF) || len(line) > 0 {
				t.Errorf("after the last line: %q, error %v", line, err)
			}
			both.Wait()
		})
	}
}

// pause is a moment in which the other side comes to its end.
func pause() {
	timer := time.NewTimer(200 * time.Microsecond)
	<-timer.C
}

// What a process has said before it died is read, and so is the half of a line.
func TestRingOutlivesProcess(t *testing.T) {
	t.Parallel()
	s, w, childFD := bothEnds(t)
	if err := w.Write([]byte("one\ntwo\nthr")); err != nil {
		t.Fatal(err)
	}
	closeFD(childFD)
	for _, want := range []string{"one", "two"} {
		if line, err := s.next(); err != nil || string(line) != want {
			t.Errorf("%q, error %v, want %q", line, err, want)
		}
	}
	if line, err := s.next(); !errors.Is(err, io.EOF) || string(line) != "thr" {
		t.Errorf("%q, error %v, want a half and the end", line, err)
	}
}

// A process that waits for room notices that ctworker is gone.
func TestRingWithoutReader(t *testing.T) {
	t.Parallel()
	s, w, _ := bothEnds(t)
	full := make(chan error, 1)
	go func() { full <- w.Write(make([]byte, 2*ringSize)) }()
	_ = s.f.Close()
	if err := <-full; !errors.Is(err, syscall.EPIPE) {
		t.Errorf("error %v", err)
	}
}

// Processes that speak another protocol, or lie, are told apart.
func TestRingUnusedAndSpoiled(t *testing.T) {
	t.Parallel()
	s, w, childFD := bothEnds(t)
	if _, err := syscall.Write(childFD, []byte("over the socket\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := s.next(); err != nil || string(line) != "over the socket" {
		t.Errorf("%q, error %v", line, err)
	}
	for _, lie := range []uint64{ringSize + 1, 1 << 63, ^uint64(0)} {
		w.shared.head.writePos.Store(lie)
		if line, err := s.next(); !errors.Is(err, errCorruptRing) {
			t.Errorf("%d bytes written: %q, error %v", lie, line, err)
		}
	}
	// Words that are ctworker's own are of no use to a liar.
	w.shared.head.writePos.Store(4)
	w.shared.head.readPos.Store(1 << 60)
	copy(w.shared.data, "abc\n")
	if line, err := s.next(); err != nil || string(line) != "abc" {
		t.Errorf("%q, error %v", line, err)
	}
}

// A process cannot make the memory smaller, which would end ctworker.
func TestRingIsSealed(t *testing.T) {
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
			t.Errorf("to %d bytes: error %v", size, err)
		}
	}
}

// Each claim is given out once, by whoever takes it.
func TestRingClaims(t *testing.T) {
	t.Parallel()
	s, w, _ := bothEnds(t)
	s.ringActive = true
	const n = 10_000
	var both sync.WaitGroup
	claimed, back := 0, 0
	both.Go(func() {
		for range 4 * n {
			if w.Claim() {
				claimed++
			}
		}
	})
	both.Go(func() {
		for i := range n {
			s.addPermits(1)
			if i%7 == 0 {
				back += s.revoke(3)
			}
		}
	})
	both.Wait()
	left := s.revoke(n)
	if claimed+back+left != n || w.Claim() {
		t.Errorf("%d claimed, %d taken back and %d left of %d", claimed, back, left, n)
	}
	w.shared.head.permits.Store(-5)
	if s.revoke(3) != 0 || w.Claim() {
		t.Error("fewer than no claims are some")
	}
}
