package procexec_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/ctworker/ctworker/internal/procexec"
)

// children are programs that the test binary can run instead of the tests. The value of childVar
// selects the program.
var children = map[string]func(args []string){
	"daemon": daemon,
	"engine": engine,
}

// daemon starts a chain of daemons and then exits. Each daemon starts the next daemon, and runs in
// its own session until it is killed. The arguments are the number of daemons, the path of a
// lifeline that all daemons hold open, and "marked" or "unmarked". Unmarked daemons have no marker
// of the run in their environment. daemon exits when all daemons hold the lifeline.
func daemon(args []string) {
	depth, _ := strconv.Atoi(args[0])
	started, resultFD, err := os.Pipe()
	check(err)
	attr := &os.ProcAttr{
		Files: []*os.File{nil, nil, nil, resultFD},
		Env:   []string{childVar + "=daemon"},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	}
	if args[2] == "marked" {
		attr.Env = append(os.Environ(), attr.Env...)
	}
	inner := len(args) > 3
	switch {
	case depth == 0:
		holdLifeline(args[1])
		notifyParent()
		check(os.NewFile(3, "result").Close())
		blockForever()
	default:
		self, err := os.Executable()
		check(err)
		_, err = os.StartProcess(self, []string{self, strconv.Itoa(depth - 1), args[1], args[2], "inner"}, attr)
		check(err)
		check(resultFD.Close())
		buf := make([]byte, 1)
		_, err = started.Read(buf)
		check(err)
		if !inner {
			return
		}
		holdLifeline(args[1])
		notifyParent()
		blockForever()
	}
}

// notifyParent reports that this daemon, and all daemons that follow it in the chain, hold the
// lifeline.
func notifyParent() {
	_, err := syscall.Write(3, []byte{'.'})
	check(err)
}

// engine runs three tasks that never end. Each task starts processes inside and outside of its
// process group. When all tasks run, engine prints the pid of the guard. The arguments are the path
// of a lifeline and the directory of the notifications.
func engine(args []string) {
	self, err := os.Executable()
	check(err)
	l, err := procexec.NewLauncher(procexec.Options{Guard: []string{self}, Subreaper: true, Dir: args[1]})
	check(err)
	notice, err := procexec.NewNotification(args[1], procexec.ShutdownFile)
	check(err)
	check(notice.Raise())
	ready := make(chan struct{})
	c, err := procexec.NewCommand(l, procexec.CommandOptions{
		Argv: sh(`
			trap '' TERM HUP INT
			exec 9>"$1"
			sleep 1000 &
			`+childVar+`=daemon "$2" 2 "$1" marked
			(sh -c 'exec sleep 1000' &)
			echo ready >&2
			wait`, args[0], self),
		Shutdown: notice,
		Stderr:   func(procexec.Task, []byte, bool) { ready <- struct{}{} },
	})
	check(err)
	for slotIndex := range 3 {
		go func() {
			_, _ = c.Run(procexec.Task{ID: "t", Data: []byte("{}"), Attempt: 1, Slot: slotIndex}, procexec.StopSignals{})
		}()
	}
	for range 3 {
		<-ready
	}
	fmt.Println(procexec.GuardPid(l))
	blockForever()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// holdLifeline opens the lifeline until this process exits. An os.File would be closed earlier, by
// the garbage collector.
func holdLifeline(path string) {
	_, err := syscall.Open(path, syscall.O_WRONLY, 0)
	check(err)
}

// blockForever blocks in a system call. If it waited for a channel instead, the Go runtime could
// report a deadlock and terminate the program.
func blockForever() {
	var p [2]int
	check(syscall.Pipe(p[:]))
	_, _ = syscall.Read(p[0], make([]byte, 1))
}
