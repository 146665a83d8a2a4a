package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// worker is a "ctworker run" of a job, with a name.
type worker struct {
	*invocation
	name string
}

// work starts a worker. In the environment of its tasks, the variable WORKER contains the name of
// the worker.
func (j *job) work(name string, args ...string) *worker {
	j.t.Helper()
	w := &worker{invocation: j.prepare(append([]string{"run"}, args...)...), name: name}
	w.cmd.Env = append(w.cmd.Env, "WORKER="+name)
	w.start()
	return w
}

// testTimeout is the time after which a process or a condition counts as hanging.
const testTimeout = 3 * time.Minute

// wantExit fails the test unless the worker exits with code. A worker that hangs prints its stacks.
func (w *worker) wantExit(code int) {
	w.t.Helper()
	if got := w.exitCode(); got != code {
		w.t.Errorf("worker %s: exit code %d, want %d; stderr:\n%s", w.name, got, code, w.stderr.String())
	}
}

// wantExitAfterSignal fails the test unless the worker exits with 0 after SIGTERM. Exit code 143 is
// also accepted for a worker that was still starting, because such a worker cannot know that the
// queue is empty.
func (w *worker) wantExitAfterSignal() {
	w.t.Helper()
	got := w.exitCode()
	starting := got == 143 && strings.Contains(w.stderr.String(), "stopping before the first task")
	// The signal kills a worker that has just started and does not handle signals yet.
	starting = starting || got == -1 && w.stderr.String() == ""
	if got != 0 && !starting {
		w.t.Errorf("worker %s: exit code %d, want 0; stderr:\n%s", w.name, got, w.stderr.String())
	}
}

// exitCode waits until the worker has exited, and returns the exit code.
func (w *worker) exitCode() int {
	w.t.Helper()
	select {
	case <-w.exited:
	case <-time.After(testTimeout):
		w.signal(syscall.SIGQUIT)
		<-w.exited
	}
	return w.cmd.ProcessState.ExitCode()
}

// taskStart is what a task reports when it starts.
type taskStart struct {
	worker, task string
	attempt      int
	at           time.Time
}

// startRecorder records the starts of all tasks of a job, with the time at which the test received each of
// them.
type startRecorder struct {
	t      *testing.T
	pipe   string
	added  chan struct{} // holds a token if starts were added
	closed chan struct{}

	mu             sync.Mutex
	starts         []taskStart
	tasks, workers map[string]bool
}

// recordStarts starts a recorder for the tasks of the job.
func (j *job) recordStarts() *startRecorder {
	j.t.Helper()
	pipe, lines := fifo(j.t, j.dir)
	b := &startRecorder{
		t: j.t, pipe: pipe, added: make(chan struct{}, 1), closed: make(chan struct{}),
		tasks: map[string]bool{}, workers: map[string]bool{},
	}
	go b.read(lines)
	j.t.Cleanup(b.close)
	return b
}

// command returns a command that reports its start to the recorder and runs a script.
func (b *startRecorder) command(script string) []string {
	return []string{"--", "sh", "-c", `echo "$WORKER $CTWORKER_TASK_ID $CTWORKER_ATTEMPT" > '` + b.pipe + `'; ` + script}
}

const endOfRecording = "end\n"

func (b *startRecorder) read(lines *bufio.Reader) {
	defer close(b.closed)
	for {
		line, err := lines.ReadString('\n')
		if err != nil || line == endOfRecording {
			return
		}
		at := taskStart{at: time.Now()}
		if _, err := fmt.Sscan(line, &at.worker, &at.task, &at.attempt); err != nil {
			continue // the test fails later, because this start is missing
		}
		b.mu.Lock()
		b.starts = append(b.starts, at)
		b.tasks[at.task], b.workers[at.worker] = true, true
		b.mu.Unlock()
		select {
		case b.added <- struct{}{}:
		default:
		}
	}
}

// counts returns how many tasks have started, and on how many workers.
func (b *startRecorder) counts() (tasks, workers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.tasks), len(b.workers)
}

// await waits until at least the given number of tasks have started, on at least the given number of workers.
func (b *startRecorder) await(tasks, workers int) {
	b.t.Helper()
	limit := time.After(testTimeout)
	for {
		t, w := b.counts()
		if t >= tasks && w >= workers {
			return
		}
		select {
		case <-b.added:
		case <-limit:
			b.t.Fatalf("%d tasks have started on %d workers after %v, want %d on %d", t, w, testTimeout, tasks, workers)
		}
	}
}

// close stops the recorder. Call it after all workers have exited; a second call has no effect.
func (b *startRecorder) close() {
	select {
	case <-b.closed:
		return
	default:
	}
	if f, err := os.OpenFile(b.pipe, os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString(endOfRecording)
		_ = f.Close()
		<-b.closed
	}
}

// byTask returns the starts of each task. Call it after all workers have exited.
func (b *startRecorder) byTask() map[string][]taskStart {
	b.close()
	all := map[string][]taskStart{}
	for _, at := range b.starts {
		all[at.task] = append(all[at.task], at)
	}
	return all
}

