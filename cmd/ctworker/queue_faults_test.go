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

// worker is a "ctworker run" that a goroutine of its own waits for.
type worker struct {
	*invocation
	name string
}

// work starts a worker whose tasks find its name in WORKER.
func (j *job) work(name string, args ...string) *worker {
	j.t.Helper()
	w := &worker{invocation: j.prepare(append([]string{"run"}, args...)...), name: name}
	w.cmd.Env = append(w.cmd.Env, "WORKER="+name)
	w.start()
	return w
}

// hanging is how long anything here may take that is not to hang.
const hanging = 3 * time.Minute

// ends fails the test unless the worker ends with code. One that hangs tells where.
func (w *worker) ends(code int) {
	w.t.Helper()
	if got := w.exitCode(); got != code {
		w.t.Errorf("worker %s: exit code %d, want %d; stderr:\n%s", w.name, got, code, w.stderr.String())
	}
}

// endsAfterSignal fails the test unless the worker, which has received SIGTERM, ends with 0.
// One that was still starting ends with 143, as it cannot know that the queue is empty.
func (w *worker) endsAfterSignal() {
	w.t.Helper()
	got := w.exitCode()
	starting := got == 143 && strings.Contains(w.stderr.String(), "stopping before the first task")
	if got != 0 && !starting {
		w.t.Errorf("worker %s: exit code %d, want 0; stderr:\n%s", w.name, got, w.stderr.String())
	}
}

// exitCode waits for the worker's end.
func (w *worker) exitCode() int {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(hanging):
		w.signal(syscall.SIGQUIT)
		<-w.ended
	}
	return w.cmd.ProcessState.ExitCode()
}

// beginning is what a task reports as it begins.
type beginning struct {
	worker, task string
	attempt      int
	at           time.Time
}

// journal has the beginnings of all tasks, by the test's own clock.
type journal struct {
	t     *testing.T
	pipe  string
	more  chan struct{} // holds a token when there is something new
	ended chan struct{}

	mu             sync.Mutex
	all            []beginning
	tasks, workers map[string]bool
}

// newJournal starts a journal of what is run of the job.
func (j *job) newJournal() *journal {
	j.t.Helper()
	pipe, lines := fifo(j.t, j.dir)
	b := &journal{
		t: j.t, pipe: pipe, more: make(chan struct{}, 1), ended: make(chan struct{}),
		tasks: map[string]bool{}, workers: map[string]bool{},
	}
	go b.read(lines)
	j.t.Cleanup(b.close)
	return b
}

// command is a task that reports to the journal and does what the script says.
func (b *journal) command(script string) []string {
	return []string{"--", "sh", "-c", `echo "$WORKER $CTWORKER_TASK_ID $CTWORKER_ATTEMPT" > '` + b.pipe + `'; ` + script}
}

const endOfJournal = "end\n"

func (b *journal) read(lines *bufio.Reader) {
	defer close(b.ended)
	for {
		line, err := lines.ReadString('\n')
		if err != nil || line == endOfJournal {
			return
		}
		at := beginning{at: time.Now()}
		if _, err := fmt.Sscan(line, &at.worker, &at.task, &at.attempt); err != nil {
			continue // what is lost so, the test misses
		}
		b.mu.Lock()
		b.all = append(b.all, at)
		b.tasks[at.task], b.workers[at.worker] = true, true
		b.mu.Unlock()
		select {
		case b.more <- struct{}{}:
		default:
		}
	}
}

// begun is how many tasks have begun, and of how many workers.
func (b *journal) begun() (tasks, workers int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.tasks), len(b.workers)
}

// await waits until as many tasks have begun, of as many workers.
func (b *journal) await(tasks, workers int) {
	b.t.Helper()
	limit := time.After(hanging)
	for {
		t, w := b.begun()
		if t >= tasks && w >= workers {
			return
		}
		select {
		case <-b.more:
		case <-limit:
			b.t.Fatalf("%d tasks have begun, of %d workers, after %v, and not %d of %d", t, w, hanging, tasks, workers)
		}
	}
}

// close ends the reading; again it does nothing. No worker is left then.
func (b *journal) close() {
	select {
	case <-b.ended:
		return
	default:
	}
	if f, err := os.OpenFile(b.pipe, os.O_WRONLY, 0); err == nil {
		_, _ = f.WriteString(endOfJournal)
		_ = f.Close()
		<-b.ended
	}
}

