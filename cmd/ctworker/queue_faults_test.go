package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ctworker/ctworker/aws"
	"github.com/ctworker/ctworker/internal/sqstest"
)

// worker is a "ctworker run" that a goroutine of its own waits for.
type worker struct {
	*invocation
	name  string
	ended chan struct{} // closed when it has been waited for
}

// work starts a worker whose tasks find its name in WORKER.
func (j *job) work(name string, args ...string) *worker {
	j.t.Helper()
	w := &worker{invocation: j.prepare(append([]string{"run"}, args...)...), name: name, ended: make(chan struct{})}
	w.cmd.Env = append(w.cmd.Env, "WORKER="+name)
	w.start()
	go func() {
		defer close(w.ended)
		_ = w.cmd.Wait()
	}()
	return w
}

// hanging is how long anything here may take that is not to hang.
const hanging = 3 * time.Minute

// ends fails the test unless the worker ends with code. One that hangs tells where.
func (w *worker) ends(code int) {
	w.t.Helper()
	select {
	case <-w.ended:
	case <-time.After(hanging):
		w.signal(syscall.SIGQUIT)
		<-w.ended
	}
	if got := w.cmd.ProcessState.ExitCode(); got != code {
		w.t.Errorf("worker %s: exit code %d, want %d; stderr:\n%s", w.name, got, code, w.stderr.String())
	}
}

// beginning is what a task reports as it begins.
type beginning struct {
	worker, task string
	attempt      int
	at           time.Time
}

// journal has the beginnings of all tasks, by the test's own clock.
type journal struct {
	pipe  string
	ended chan struct{}

	mu    sync.Mutex
	all   []beginning
	tasks map[string]bool
	half  chan struct{} // closed when half of the tasks have begun
	whole chan struct{} // closed when all have
}

// read starts a journal of n tasks.
func (j *job) read(n int) *journal {
	j.t.Helper()
	pipe, lines := fifo(j.t, j.dir)
	b := &journal{pipe: pipe, ended: make(chan struct{}), tasks: map[string]bool{}, half: make(chan struct{}), whole: make(chan struct{})}
	go b.read(lines, n)
	j.t.Cleanup(b.close)
	return b
}

// command is a task that reports to the journal and does what the script says.
func (b *journal) command(script string) []string {
	return []string{"--", "sh", "-c", `echo "$WORKER $CTWORKER_TASK_ID $CTWORKER_ATTEMPT" > '` + b.pipe + `'; ` + script}
}

const endOfJournal = "end\n"

