package main

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// holders has which worker received which attempt of which task.
type holders struct {
	mu sync.Mutex
	of map[held]string
}

type held struct {
	task    string
	attempt int
}

// before returns the address of a proxy that sees what the worker receives.
func (h *holders) before(j *job, worker string) string {
	return j.watch(func(task string, attempt int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.of[held{task, attempt}] = worker
	})
}

// again has how long what was held by a worker that died took to begin again, by
// whether it ran there or was on its way to.
type again struct {
	ran, waited durations
	// lapses are the tasks that began again while the worker that held them lived.
	lapses int
	// unknown are those of which nobody knows who had them: an answer died with a worker.
	unknown int
}

// begunAgain looks at what came of each death. No worker is left.
func (h *holders) begunAgain(byTask map[string][]beginning, deaths map[string]time.Time) (a again) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for task, all := range byTask {
		for i, at := range all {
			if at.attempt == 1 {
				continue
			}
			holder, known := h.of[held{task, at.attempt - 1}]
			death, died := deaths[holder]
			switch {
			case !known:
				a.unknown++
			case !died || death.After(at.at):
				a.lapses++
			case i > 0 && all[i-1].worker == holder:
				a.ran.add(at.at.Sub(death))
			default:
				a.waited.add(at.at.Sub(death))
			}
		}
	}
	return a
}

// durations are some, to tell of.
type durations []time.Duration

func (d *durations) add(one time.Duration) { *d = append(*d, one) }

func (d durations) max() (most time.Duration) {
	for _, one := range d {
		most = max(most, one)
	}
	return most
}

func (d durations) String() string {
	return fmt.Sprintf("%d tasks, %.2f s at most", len(d), d.max().Seconds())
}

// Workers that are killed lose no task: what they held runs again within a lease.
func TestQueueKilledWorkers(t *testing.T) { onEach(t, killedWorkersCase) }

func killedWorkersCase(t *testing.T, j *job) {
	const lease = 4 * time.Second
	tasks, nap, every := size(300, 3000), "0.2", time.Second
	if full() {
		nap, every = "0.15", 5*time.Second
	}
	j.countAttempts()
	j.load(tasks)
	b, h := j.newJournal(), &holders{of: map[held]string{}}
	args := append([]string{"-j", "4", "--lease", "4"}, b.command("exec sleep "+nap)...)
	began := time.Now()
	var workers []*worker
	started := 0
	begin := func() *worker {
		started++
		name := fmt.Sprintf("w%d", started)
		j.via(h.before(j, name))
		defer j.via(j.home)
		return j.work(name, args...)
	}
	for range 4 {
		workers = append(workers, begin())
	}
	deaths := map[string]time.Time{}
	kill := time.NewTicker(every)
	defer kill.Stop()
	limit := time.After(hanging)
	for n := 0; n < tasks; n, _ = b.begun() {
		select {
		case <-b.more:
		case <-kill.C:
			i := rand.IntN(len(workers))
			w := workers[i]
			deaths[w.name] = time.Now()
			w.signal(syscall.SIGKILL)
			<-w.ended
			if code := w.cmd.ProcessState.ExitCode(); code != -1 {
				t.Errorf("worker %s had ended with code %d; stderr:\n%s", w.name, code, w.stderr.String())
			}
			workers[i] = begin()
		case <-limit:
			t.Fatalf("%d tasks have begun after %v; of the queue: %+v", n, hanging, j.depth("jobs"))
		}
	}
	took := time.Since(began)
	j.await("jobs", hanging, isEmpty)
	stop(workers)
	n := j.wantAll(tasks)

	byTask := b.byTask()
	a := h.begunAgain(byTask, deaths)
	t.Logf("%d tasks, all begun after %.1f s; %d workers killed", tasks, took.Seconds(), len(deaths))
	t.Logf("%d tasks began more than once; %d events; leases that ended while the worker lived: %d", repeats(byTask), n, a.lapses)
	t.Logf("from the death of a worker until what ran there began again: %s; what waited there: %s; unknown: %d", a.ran, a.waited, a.unknown)
	if len(deaths) < 2 || len(a.ran) == 0 {
		t.Errorf("%d workers were killed, and %d tasks that ran there began again", len(deaths), len(a.ran))
	}
	if most := max(a.ran.max(), a.waited.max()); most > lease+10*time.Second {
		t.Errorf("a lease of %v, and a task of a dead worker began again after %v", lease, most)
	}
}