// byTask is what the journal has of each task, once no worker is left.
func (b *journal) byTask() map[string][]beginning {
	b.close()
	all := map[string][]beginning{}
	for _, at := range b.all {
		all[at.task] = append(all[at.task], at)
	}
	return all
}

// repeats are the tasks that began more than once.
func repeats(byTask map[string][]beginning) int {
	n := 0
	for _, all := range byTask {
		if len(all) > 1 {
			n++
		}
	}
	return n
}

// wantAll fails the test unless each of n tasks has an event in the queue, and returns
// how many events there are.
func (j *job) wantAll(n int) int {
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

// stop ends workers that have nothing to do any more.
func stop(workers []*worker) {
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
	}
	for _, w := range workers {
		w.endsAfterSignal()
	}
}

func isEmpty(d depth) bool { return d.Waiting+d.Held == 0 }

// await asks for a queue's state until it is as wanted.
func (j *job) await(queue string, within time.Duration, wanted func(depth) bool) {
	j.t.Helper()
	for end := time.Now().Add(within); ; <-time.After(10 * time.Millisecond) {
		d := j.depth(queue)
		switch {
		case wanted(d):
			return
		case time.Now().After(end):
			j.t.Fatalf("%s is not as wanted after %v: %+v", queue, within, d)
		}
	}
}

// A task of ten leases is delivered once, and its message is gone as soon as it has
// been told of: no long poll that is under way holds the deletion back.
func TestQueueTenLeases(t *testing.T) { onEach(t, tenLeasesCase) }

func tenLeasesCase(t *testing.T, j *job) {
	const short = 20
	j.load(short + 1)
	b := j.newJournal()
	args := append([]string{"-j", "4", "--lease", "2"}, b.command(`[ "$CTWORKER_TASK_ID" != t0 ] || exec sleep 21`)...)
	began := time.Now()
	workers := []*worker{j.work("a", args...), j.work("b", args...)}
	b.await(short+1, 1)

	var told time.Time
	j.await("jobs-events", time.Minute, func(d depth) bool {
		told = time.Now()
		return d.Waiting == short+1
	})
	took := told.Sub(began)
	j.await("jobs", 3*time.Second, isEmpty)
	t.Logf("the long task was told of after %.1f s, and its message gone %.3f s later", took.Seconds(), time.Since(told).Seconds())
	if took < 20*time.Second {
		t.Errorf("it was told of after %v", took)
	}
	stop(workers)
	t.Logf("requests:\n%s", j.counter.Table(short+1))
	for id, all := range b.byTask() {
		if len(all) != 1 || all[0].attempt != 1 {
			t.Errorf("%s: %+v", id, all)
		}
	}
	if n := j.wantAll(short + 1); n != short+1 {
		t.Errorf("%d events", n)
	}
}

// What has been fetched ahead, as the tasks were short, is there for others within a
// second of a SIGTERM.
func TestQueueShutdownManyWaiting(t *testing.T) { onEach(t, shutdownManyWaitingCase) }

func shutdownManyWaitingCase(t *testing.T, j *job) {
	const short, waiting = 200, 9
	j.load(short)
	b := j.newJournal()
	w := j.work("w", append([]string{"-j", "1"}, b.command(`case $CTWORKER_TASK_ID in long*) while ! [ -e go ]; do sleep 0.05; done; esac`)...)...)
	b.await(short, 1)
	var long strings.Builder
	for i := range 1 + waiting {
		_, _ = fmt.Fprintf(&long, "{\"task_id\":\"long%d\",\"data\":{}}\n", i)
	}
	write(t, j.dir, "long.jsonl", long.String())
	j.do(0, "load", "--task-file", "long.jsonl")
	// Before what waits is given back by itself.
	j.await("jobs", 4*time.Second, func(d depth) bool { return d.Held == 1+waiting && d.Waiting == 0 })
	b.await(short+1, 1) // or all ten would rightly be there for others
	w.signal(syscall.SIGTERM)
	began := time.Now()
	j.await("jobs", 5*time.Second, func(d depth) bool { return d.Held == 1 && d.Waiting == waiting })
	t.Logf("%d waiting tasks were there for others %.3f s after SIGTERM", waiting, time.Since(began).Seconds())
	write(t, j.dir, "go", "")
	w.ends(0)
	j.wantTasks(waiting, 0)
	if d := j.depth("jobs-events"); d.Waiting != short+1 {
		t.Errorf("of the events: %+v", d)
	}
}
