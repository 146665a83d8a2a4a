package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ctworker/ctworker"
)

// roleVar makes this program be what is measured, in place of what measures.
const roleVar = "BENCH_ROLE"

// roles are what this program can be.
var roles = map[string]func(){
	"worker": func() { // a warm worker whose tasks do nothing
		ctworker.Main(func(context.Context, *ctworker.Task) (ctworker.Result, error) { return true, nil })
	},
	"ping": func() { check(ping(number(1), number(2), number(3))) },
	"pong": func() { check(pong()) },
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

// warmDepth is how many lines are under way to a process at once, as procexec has
// it for the shortest of tasks.
const warmDepth = 64

// ping is the ceiling of warm processes: it sends count lines of a task's length
// over a socket to each of slots processes, with depth of them under way, and
// reads a line for each.
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

// pingOne sends as many lines at once as have been answered, half the depth at a
// time.
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

// pong answers each line with one of a reply's length, a write each, as the task
// protocol asks for.
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

// warm measures tasks that do nothing in processes that stay, beside the lines of
// the protocol alone.
func (b *bench) warm() error {
	const n = 400_000
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := b.taskFile("warm.json", n); err != nil {
		return err
	}
	var cs []contender
	for _, slots := range []int{1, runtime.NumCPU()} {
		j := strconv.Itoa(slots)
		cs = append(cs,
			contender{
				name: "warm Go, -j " + j, argv: []string{self, "--task-file", "warm.json", "--event-log-file", "warm.log", "-j", j},
				env: []string{roleVar + "=worker"},
			},
			contender{
				name: "socket alone, " + j, argv: []string{self, strconv.Itoa(n), j, strconv.Itoa(warmDepth)},
				env: []string{roleVar + "=ping"},
			})
	}
	if err := b.inTurn(cs); err != nil {
		return err
	}
	fmt.Printf("\n%d warm tasks that do nothing, JSON file to event log, %d runs each in turn; the socket alone carries the lines, %d under way\n", n, b.pairs, warmDepth)
	table(cs, n, func(i int) int { return i | 1 })
	return nil
}

// table prints rates, and the ratio of each contender's rate to that of the one
// that beside names.
func table(cs []contender, n float64, beside func(i int) int) {
	fmt.Printf("%-28s %8s %8s %10s %16s %9s %20s\n", "", "wall s", "CPU s", "tasks/s", "per vCPU used", "peak MiB", "rate / ceiling")
	for i, c := range cs {
		wall := median(column(c.runs, func(s sample) time.Duration { return s.wall })).Seconds()
		cpu := median(column(c.runs, func(s sample) time.Duration { return s.cpu })).Seconds()
		peak := slices.Max(column(c.runs, func(s sample) int64 { return s.peak }))
		var ratios []float64
		other := cs[beside(i)]
		for r, s := range c.runs {
			ratios = append(ratios, other.runs[r].wall.Seconds()/s.wall.Seconds()*c.share()/other.share())
		}
		fmt.Printf("%-28s %8.2f %8.2f %10.0f %16.0f %9.1f %10.2f (%.2f–%.2f)\n", c.name, wall, cpu, n*c.share()/wall, n*c.share()/cpu,
			float64(peak)/(1<<20), median(ratios), slices.Min(ratios), slices.Max(ratios))
	}
}

// share is which part of the tasks the contender runs.
func (c contender) share() float64 {
	if c.part == 0 {
		return 1
	}
	return c.part
}

const pythonWorker = `%s
import asyncio, sys
from ctworker import Worker
def process(task_id, task_data, worker_data):
    return False, True
if __name__ == "__main__":
    asyncio.run(Worker(process, args=sys.argv[1:]).start())
`

// bareFork is the ceiling of a fork for each task: nothing but forks, of a process
// that has imported what the worker has.
const bareFork = `%s
import asyncio, os, sys
from ctworker import Worker
n, most = int(sys.argv[1]), int(sys.argv[2])
live = 0
for _ in range(n):
    if live == most:
        os.wait()
        live -= 1
    if os.fork() == 0:
        os._exit(0)
    live += 1
while live:
    os.wait()
    live -= 1
`

// large are modules of the standard library, as a stand-in for a program's own.
const large = `import asyncio, concurrent.futures, csv, ctypes, dataclasses, decimal, email.message, http.client, inspect
import logging.handlers, multiprocessing.pool, pdb, pydoc, sqlite3, ssl, statistics, tarfile, tkinter.constants
import unittest.mock, urllib.request, xml.dom.minidom, xml.etree.ElementTree, xmlrpc.client, zipfile
ballast = [{"i": i, "s": str(i)} for i in range(200_000)]`

// python measures Python functions that do nothing, in processes that stay and in
// a fork for each task.
func (b *bench) python() error {
	const n, forks = 100_000, 5_000
	sdk, err := filepath.Abs("sdk/python/src")
	if err != nil {
		return err
	}
	// The interpreter itself, and not a script that looks for one.
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return err
	}
	python := strings.TrimSpace(string(out))
	env := []string{"PYTHONPATH=" + sdk, "CTWORKER_BIN=" + b.binary, "PYTHONDONTWRITEBYTECODE="}
	for name, text := range map[string]string{
		"noop.py": fmt.Sprintf(pythonWorker, ""), "noop_large.py": fmt.Sprintf(pythonWorker, large),
		"fork.py": fmt.Sprintf(bareFork, ""), "fork_large.py": fmt.Sprintf(bareFork, large),
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if err := b.taskFile("python.json", n); err != nil {
		return err
	}
	j := strconv.Itoa(runtime.NumCPU())
	worker := func(program, isolation string, count int) []string {
		return append([]string{python}, strings.Fields(fmt.Sprintf("%s --task-file python.json --event-log-file python.log -j %s --isolation %s --max-num-tasks %d", program, j, isolation, count))...)
	}
	bare := func(program string, most string) []string {
		return []string{python, program, strconv.Itoa(forks), most}
	}
	const part = float64(forks) / n
	cs := []contender{
		{name: "fork per task", argv: worker("noop.py", "fork", forks), env: env, part: part},
		{name: "bare fork, 1 at a time", argv: bare("fork.py", "1"), env: env, part: part},
		{name: "bare fork, " + j + " at a time", argv: bare("fork.py", j), env: env, part: part},
		{name: "fork per task, large", argv: worker("noop_large.py", "fork", forks), env: env, part: part},
		{name: "bare fork, 1, large", argv: bare("fork_large.py", "1"), env: env, part: part},
		{name: "bare fork, " + j + ", large", argv: bare("fork_large.py", j), env: env, part: part},
		{name: "reuse", argv: worker("noop.py", "reuse", n), env: env},
	}
	if err := b.inTurn(cs); err != nil {
		return err
	}
	fmt.Printf("\nPython functions that do nothing, %d with reuse and %d with a fork for each, -j %s, %d runs each in turn\n", n, forks, j, b.pairs)
	table(cs, n, func(i int) int {
		switch {
		case i < 3:
			return 1
		case i < 6:
			return 4
		}
		return i
	})
	return nil
}
