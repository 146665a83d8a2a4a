package procexec_test

import (
	"fmt"
	"os"
	"strconv"
	"syscall"

	"github.com/ctworker/ctworker/internal/procexec"
)

// children are what the test binary can be instead of the tests.
var children = map[string]func(args []string){
	"daemon": daemon,
	"engine": engine,
}

// daemon leaves a chain of processes behind, each the next one's parent and in a
// session of its own, that run for long: args are their number, their life, and
// "marked", or "unmarked" for an empty environment. It ends once all of them
// hold the life.
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
		holdLife(args[1])
		tellParent()
		check(os.NewFile(3, "told").Close())
		forever()
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
		holdLife(args[1])
		tellParent()
		forever()
	}
}

// tellParent says that this process, and all that it has started, hold the life.
func tellParent() {
	_, err := syscall.Write(3, []byte{'.'})
	check(err)
}

// engine runs three tasks that never end, with all that may outlive an engine,
// and says the guard's process id once they run: args are the life and the
// directory of the notices.
func engine(args []string) {
	self, err := os.Executable()
	check(err)
	l, err := procexec.NewLauncher(procexec.Options{Slots: 3, Guard: []string{self}, Subreaper: true, Dir: args[1]})
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
	forever()
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// holdLife opens the life for good: no finalizer closes it.
func holdLife(path string) {
	_, err := syscall.Open(path, syscall.O_WRONLY, 0)
	check(err)
}

// forever blocks in the system: where every goroutine of a program waits for
// another, the runtime ends it.
func forever() {
	var p [2]int
	check(syscall.Pipe(p[:]))
	_, _ = syscall.Read(p[0], make([]byte, 1))
}