func (b *journal) read(lines *bufio.Reader, n int) {
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
		if !b.tasks[at.task] {
			b.tasks[at.task] = true
			if len(b.tasks) == n/2 {
				close(b.half)
			}
			if len(b.tasks) == n {
				close(b.whole)
			}
		}
		b.mu.Unlock()
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

// wantAll fails the test unless each of n tasks has an event, and returns how many
// events there are.
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

// Workers that are killed lose no task: what they held runs again within a lease.
func TestQueueKilledWorkers(t *testing.T) {
	t.Parallel()
	const lease = 4 * time.Second
	tasks, nap, every := size(300, 3000), "0.2", time.Second
	if full() {
		nap, every = "0.15", 5*time.Second
	}
	j := newJob(t)
	j.load(tasks)
	b := j.read(tasks)
	// Others have to be there when the last lease of a dead worker ends.
	args := append([]string{"-j", "4", "--lease", "4", "--idle-timeout", "8"}, b.command("exec sleep "+nap)...)
	began := time.Now()
	var workers []*worker
	started := 0
	begin := func() *worker {
		started++
		return j.work(fmt.Sprintf("w%d", started), args...)
	}
	for range 4 {
		workers = append(workers, begin())
	}
	killed := map[string]time.Time{}
	var kills []time.Time
	kill := time.NewTicker(every)
	defer kill.Stop()
	limit := time.After(hanging)
	for all := false; !all; {
		select {
		case <-b.whole:
			all = true
		case <-kill.C:
			i := rand.IntN(len(workers))
			w := workers[i]
			now := time.Now()
			killed[w.name], kills = now, append(kills, now)
			w.signal(syscall.SIGKILL)
			<-w.ended
			if code := w.cmd.ProcessState.ExitCode(); code != -1 {
				t.Errorf("worker %s had ended with code %d; stderr:\n%s", w.name, code, w.stderr.String())
			}
			workers[i] = begin()
		case <-limit:
			t.Fatalf("not all tasks have begun after %v; of the queue: %+v", hanging, j.status("tasks"))
		}
	}
	took := time.Since(began)
	for _, w := range workers {
		w.ends(0)
	}
	j.wantEmpty()
	events := j.wantAll(tasks)
	if len(kills) < 2 {
		t.Errorf("%d workers were killed in %v", len(kills), took)
	}

	byTask := b.byTask()
	ran, waited, lapses := gaps(byTask, killed, kills)
	t.Logf("%d tasks, all begun after %.1f s; %d workers killed", tasks, took.Seconds(), len(kills))
	t.Logf("%d tasks began more than once; %d events; leases that ended while the worker lived: %d", repeats(byTask), events, lapses)
	t.Logf("from the death of a worker until the task that it ran began again: %s", ran)
	t.Logf("from the last death until a task that had been received began for the first time: %s", waited)
	if len(ran.all) == 0 {
		t.Error("no task was running where a worker died")
	}
	for _, g := range []durations{ran, waited} {
		if g.max() > lease+10*time.Second {
			t.Errorf("a lease of %v, and a task of a dead worker began again after %v", lease, g.max())
		}
	}
}

// gaps are the times from the death of a worker until the tasks that it held began
// again. What it had received and not begun does not say whose it was: its time counts
// from the last death before. lapses are the tasks that began again with no death.
func gaps(byTask map[string][]beginning, killed map[string]time.Time, kills []time.Time) (ran, waited durations, lapses int) {
	lastBefore := func(at time.Time) (last time.Time) {
		for _, k := range kills {
			if k.Before(at) {
				last = k
			}
		}
		return last
	}
	for _, all := range byTask {
		for i, at := range all {
			switch {
			case at.attempt == 1:
			case i > 0 && all[i-1].attempt == at.attempt-1:
				if death := killed[all[i-1].worker]; !death.IsZero() && death.Before(at.at) {
					ran.add(at.at.Sub(death))
				} else {
					lapses++
				}
			case lastBefore(at.at).IsZero():
				lapses++
			default:
				waited.add(at.at.Sub(lastBefore(at.at)))
			}
		}
	}
	return ran, waited, lapses
}

// durations are some, to tell of.
type durations struct{ all []time.Duration }

func (d *durations) add(one time.Duration) { d.all = append(d.all, one) }

func (d durations) max() (most time.Duration) {
	for _, one := range d.all {
		most = max(most, one)
	}
	return most
}

func (d durations) String() string {
	return fmt.Sprintf("%d tasks, %.2f s at most", len(d.all), d.max().Seconds())
}

// queueOf is a queue of the job, by which its state can be asked for without a process.
func (j *job) queueOf(name string) *aws.Queue {
	j.t.Helper()
	client, _ := sqstest.Client(j.t, j.server, name)
	q, err := aws.FindQueue(j.t.Context(), client, name)
	if err != nil {
		j.t.Fatal(err)
	}
	return q
}

// await asks for the queue's state until it is as wanted.
func (j *job) await(q *aws.Queue, within time.Duration, wanted func(aws.Attributes) bool) {
	j.t.Helper()
	for end := time.Now().Add(within); ; <-time.After(10 * time.Millisecond) {
		a, err := q.Attributes(j.t.Context())
		switch {
		case err != nil:
			j.t.Fatal(err)
		case wanted(a):
			return
		case time.Now().After(end):
			j.t.Fatalf("%s is not as wanted after %v: %+v", q.Name, within, a)
		}
	}
}

// A task of ten leases is delivered once, and its message is gone as soon as it has
// been told of: no long poll that is under way holds the deletion back.
func TestQueueTenLeases(t *testing.T) {
	t.Parallel()
	const short = 20
	j := newJob(t)
	tasks, events := j.queueOf("jobs"), j.queueOf("jobs-events")
	j.load(short + 1)
	b := j.read(short + 1)
	args := append([]string{"-j", "4", "--lease", "2"}, b.command(`[ "$CTWORKER_TASK_ID" != t0 ] || exec sleep 21`)...)
	began := time.Now()
	workers := []*worker{j.work("a", args...), j.work("b", args...)}
	<-b.whole

	var told time.Time
	j.await(events, time.Minute, func(a aws.Attributes) bool {
		told = time.Now()
		return a.Visible == short+1
	})
	took := told.Sub(began)
	j.await(tasks, 3*time.Second, func(a aws.Attributes) bool { return a.Visible+a.InFlight == 0 })
	t.Logf("the long task was told of after %.1f s, and its message gone %.3f s later", took.Seconds(), time.Since(told).Seconds())
	if took < 20*time.Second {
		t.Errorf("it was told of after %v", took)
	}
	for _, w := range workers {
		w.signal(syscall.SIGTERM)
		w.ends(0)
	}
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
func TestQueueShutdownManyWaiting(t *testing.T) {
	t.Parallel()
	const short, waiting = 200, 9
	j := newJob(t)
	tasks, events := j.queueOf("jobs"), j.queueOf("jobs-events")
	j.load(short)
	b := j.read(short)
	w := j.work("w", append([]string{"-j", "1"}, b.command(`case $CTWORKER_TASK_ID in long*) while ! [ -e go ]; do sleep 0.05; done; esac`)...)...)
	select {
	case <-b.whole:
	case <-time.After(time.Minute):
		t.Fatalf("the short tasks are not over; stderr:\n%s", w.stderr.String())
	}
	var long strings.Builder
	for i := range 1 + waiting {
		_, _ = fmt.Fprintf(&long, "{\"task_id\":\"long%d\",\"data\":{}}\n", i)
	}
	write(t, j.dir, "long.jsonl", long.String())
	j.do(0, "load", "--task-file", "long.jsonl")
	// Before what waits is given back by itself.
	j.await(tasks, 4*time.Second, func(a aws.Attributes) bool { return a.InFlight == 1+waiting && a.Visible == 0 })
	w.signal(syscall.SIGTERM)
	began := time.Now()
	j.await(tasks, 5*time.Second, func(a aws.Attributes) bool { return a.InFlight == 1 && a.Visible == waiting })
	t.Logf("%d waiting tasks were there for others %.3f s after SIGTERM", waiting, time.Since(began).Seconds())
	write(t, j.dir, "go", "")
	w.ends(0)
	if a, err := tasks.Attributes(t.Context()); err != nil || a.Visible != waiting || a.InFlight != 0 {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := events.Attributes(t.Context()); err != nil || a.Visible != short+1 {
		t.Errorf("of the events: %+v, %v", a, err)
	}
}
