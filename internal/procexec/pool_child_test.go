package procexec_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/ctworker/ctworker/internal/taskproto"
)

// workerProcess is a worker process whose code is based only on docs/protocol.md. The data of each
// task describes what the process does. With the argument "ring", it uses the shared ring.
type workerProcess struct {
	in    *bufio.Reader
	out   *os.File
	ring  *taskproto.Ring // the shared ring; if it is not nil, it is used instead of out and claim
	claim int
	ahead bool
}

// action is the data of a task for a worker process.
type action struct {
	Do  string
	N   int
	Arg string
}

// workerChildren are worker processes that the test binary can run instead of the tests.
var workerChildren = map[string]func(args []string){
	"worker":                   func(args []string) { workerMain(args, false) },
	"worker-ahead":             func(args []string) { workerMain(args, true) },
	"worker-ring":              func([]string) { workerMain([]string{"ring"}, true) },
	"worker-corrupt-ring":      corruptRing,
	"worker-silent":            func([]string) { select {} },
	"worker-exit-at-start":     func([]string) { os.Exit(7) },
	"worker-exit-after-ready":  func([]string) { _, _ = newWorkerProcess(false).out.WriteString(`{"ready":{"version":1}}` + "\n") },
	"worker-no-claim":          func([]string) { unclaimed(`{"ready":{"version":1,"ahead":true}}`); select {} },
	"worker-no-claim-ring":     func([]string) { unclaimed(`{"ready":{"version":1,"ahead":true,"ring":true}}`); select {} },
	"worker-exit-before-claim": func([]string) { unclaimed(`{"ready":{"version":1,"ahead":true}}`); os.Exit(1) },
	"worker-version-7": func([]string) {
		_, _ = newWorkerProcess(false).out.WriteString(`{"ready":{"version":7}}` + "\n")
		select {}
	},
	"worker-no-ready": func([]string) {
		_, _ = newWorkerProcess(false).out.WriteString(`{"task_id":"t0","result":1}` + "\n")
		select {}
	},
}

// unclaimed writes the text in the parameter ready, and then reads its first task. It does not
// claim the task, that is, it does not announce that it starts the task.
func unclaimed(ready string) {
	w := newWorkerProcess(true)
	_, _ = w.in.ReadBytes('\n')
	_, _ = w.out.WriteString(ready + "\n")
	_, _ = w.in.ReadBytes('\n')
}

func newWorkerProcess(ahead bool) *workerProcess {
	fd, _ := strconv.Atoi(os.Getenv("CTWORKER_FD"))
	permitsFD, err := strconv.Atoi(os.Getenv("CTWORKER_CLAIM_FD"))
	if err != nil {
		permitsFD = -1
	}
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	return &workerProcess{in: bufio.NewReader(f), out: f, claim: permitsFD, ahead: ahead && permitsFD >= 0}
}

// openRing makes w use the shared ring.
func (w *workerProcess) openRing() {
	fd, err := strconv.Atoi(os.Getenv("CTWORKER_RING_FD"))
	if err == nil {
		w.ring, err = taskproto.OpenRing(fd, int(w.out.Fd()))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no ring:", err)
		os.Exit(9)
	}
}

// corruptRing stores an invalid write position in the shared ring instead of writing a reply.
func corruptRing([]string) {
	w := newWorkerProcess(true)
	fd, _ := strconv.Atoi(os.Getenv("CTWORKER_RING_FD"))
	f := os.NewFile(uintptr(fd), "ring")
	_, _ = w.in.ReadString('\n')
	_, _ = w.out.WriteString(`{"ready":{"version":1}}` + "\n")
	_, _ = w.in.ReadString('\n')
	_, _ = f.WriteAt([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), 0)
	_, _ = w.out.WriteString("\n")
	select {}
}

// write writes to the ring if there is one, and otherwise to the socket.
func (w *workerProcess) write(b []byte) {
	if w.ring != nil {
		_ = w.ring.Write(b)
		return
	}
	_, _ = w.out.Write(b)
}

