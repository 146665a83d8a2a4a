package taskproto

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// The ring is memory that ctworker shares with one worker process. The process writes its replies
// into it and takes permits from it, which saves two system calls per task. The ring outlives the
// process, so the replies that the process wrote before a crash can still be read, as with a
// socket. docs/protocol.md specifies the layout; ringHead implements it.
//
// Nothing in the ring is trusted: data is copied before it is parsed, and the write position
// is checked against the read position that ctworker keeps in its own memory.
const (
	ringHeadSize = 4096
	ringSize     = 16 << 10 // size of the data; a power of two
)

// ringHead is the header at the start of the memory. Padding places each word in its own cache
// line, because ctworker and the process write different words.
type ringHead struct {
	// writePos is the number of bytes that the process has written. readPos is the number of bytes
	// that ctworker has read.
	writePos atomic.Uint64
	_        [56]byte
	readPos  atomic.Uint64
	_        [56]byte
	// readerWaiting is 1 while ctworker waits for data on the socket. If it is 1 after a write of
	// the process, the process sets it to 0 and sends a byte over the socket.
	readerWaiting atomic.Uint32
	_             [60]byte
	// writerWaiting is 1 while the process waits for room, with futex(2) on this word. After a
	// read, ctworker sets it to 0 and wakes the process.
	writerWaiting atomic.Uint32
	_             [60]byte
	// permits is the number of tasks that may be claimed. Both sides decrease it with
	// compare-and-swap.
	permits atomic.Int32
}

// shmRing is a mapping of the ring.
type shmRing struct {
	mem  []byte
	head *ringHead
	data []byte
}

func mapRing(fd int) (*shmRing, error) {
	mem, err := unix.Mmap(fd, 0, ringHeadSize+ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &shmRing{mem: mem, head: (*ringHead)(unsafe.Pointer(&mem[0])), data: mem[ringHeadSize:]}, nil
}

func (r *shmRing) close() { _ = unix.Munmap(r.mem) }

// claim takes up to n permits and returns how many it got.
func (r *shmRing) claim(n int) int {
	for {
		have := r.head.permits.Load()
		got := min(int32(n), have)
		if got <= 0 {
			return 0
		}
		if r.head.permits.CompareAndSwap(have, have-got) {
			return int(got)
		}
	}
}

// engineRing is ctworker's side of the ring. Only the goroutine that reads from the connection may
// use it, but any goroutine may use the permits.
type engineRing struct {
	*shmRing
	readPos uint64 // copy of head.readPos that the process cannot change
}

// newEngineRing returns a ring and its descriptor for the process. The caller must close the
// descriptor.
func newEngineRing() (*engineRing, int, error) {
	fd, err := unix.MemfdCreate("ctworker-ring", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, os.NewSyscallError("memfd_create", err)
	}
	shared, err := func() (*shmRing, error) {
		if err := unix.Ftruncate(fd, ringHeadSize+ringSize); err != nil {
			return nil, os.NewSyscallError("ftruncate", err)
		}
		// If a process could shrink the file, ctworker would be killed by SIGBUS.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
			return nil, os.NewSyscallError("fcntl", err)
		}
		return mapRing(fd)
	}()
	if err != nil {
		unixfd.Close(fd)
		return nil, -1, err
	}
	return &engineRing{shmRing: shared}, fd, nil
}

// inUse reports whether the process has written to the ring. After the first write, data on the
// socket only wakes ctworker.
func (r *engineRing) inUse() bool { return r.head.writePos.Load() > 0 }

// read copies available data into b, without blocking.
func (r *engineRing) read(b []byte) (int, error) {
	have := r.head.writePos.Load() - r.readPos
	if have > ringSize {
		return 0, ErrCorruptRing
	}
	n := min(int(have), len(b))
	from := int(r.readPos % ringSize)
	first := copy(b[:n], r.data[from:])
	copy(b[first:n], r.data)
	if n > 0 {
		r.readPos += uint64(n)
		r.head.readPos.Store(r.readPos)
		if r.head.writerWaiting.CompareAndSwap(1, 0) {
			futexWake(&r.head.writerWaiting)
		}
	}
	return n, nil
}

