package procexec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// guardVar is the environment variable that makes RunGuard run as the guard. Its value is the id of
// the run, a colon, and Options.Dir.
const guardVar = "CTWORKER_GUARD"

// The descriptors that the guard inherits.
const (
	guardTable    = 3 // the shared memory of groupTable
	guardLifeline = 4 // a pipe on which the guard reads end of file when its parent, ctworker, has exited
)

// guard is a helper process. If this program is killed, even by SIGKILL, the guard survives and
// kills all tasks. It finds their process groups in memory that it shares with this program, so
// adding a process group costs no system call.
type guard struct {
	process  *os.Process
	lifeline *os.File // never written to; the kernel closes it when this program exits
	stopping atomic.Bool
	waitErr  chan error // receives the error of Process.Wait
}

// startGuard starts the guard in its own session, with /dev/null as its standard streams.
// Therefore, neither Ctrl-C nor the closing of the terminal ends the guard.
func (l *Launcher) startGuard(command []string) (*guard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start the guard process: %w", err)
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("start the guard process: %w", err)
	}
	defer func() { _ = null.Close() }()
	var p *os.Process
	l.spawnThread.do(func() {
		p, err = os.StartProcess(command[0], command, &os.ProcAttr{
			Dir:   "/",
			Env:   []string{guardVar + "=" + l.runID + ":" + l.opts.Dir, "GOMAXPROCS=1"},
			Files: []*os.File{null, null, null, l.table.file, r},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	})
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("start the guard process: %w", err)
	}
	g := &guard{process: p, lifeline: w, waitErr: make(chan error, 1)}
	go g.watch(l.opts.Log)
	return g, nil
}

// watch waits for the exit of the guard. It logs a warning if the guard exits before stop is
// called.
func (g *guard) watch(log zerolog.Logger) {
	_, err := g.process.Wait()
	if !g.stopping.Load() {
		log.Warn().Msg("guard process exited; processes that tasks started may survive if ctworker is killed")
	}
	g.waitErr <- err
}

// stop kills the guard. No task may be running.
func (g *guard) stop() error {
	g.stopping.Store(true)
	err := g.process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, <-g.waitErr, g.lifeline.Close())
}

// RunGuard runs the guard, and does not return, in a process that a Launcher has started as its guard.
// In any other process, it returns immediately. Call RunGuard first in main; see Options.Guard.
func RunGuard() {
	value, ok := os.LookupEnv(guardVar)
	if !ok {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	runID, dir, _ := strings.Cut(value, ":")
	groups, err := mapGroupTable(guardTable)
	if err != nil || runID == "" {
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.NewFile(guardLifeline, "life"))

	for i := range groups {
		if pgid := atomic.LoadInt32(&groups[i]); pgid > 1 {
			_ = syscall.Kill(-int(pgid), syscall.SIGKILL)
		}
	}
	killAllMarked(runID)
	if dir != "" {
		removeNotificationFiles(dir)
	}
	os.Exit(0)
}

// removeNotificationFiles removes the files of the notifications in dir, and dir itself. It removes
// nothing if a task has replaced dir with a symbolic link.
func removeNotificationFiles(dir string) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	for _, name := range []string{ShutdownFile, TerminationFile} {
		_ = unix.Unlinkat(fd, name, 0)
	}
	_ = unix.Close(fd)
	_ = unix.Rmdir(dir)
}

// The names of the files that the two notifications create.
const (
	ShutdownFile    = "shutdown"
	TerminationFile = "termination"
)

// groupTable is memory shared with the guard. It holds the ids of the running process groups. An
// unused entry is 0.
type groupTable struct {
	file   *os.File
	groups []int32

	mu   sync.Mutex
	used int   // number of entries that have ever been used; the entries from index used on are free
	free []int // indexes below used of free entries
}

// maxGroups is the number of entries of a groupTable, and therefore the maximum number of
// concurrent processes of a Launcher. Memory is needed only for entries that have been used.
const maxGroups = 1 << 17

func newGroupTable() (*groupTable, error) {
	f, err := sharedMemory("ctworker-groups", maxGroups*int64(unsafe.Sizeof(int32(0))))
	if err != nil {
		if errors.Is(err, syscall.EFBIG) {
			err = fmt.Errorf("%w: raise the limit on the size of files (ulimit -f) to at least 1 MiB", err)
		}
		return nil, fmt.Errorf("create the shared table of processes: %w", err)
	}
	groups, err := mapGroupTable(int(f.Fd()))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &groupTable{file: f, groups: groups}, nil
}

// mapGroupTable maps the memory of descriptor fd, which contains a groupTable.
func mapGroupTable(fd int) ([]int32, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("create the shared table of processes: %w", err)
	}
	b, err := syscall.Mmap(fd, 0, int(st.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("create the shared table of processes: %w", err)
	}
	return unsafe.Slice((*int32)(unsafe.Pointer(&b[0])), len(b)/4), nil
}

// reserve returns the index of a free entry. The caller must return it with release.
func (t *groupTable) reserve() (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last := len(t.free) - 1; last >= 0 {
		index := t.free[last]
		t.free = t.free[:last]
		return index, nil
	}
	if t.used == len(t.groups) {
		return 0, fmt.Errorf("more than %d processes at the same time: use fewer slots", len(t.groups))
	}
	t.used++
	return t.used - 1, nil
}

// set stores the id of a process group in a reserved entry.
func (t *groupTable) set(index, pid int) { atomic.StoreInt32(&t.groups[index], int32(pid)) }

// clear removes the id from a reserved entry. The guard then does not kill the group any more.
func (t *groupTable) clear(index int) { t.set(index, 0) }

// release clears an entry and makes it free.
func (t *groupTable) release(index int) {
	t.clear(index)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, index)
}

func (t *groupTable) close() error {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&t.groups[0])), len(t.groups)*4)
	return errors.Join(syscall.Munmap(b), t.file.Close())
}
