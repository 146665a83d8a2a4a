package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// receivers records which worker received which attempt of which task.
type receivers struct {
	mu       sync.Mutex
	workerOf map[attemptKey]string
}

type attemptKey struct {
	task    string
	attempt int
}

// newProxy returns the address of a proxy that records what the worker receives.
func (h *receivers) newProxy(j *job, worker string) string {
	return j.watch(func(task string, attempt int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.workerOf[attemptKey{task, attempt}] = worker
	})
}

// restarts contains, for each task of a killed worker, the time from the death of the worker until
// the task started again on another worker. The list running is for tasks that were running on the
// killed worker, and the list waiting for tasks that were waiting there.
type restarts struct {
	running, waiting durations
	// leaseExpired is the number of tasks that started again although their worker was alive.
	leaseExpired int
	// unknown is the number of tasks whose earlier worker is unknown, because the response that delivered the
	// task was lost.
	unknown int
}

// restartsAfter computes the restarts. All workers must have exited.
func (h *receivers) restartsAfter(byTask map[string][]taskStart, deaths map[string]time.Time) (a restarts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for task, all := range byTask {
		for i, at := range all {
			if at.attempt == 1 {
				continue
			}
			holder, known := h.workerOf[attemptKey{task, at.attempt - 1}]
			death, died := deaths[holder]
			switch {
			case !known:
				a.unknown++
			case !died || death.After(at.at):
				a.leaseExpired++
			case i > 0 && all[i-1].worker == holder:
				a.running.add(at.at.Sub(death))
			default:
				a.waiting.add(at.at.Sub(death))
			}
		}
	}
	return a
}

// durations is a list of durations with a summary.
type durations []time.Duration

func (d *durations) add(one time.Duration) { *d = append(*d, one) }

func (d durations) max() (longest time.Duration) {
	for _, one := range d {
		longest = max(longest, one)
	}
	return longest
}

func (d durations) String() string {
	return fmt.Sprintf("%d tasks, at most %.2f s", len(d), d.max().Seconds())
}

// If workers are killed, no task is lost: their tasks run again after at most the lease duration.
func TestQueue_KilledWorkers(t *testing.T) { onEach(t, killedWorkersCase) }

func killedWorkersCase(t *testing.T, j *job) {
	const lease = 4 * time.Second
	tasks, nap, every := taskCount(300, 3000), "0.2", time.Second
	if isFullSize() {
		nap, every = "0.15", 5*time.Second
	}
	j.countAttempts()
	j.load(tasks)
	b, h := j.recordStarts(), &receivers{workerOf: map[attemptKey]string{}}
	args := append([]string{"-j", "4", "--lease", "4"}, b.command("exec sleep "+nap)...)
	startedAt := time.Now()
	var workers []*worker
	count := 0
	startWorker := func() *worker {
		count++
		name := fmt.Sprintf("w%d", count)
		j.useAddress(h.newProxy(j, name))
		defer j.useAddress(j.counterAddress)
		return j.work(name, args...)
	}
	for range 4 {
		workers = append(workers, startWorker())
	}
	deaths := map[string]time.Time{}
	kill := time.NewTicker(every)
	defer kill.Stop()
	limit := time.After(testTimeout)
	for n := 0; n < tasks; n, _ = b.counts() {
		select {
		case <-b.added:
		case <-kill.C:
			i := rand.IntN(len(workers))
			w := workers[i]
			deaths[w.name] = time.Now()
			w.signal(syscall.SIGKILL)
			<-w.exited
			if code := w.cmd.ProcessState.ExitCode(); code != -1 {
				t.Errorf("worker %s had exited with code %d; stderr:\n%s", w.name, code, w.stderr.String())
			}
			workers[i] = startWorker()
		case <-limit:
			t.Fatalf("%d tasks have started after %v; depth of the queue: %+v", n, testTimeout, j.depth("jobs"))
		}
	}
	took := time.Since(startedAt)
	j.await("jobs", testTimeout, isEmpty)
	stopWorkers(workers)
	n := j.wantEventOfEach(tasks)

	byTask := b.byTask()
	a := h.restartsAfter(byTask, deaths)
	t.Logf("%d tasks, all started after %.1f s; %d workers killed", tasks, took.Seconds(), len(deaths))
	t.Logf("%d tasks started more than once; %d events; %d leases expired although the worker was alive", countRepeated(byTask), n, a.leaseExpired)
	t.Logf("time from the death of a worker until its tasks started again: running tasks: %s; waiting tasks: %s; worker unknown: %d tasks", a.running, a.waiting, a.unknown)
	if len(deaths) < 2 || len(a.running) == 0 {
		t.Errorf("%d workers were killed and %d of their running tasks started again, want at least 2 and 1", len(deaths), len(a.running))
	}
	if longest := max(a.running.max(), a.waiting.max()); longest > lease+10*time.Second {
		t.Errorf("a task of a killed worker started again after %v, with a lease of %v", longest, lease)
	}
}