func (w *workerProcess) claims() bool {
	if w.ring != nil {
		return w.ring.Claim()
	}
	got, _ := syscall.Read(w.claim, make([]byte, 1))
	return got == 1
}

func workerMain(args []string, ahead bool) {
	w := newWorkerProcess(ahead)
	if len(args) > 0 && os.Getenv("CTWORKER_RING_FD") != "" { // not set if each process runs only one task
		w.openRing()
	}
	line, err := w.in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, `{"hello":{"version":1,`) {
		fmt.Fprintf(os.Stderr, "no hello: %q %v\n", line, err)
		os.Exit(9)
	}
	w.write(fmt.Appendf(nil, `{"ready":{"version":1,"ahead":%t,"ring":%t,"sdk":"test 1"}}`+"\n", w.ahead, w.ring != nil))
	for n := 1; ; n++ {
		line, err := w.in.ReadBytes('\n')
		if err == io.EOF {
			os.Exit(0)
		}
		var task struct {
			ID      string `json:"task_id"`
			Attempt int    `json:"attempt"`
			Data    action `json:"data"`
		}
		if err != nil || json.Unmarshal(line, &task) != nil {
			fmt.Fprintf(os.Stderr, "task %q: %v\n", line, err)
			os.Exit(9)
		}
		if w.ahead {
			if !w.claims() {
				w.reply(map[string]any{"task_id": task.ID, "returned": true})
				continue
			}
		}
		w.run(task.ID, task.Attempt, task.Data, n)
	}
}

func (w *workerProcess) reply(v any) {
	b, _ := json.Marshal(v)
	w.write(append(b, '\n'))
}

// run performs the action of a task. It sends a reply unless the action ends the process. n is the
// number of the task in this process, from 1.
func (w *workerProcess) run(id string, attempt int, o action, n int) {
	var result any
	switch o.Do {
	case "":
	case "pid":
		result = os.Getpid()
	case "count":
		result = n
	case "attempt":
		result = attempt
	case "env":
		result = os.Getenv(o.Arg)
	case "big":
		result = strings.Repeat("x", o.N)
	case "warn":
		w.reply(map[string]any{"task_id": id, "result": 1, "warning": o.Arg})
		return
	case "raise":
		w.reply(map[string]any{"task_id": id, "exception": o.Arg})
		return
	case "raise permanently":
		w.reply(map[string]any{"task_id": id, "exception": o.Arg, "retry": false})
		return
	case "retry":
		w.reply(map[string]any{"task_id": id, "retry": true, "result": o.Arg})
		return
	case "print": // prints lines of both streams, and a line without its end
		_, _ = fmt.Printf("out %s\nlast %s", id, id)
		_, _ = fmt.Fprintf(os.Stderr, "err %s\n", id)
	case "print and exit":
		_, _ = fmt.Fprintf(os.Stderr, "err %s\n\n", id)
		os.Exit(o.N)
	case "flood": // prints N MiB
		line := []byte(strings.Repeat("x", 1<<10-1) + "\n")
		for range o.N << 10 {
			_, _ = os.Stdout.Write(line)
		}
	case "exit":
		os.Exit(o.N)
	case "kill":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "write": // writes Arg instead of a reply
		w.write([]byte(o.Arg))
		select {}
	case "reply and hang":
		w.reply(map[string]any{"task_id": id, "result": "before"})
		select {}
	case "hang":
		createFile(o.Arg)
		select {}
	case "grandchild": // starts a grandchild, which also holds the socket open
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = []*os.File{w.out}
		if err := cmd.Start(); err != nil {
			result = err.Error()
		} else {
			result = cmd.Process.Pid
		}
	case "grandchild and exit":
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = []*os.File{w.out}
		_ = cmd.Start()
		os.Exit(o.N)
	case "await": // waits until the file Arg exists
		createFile(o.Arg + ".begun")
		for {
			if _, err := os.Stat(o.Arg); err == nil {
				break
			}
		}
	}
	w.reply(map[string]any{"task_id": id, "retry": false, "result": result})
}

// createFile creates an empty file.
func createFile(path string) {
	if f, err := os.Create(path); err == nil {
		_ = f.Close()
	}
}
