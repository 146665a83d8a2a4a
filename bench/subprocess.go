package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/ctworker/ctworker"
)

// roleVar is an environment variable that selects a role: its value is a key of roles. If it is set,
// this program runs as the worker or baseline with this key, and measures nothing.
const roleVar = "BENCH_ROLE"

// If inProcessVar is set, the worker runs its tasks in its own process. If generateVar is set, its
// value is the number of tasks that the worker generates itself.
const (
	inProcessVar = "BENCH_IN_PROCESS"
	generateVar  = "BENCH_GENERATE"
)

// roles returns the workers and baselines that this program can run as.
func roles() map[string]func() {
	return map[string]func(){
		"worker": func() {
			worker(func(context.Context, *ctworker.Task) (ctworker.Result, error) { return true, nil })
		},
		"sleeper": func() { worker(sleep) },
		"ping":    func() { check(ping(number(1), number(2), number(3))) },
		"pong":    func() { check(pong()) },
		"exec":    func() { check(execLoop(number(1), number(2))) },
		"sqs":     func() { check(sqsLoop(os.Args[1], number(2), number(3))) },
		"pubsub":  func() { check(pubsubLoop(os.Args[1], os.Args[2], number(3), number(4))) },
	}
}

func number(arg int) int {
	n, err := strconv.Atoi(os.Args[arg])
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// worker runs f for each task.
func worker(f ctworker.Func) {
	var opts []ctworker.Option
	if os.Getenv(inProcessVar) != "" {
		opts = append(opts, ctworker.InProcess())
	}
	if n, err := strconv.ParseInt(os.Getenv(generateVar), 10, 64); err == nil {
		opts = append(opts, ctworker.WithTasks(generated(n)))
	}
	ctworker.Main(f, opts...)
}

// sleep is a task that sleeps for a second.
func sleep(ctx context.Context, _ *ctworker.Task) (ctworker.Result, error) {
	select {
	case <-time.After(time.Second):
		return true, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func generated(n int64) iter.Seq2[ctworker.Task, error] {
	return func(yield func(ctworker.Task, error) bool) {
		for i := range n {
			t := ctworker.Task{ID: fmt.Sprintf("task-%08d", i), Data: json.RawMessage(fmt.Sprintf(`{"num1": %8d, "num2": %8d}`, i, 2*i))}
			if !yield(t, nil) {
				return
			}
		}
	}
}

// execLoop is the baseline for one command per task. It starts count processes, at most slots at the
// same time, and waits for each of them.
func execLoop(count, slots int) error {
	var all sync.WaitGroup
	errs := make([]error, slots)
	for slot := range slots {
		all.Go(func() {
			for i := slot; i < count && errs[slot] == nil; i += slots {
				errs[slot] = exec.Command("/bin/true").Run()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pipelineDepth is the maximum number of lines that are sent to a process before it answers the
// first of them. ctworker has the same limit for tasks that it sends to a worker process, and reaches
// the limit with very short tasks.
const pipelineDepth = 256

// ping is the baseline for worker processes. It starts one process per slot, sends count lines in
// total to the processes over sockets, and reads a line in response to each. A line is as long as a
// task. At most depth lines per process wait for a response.
func ping(count, slots, depth int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	line := []byte(`{"task_id":"task-00000000","attempt":1,"data":{"num1": 00000000, "num2": 00000000}}` + "\n")
	var all sync.WaitGroup
	errs := make([]error, slots)
	for slot := range slots {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
		theirs := os.NewFile(uintptr(fds[1]), "theirs")
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), roleVar+"=pong")
		cmd.ExtraFiles = []*os.File{theirs}
		if err := cmd.Start(); err != nil {
			return err
		}
		_ = theirs.Close()
		if err := syscall.SetNonblock(fds[0], true); err != nil {
			return err
		}
		ours := os.NewFile(uintptr(fds[0]), "ours")
		all.Go(func() {
			errs[slot] = pingOne(ours, line, count/slots, depth)
			_ = ours.Close()
			errs[slot] = errors.Join(errs[slot], cmd.Wait())
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// pingOne sends count lines over one socket, and reads a line in response to each. At most depth
// lines wait for a response. When half of them have been answered, pingOne sends more.
func pingOne(f *os.File, line []byte, count, depth int) error {
	batch := slices.Repeat(line, depth)
	in := bufio.NewReaderSize(f, 64<<10)
	sent, got := 0, 0
	for got < count {
		if under := sent - got; sent < count && under <= depth/2 {
			n := min(depth-under, count-sent)
			if _, err := f.Write(batch[:n*len(line)]); err != nil {
				return err
			}
			sent += n
		}
		if _, err := in.ReadSlice('\n'); err != nil {
			return err
		}
		got++
	}
	return nil
}

// pong responds to each line with a line that is as long as a reply. Each response is one write,
// because the task protocol requires a write per reply.
func pong() error {
	f := os.NewFile(3, "socket")
	in := bufio.NewReaderSize(f, 64<<10)
	reply := []byte(`{"task_id":"task-00000000","retry":false,"result":true}` + "\n")
	for {
		if _, err := in.ReadSlice('\n'); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if _, err := syscall.Write(int(f.Fd()), reply); err != nil {
			return err
		}
	}
}
