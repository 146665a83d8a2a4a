package procexec

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// guardVar tells a program that it is to be the guard: the run's id, a colon,
// and the run's directory.
const guardVar = "CTWORKER_GUARD"

// The descriptors that a guard finds.
const (
	guardTable = 3 // the table of running groups
	guardLife  = 4 // reads end-of-file when the engine is gone
)

// guard is the process that outlives this one if this one is killed by SIGKILL,
// and then kills what the tasks have left. It shares a table of the process
// groups that run, so keeping it informed costs a store into memory.
type guard struct {
	process *os.Process
	life    *os.File // never written to: the guard waits for its end
	ending  atomic.Bool
	waited  chan error // receives what waiting for it came to
}

// startGuard starts the guard. Its standard streams lead nowhere, and it has a
// session of its own, so that neither a Ctrl-C nor a closing terminal ends it.
func (l *Launcher) startGuard(command []string) (*guard, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer func() { _ = r.Close() }()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("guard: %w", err)
	}
	defer func() { _ = null.Close() }()
	var p *os.Process
	l.thread.do(func() {
		p, err = os.StartProcess(command[0], command, &os.ProcAttr{
			Dir:   "/",
			Env:   []string{guardVar + "=" + l.runID + ":" + l.opts.Dir, "GOMAXPROCS=1"},
			Files: []*os.File{null, null, null, l.table.file, r},
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	})
	if err != nil {
		_ = w.Close()
		return nil, fmt.Errorf("guard: %w", err)
	}
	g := &guard{process: p, life: w, waited: make(chan error, 1)}
	go g.watch(l.opts.Log)
	return g, nil
}

// watch waits for the guard's end, which is not to come before end.
func (g *guard) watch(log zerolog.Logger) {
	_, err := g.process.Wait()
	if !g.ending.Load() {
		log.Warn().Msg("the guard has been killed: if this process is killed too, what tasks have started may live on")
	}
	g.waited <- err
}

// end ends the guard when there is nothing left to guard.
func (g *guard) end() error {
	g.ending.Store(true)
	err := g.process.Kill()
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	return errors.Join(err, <-g.waited, g.life.Close())
}

// RunGuard is the guard's whole life. A program whose path is given as
// Options.Guard calls it first thing in main: where the program was not started
// as a guard it returns at once, otherwise never.
func RunGuard() {
	mark, ok := os.LookupEnv(guardVar)
	if !ok {
		return
	}
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	runID, dir, _ := strings.Cut(mark, ":")
	groups, err := mapTable(guardTable)
	if err != nil || runID == "" {
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.NewFile(guardLife, "life"))

	for i := range groups {
		if pgid := atomic.LoadInt32(&groups[i]); pgid > 1 {
			_ = syscall.Kill(-int(pgid), syscall.SIGKILL)
		}
	}
	killAllMarked(runID)
	if dir != "" {
		removeNotices(dir)
	}
	os.Exit(0)
}

// removeNotices removes the notice files and their directory. If a task has replaced the
// directory with a symbolic link, it removes nothing.
func removeNotices(dir string) {
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

// The names of the notices' files in a run's directory.
const (
	ShutdownFile    = "shutdown"
	TerminationFile = "termination"
)

// table is the memory shared with the guard: the process group that runs in each
// place, or 0. A slot has two places.
type table struct {
	file   *os.File
	groups []int32
}

func newTable(places int) (*table, error) {
	f, err := sharedMemory("ctworker-groups", int64(places)*int64(unsafe.Sizeof(int32(0))))
	if err != nil {
		return nil, fmt.Errorf("table of processes: %w", err)
	}
	groups, err := mapTable(int(f.Fd()))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &table{file: f, groups: groups}, nil
}

// mapTable maps the whole of the table at descriptor fd.
func mapTable(fd int) ([]int32, error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("table of processes: %w", err)
	}
	b, err := syscall.Mmap(fd, 0, int(st.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("table of processes: %w", err)
	}
	return unsafe.Slice((*int32)(unsafe.Pointer(&b[0])), len(b)/4), nil
}

func (t *table) set(place, pid int) {
	if place >= 0 && place < len(t.groups) {
		atomic.StoreInt32(&t.groups[place], int32(pid))
	}
}

// clear takes pid out of its place, unless the next process is there already.
func (t *table) clear(place, pid int) {
	if place >= 0 && place < len(t.groups) {
		atomic.CompareAndSwapInt32(&t.groups[place], int32(pid), 0)
	}
}

func (t *table) close() error {
	b := unsafe.Slice((*byte)(unsafe.Pointer(&t.groups[0])), len(t.groups)*4)
	return errors.Join(syscall.Munmap(b), t.file.Close())
}