// countRepeated returns the number of tasks that started more than once.
func countRepeated(byTask map[string][]taskStart) int {
	n := 0
	for _, all := range byTask {
		if len(all) > 1 {
			n++
		}
	}
	return n
}

// wantEventOfEach fails the test unless the queue has an event for each of n tasks. It returns the
// number of events.
func (j *job) wantEventOfEach(n int) int {
	j.t.Helper()
	events := j.readEvents()
	ids := idsOf(events)
	for i := range n {
		if id := fmt.Sprintf("t%d", i); ids[id] == 0 {
			j.t.Errorf("%s has no event", id)
		}
	}
	return len(events)
}

// stopWorkers sends SIGTERM to idle workers, and waits until they have exited.
func stopWorkers(workers []*worker) {
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
	}
	for _, w := range workers {
		w.wantExitAfterSignal()
	}
}

func isEmpty(d depth) bool { return d.Visible+d.InFlight == 0 }

// await polls a queue's depth until a condition is true.
func (j *job) await(queue string, within time.Duration, wanted func(depth) bool) {
	j.t.Helper()
	for end := time.Now().Add(within); ; <-time.After(10 * time.Millisecond) {
		d := j.depth(queue)
		switch {
		case wanted(d):
			return
		case time.Now().After(end):
			j.t.Fatalf("queue %s: unexpected depth after %v: %+v", queue, within, d)
		}
	}
}

// A task that runs for ten lease durations is delivered once. Its message is deleted as soon as its
// event is written, even while long polls are open.
func TestQueue_TaskOfTenLeases(t *testing.T) { onEach(t, tenLeasesCase) }

func tenLeasesCase(t *testing.T, j *job) {
	const short = 20
	j.load(short + 1)
	j.wantEvents(0) // removes the tasks_loaded event
	b := j.recordStarts()
	args := append([]string{"-j", "4", "--lease", "4"}, b.command(`[ "$CTWORKER_TASK_ID" != t0 ] || exec sleep 41`)...)
	startedAt := time.Now()
	workers := []*worker{j.work("a", args...), j.work("b", args...)}
	b.await(short+1, 1)

	var reported time.Time
	j.await("jobs-events", 2*time.Minute, func(d depth) bool {
		reported = time.Now()
		return d.Visible == short+1
	})
	took := reported.Sub(startedAt)
	j.await("jobs", 3*time.Second, isEmpty)
	t.Logf("the event of the long task was written after %.1f s, and its message deleted %.3f s later", took.Seconds(), time.Since(reported).Seconds())
	if took < 40*time.Second {
		t.Errorf("the event of the long task was written after %v, want at least 40 s", took)
	}
	stopWorkers(workers)
	t.Logf("requests:\n%s", j.counter.Table(short+1))
	for id, all := range b.byTask() {
		if len(all) != 1 || all[0].attempt != 1 {
			t.Errorf("task %s started as %+v, want a single first attempt", id, all)
		}
	}
	if n := j.wantEventOfEach(short + 1); n != short+1 {
		t.Errorf("%d events, want %d", n, short+1)
	}
}

// A worker prefetches tasks when tasks are short. Within a second after SIGTERM, the worker has
// released the tasks that wait for a slot, and other workers can receive these tasks.
func TestQueue_ShutdownReleasesPrefetchedTasks(t *testing.T) {
	onEach(t, shutdownReleasesPrefetchedCase)
}

func shutdownReleasesPrefetchedCase(t *testing.T, j *job) {
	const short, waiting = 200, 9
	j.load(short)
	b := j.recordStarts()
	w := j.work("w", append([]string{"-j", "1"}, b.command(`case $CTWORKER_TASK_ID in long*) while ! [ -e go ]; do sleep 0.05; done; esac`)...)...)
	b.await(short, 1)
	var long strings.Builder
	for i := range 1 + waiting {
		_, _ = fmt.Fprintf(&long, "{\"task_id\":\"long%d\",\"data\":{}}\n", i)
	}
	write(t, j.dir, "long.jsonl", long.String())
	j.do(0, "load", "--task-file", "long.jsonl")
	// This time limit is shorter than the time after which a worker releases waiting tasks without
	// a signal.
	j.await("jobs", 4*time.Second, func(d depth) bool { return d.InFlight == 1+waiting && d.Visible == 0 })
	b.await(short+1, 1) // wait for the start of one long task, because SIGTERM would otherwise release all ten
	w.signal(syscall.SIGTERM)
	startedAt := time.Now()
	j.await("jobs", 5*time.Second, func(d depth) bool { return d.InFlight == 1 && d.Visible == waiting })
	t.Logf("%d waiting tasks were released %.3f s after SIGTERM", waiting, time.Since(startedAt).Seconds())
	write(t, j.dir, "go", "")
	w.wantExit(0)
	j.wantTasks(waiting, 0)
	j.wantEvents(short + 1)
}
