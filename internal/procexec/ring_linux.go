package procexec

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ring is memory that ctworker shares with one worker process, in which the process
// leaves its replies, and claims its tasks: what would be two system calls a task is
// none. It outlives the process, so that what has been said before a crash is there to
// be read, as with a socket. docs/protocol.md has the layout, which is that of ringHead.
//
// Nothing in it is trusted: what the process writes is copied before it is looked at,
// and its length is checked against what ctworker knows itself.
const (
	ringHeadSize = 4096
	ringSize     = 16 << 10 // of the bytes; a power of two
)

// ringHead stands at the beginning of the memory. Each of the two sides' words has a
// cache line to itself.
type ringHead struct {
	// written counts the bytes that the process has written, taken those that ctworker
	// has taken.
	written atomic.Uint64
	_       [56]byte
	taken   atomic.Uint64
	_       [56]byte
	// asleep is 1 while ctworker waits at the socket: the process makes it 0 after
	// writing, and sends a byte over the socket if it was 1.
	asleep atomic.Uint32
	_      [60]byte
	// full is 1 while the process waits for room, with futex(2) on it: ctworker makes it 0
	// after taking and wakes the process.
	full atomic.Uint32
	_    [60]byte
	// claims is how many tasks may be claimed: each side takes from it by compare-and-swap.
	claims atomic.Int32
}

// sharedRing is one side's view.
type sharedRing struct {
	mem  []byte
	head *ringHead
	data []byte
}

func mapRing(fd int) (*sharedRing, error) {
	mem, err := unix.Mmap(fd, 0, ringHeadSize+ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &sharedRing{mem: mem, head: (*ringHead)(unsafe.Pointer(&mem[0])), data: mem[ringHeadSize:]}, nil
}

func (r *sharedRing) close() { _ = unix.Munmap(r.mem) }

// claim takes up to n claims.
func (r *sharedRing) claim(n int) int {
	for {
		have := r.head.claims.Load()
		got := min(int32(n), have)
		if got <= 0 {
			return 0
		}
		if r.head.claims.CompareAndSwap(have, have-got) {
			return int(got)
		}
	}
}

// ring is ctworker's side. Its reader is the one goroutine that reads of the session.
type ring struct {
	*sharedRing
	taken uint64 // of what ctworker alone knows
}

// newRing returns a ring and the descriptor for the process, which the caller closes.
func newRing() (*ring, int, error) {
	fd, err := unix.MemfdCreate("ctworker-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, os.NewSyscallError("memfd_create", err)
	}
	shared, err := func() (*sharedRing, error) {
		if err := unix.Ftruncate(fd, ringHeadSize+ringSize); err != nil {
			return nil, os.NewSyscallError("ftruncate", err)
		}
		// A process that made it smaller would have ctworker end by SIGBUS.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
		return mapRing(fd)
	}()
	if err != nil {
		closeFD(fd)
		return nil, -1, err
	}
	return &ring{sharedRing: shared}, fd, nil
}

// used reports whether the process has written anything yet: then what comes over the
// socket only wakes.
func (r *ring) used() bool { return r.head.written.Load() > 0 }

// read copies what there is into b, without waiting.
func (r *ring) read(b []byte) (int, error) {
	have := r.head.written.Load() - r.taken
	if have > ringSize {
		return 0, errCorruptRing
	}
	n := min(int(have), len(b))
	from := int(r.taken % ringSize)
	first := copy(b[:n], r.data[from:])
	copy(b[first:n], r.data)
	if n > 0 {
		r.taken += uint64(n)
		r.head.taken.Store(r.taken)
		if r.head.full.CompareAndSwap(1, 0) {
			futexWake(&r.head.full)
		}
	}
	return n, nil
}

// sleep says that ctworker is about to wait at the socket. It reports false if there is
// something to read after all.
func (r *ring) sleep() bool {
	r.head.asleep.Store(1)
	if r.head.written.Load() == r.taken {
		return true
	}
	r.head.asleep.Store(0)
	return false
}

func (r *ring) awake() { r.head.asleep.Store(0) }

func (r *ring) grant(n int) { r.head.claims.Add(int32(n)) }

// unclaimed returns the number of tasks that have been sent and not been claimed.
func (r *ring) unclaimed() int { return int(r.head.claims.Load()) }

// A Ring is a worker process's side of the memory that it shares with ctworker; see
// docs/protocol.md. One goroutine writes; any may claim.
type Ring struct {
	shared  *sharedRing
	written uint64
	socket  int
}

// OpenRing maps the memory of a descriptor, which it closes; socket is the one to
// ctworker.
func OpenRing(fd, socket int) (*Ring, error) {
	defer closeFD(fd)
	shared, err := mapRing(fd)
	if err != nil {
		return nil, err
	}
	return &Ring{shared: shared, socket: socket}, nil
}

// Claim reports whether the next task is this process's to run.
func (r *Ring) Claim() bool { return r.shared.claim(1) == 1 }

// ringPatience is how long at most a process waits before it looks whether ctworker
// is still there.
const ringPatience = 100 * time.Millisecond

// Write leaves b to be read, and waits where there is no room. An error says that
// ctworker is gone.
func (r *Ring) Write(b []byte) error {
	head := r.shared.head
	for len(b) > 0 {
		room := ringSize - int(r.written-head.taken.Load())
		if room <= 0 {
			if err := r.await(); err != nil {
				return err
			}
			continue
		}
		n := min(room, len(b))
		from := int(r.written % ringSize)
		first := copy(r.shared.data[from:], b[:n])
		copy(r.shared.data, b[first:n])
		b = b[n:]
		r.written += uint64(n)
		head.written.Store(r.written)
		if head.asleep.CompareAndSwap(1, 0) {
			if err := r.wake(); err != nil {
				return err
			}
		}
	}
	return nil
}

// wake sends the byte that ends ctworker's waiting.
func (r *Ring) wake() error {
	for {
		_, err := syscall.Write(r.socket, []byte{'\n'})
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// await waits until ctworker has taken something.
func (r *Ring) await() error {
	head := r.shared.head
	head.full.Store(1)
	if int(r.written-head.taken.Load()) < ringSize {
		head.full.Store(0)
		return nil
	}
	futexWait(&head.full, 1, ringPatience)
	fds := []unix.PollFd{{Fd: int32(r.socket), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		return syscall.EPIPE
	}
	return nil
}

// The operations of futex(2), on memory that processes share.
const (
	futexOpWait = 0
	futexOpWake = 1
)

func futexWait(word *atomic.Uint32, while uint32, grace time.Duration) {
	limit := unix.NsecToTimespec(grace.Nanoseconds())
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWait, uintptr(while), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

func futexWake(word *atomic.Uint32) {
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWake, 1, 0, 0, 0)
}