// prepareWait announces that ctworker is about to wait for data on the socket. It returns false
// if there is data to read.
func (r *engineRing) prepareWait() bool {
	r.head.readerWaiting.Store(1)
	if r.head.writePos.Load() == r.readPos {
		return true
	}
	r.head.readerWaiting.Store(0)
	return false
}

func (r *engineRing) endWait() { r.head.readerWaiting.Store(0) }

func (r *engineRing) addPermits(n int) { r.head.permits.Add(int32(n)) }

// unclaimed returns the number of tasks that were sent and not claimed.
func (r *engineRing) unclaimed() int { return int(r.head.permits.Load()) }

// A Ring is a worker process's side of the shared ring. See docs/protocol.md. One goroutine may
// write; Claim is safe for concurrent use.
type Ring struct {
	shared   *shmRing
	writePos uint64
	socket   int
}

// OpenRing maps the memory of the descriptor fd, and closes fd. socket is the socket to
// ctworker.
func OpenRing(fd, socket int) (*Ring, error) {
	defer unixfd.Close(fd)
	shared, err := mapRing(fd)
	if err != nil {
		return nil, err
	}
	return &Ring{shared: shared, socket: socket}, nil
}

// Claim reports whether this process may run the next task.
func (r *Ring) Claim() bool { return r.shared.claim(1) == 1 }

// writerPollInterval is how often a process that waits for room checks whether ctworker still
// exists.
const writerPollInterval = 100 * time.Millisecond

// Write writes b to the ring. It blocks until there is room. An error means that ctworker has
// exited.
func (r *Ring) Write(b []byte) error {
	head := r.shared.head
	for len(b) > 0 {
		room := ringSize - int(r.writePos-head.readPos.Load())
		if room <= 0 {
			if err := r.awaitRoom(); err != nil {
				return err
			}
			continue
		}
		n := min(room, len(b))
		from := int(r.writePos % ringSize)
		first := copy(r.shared.data[from:], b[:n])
		copy(r.shared.data, b[first:n])
		b = b[n:]
		r.writePos += uint64(n)
		head.writePos.Store(r.writePos)
		if head.readerWaiting.CompareAndSwap(1, 0) {
			if err := r.wakeReader(); err != nil {
				return err
			}
		}
	}
	return nil
}

// wakeReader sends a byte over the socket, which ends ctworker's wait.
func (r *Ring) wakeReader() error {
	for {
		_, err := syscall.Write(r.socket, []byte{'\n'})
		if !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("write", err)
		}
	}
}

// awaitRoom waits until ctworker has read data, for at most writerPollInterval. It returns an error
// if ctworker has exited.
func (r *Ring) awaitRoom() error {
	head := r.shared.head
	head.writerWaiting.Store(1)
	if int(r.writePos-head.readPos.Load()) < ringSize {
		head.writerWaiting.Store(0)
		return nil
	}
	futexWait(&head.writerWaiting, 1, writerPollInterval)
	fds := []unix.PollFd{{Fd: int32(r.socket), Events: unix.POLLRDHUP}}
	if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0 {
		return syscall.EPIPE
	}
	return nil
}

// The operations of futex(2) for memory that processes share.
const (
	futexOpWait = 0
	futexOpWake = 1
)

func futexWait(word *atomic.Uint32, while uint32, timeout time.Duration) {
	limit := unix.NsecToTimespec(timeout.Nanoseconds())
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWait, uintptr(while), uintptr(unsafe.Pointer(&limit)), 0, 0)
}

func futexWake(word *atomic.Uint32) {
	_, _, _ = syscall.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), futexOpWake, 1, 0, 0, 0)
}
