package main

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// preempted is a worker on a machine that can be taken away.
type preempted struct {
	*worker
	notice atomic.Pointer[string] // what its metadata service says of it
	began  time.Time
}

// preemption is how machines are taken away: with a notice before, or without.
type preemption struct {
	tasks                int
	least, most          time.Duration // of a task
	every, before, lease time.Duration
	notice               bool
}

// lost is what preemptions have cost.
type lost struct {
	machines, again, events int
	took                    time.Duration
	// machine are the seconds of all slots that machines were there, and useful those in
	// which a task ran to its end for the first time.
	machine, useful float64
}

func (l lost) String() string {
	return fmt.Sprintf("%.0f s; %d machines taken away; %d tasks ran more than once; %d events; of %.0f slot-seconds %.1f %% were of no use",
		l.took.Seconds(), l.machines, l.again, l.events, l.machine, 100*(1-l.useful/l.machine))
}

// run runs the tasks with four workers, one of which is taken away every so often, and
// another started in its place.
func (p preemption) run(t *testing.T) (l lost) {
	t.Helper()
	const slots = 4
	c, address := startSQS(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[0], cloud: c, counter: c.counter(), home: address}
	j.via(address)
	j.load(p.tasks)
	b := j.newJournal()
	script := fmt.Sprintf(`n=${CTWORKER_TASK_ID#t}; exec sleep $(awk "BEGIN { print %.3f + ($n * 7919 %% 1000) / 1000 * %.3f }")`, p.least.Seconds(), (p.most - p.least).Seconds())
	args := append([]string{"-j", fmt.Sprint(slots), "--lease", fmt.Sprint(p.lease.Seconds()), "--is-spot", "--termination-margin", "1"}, b.command(script)...)
	started := 0
	begin := func() *preempted {
		started++
		w := &preempted{began: time.Now()}
		none := ""
		w.notice.Store(&none)
		url := metadataServer(t, map[string]func() string{"/latest/meta-data/spot/instance-action": func() string { return *w.notice.Load() }})
		j.via(address)
		j.vars = append(j.vars, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+url)
		w.worker = j.work(fmt.Sprintf("w%d", started), args...)
		return w
	}
	began := time.Now()
	var machines []*preempted
	for range slots {
		machines = append(machines, begin())
	}
	gone := make(chan *preempted, 1000) // taken away
	end := func(w *preempted) {
		<-w.ended
		l.machine += slots * time.Since(w.began).Seconds()
	}
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	pending := 0
	for d := j.depth("jobs"); !isEmpty(d); d = j.depth("jobs") {
		select {
		case w := <-gone:
			pending--
			end(w)
		case <-tick.C:
			i := rand.IntN(len(machines))
			w := machines[i]
			machines[i] = begin()
			l.machines++
			pending++
			wait := time.Duration(0)
			if p.notice {
				at := time.Now().Add(p.before)
				text := fmt.Sprintf(`{"action":"terminate","time":%q}`, at.UTC().Format(time.RFC3339Nano))
				w.notice.Store(&text)
				wait = p.before
			}
			time.AfterFunc(wait, func() {
				_ = w.cmd.Process.Signal(syscall.SIGKILL) // it may have ended by itself
				gone <- w
			})
		case <-time.After(50 * time.Millisecond):
		}
	}
	l.took = time.Since(began)
	for range pending {
		end(<-gone)
	}
	for _, w := range machines {
		w.signal(syscall.SIGTERM)
		w.endsAfterSignal()
		end(w)
	}
	seen := map[string]bool{}
	for _, e := range j.readEvents() {
		l.events++
		if id, ok := e["task_id"].(string); ok && !seen[id] {
			seen[id] = true
			took, _ := e["elapsed_time"].(float64)
			l.useful += took
		}
	}
	for i := range p.tasks {
		if id := fmt.Sprintf("t%d", i); !seen[id] {
			t.Errorf("%s has no event", id)
		}
	}
	l.again = repeats(b.byTask())
	return l
}

// Machines that are taken away lose no task, and with a notice they waste less.
func TestSpotPreemptions(t *testing.T) {
	t.Parallel()
	p := preemption{tasks: size(60, 200), least: 200 * time.Millisecond, most: time.Second, every: 2 * time.Second, before: 3 * time.Second, lease: 4 * time.Second}
	if p.tasks > 200 {
		p = preemption{tasks: p.tasks, least: time.Second, most: 5 * time.Second, every: 10 * time.Second, before: 10 * time.Second, lease: time.Minute}
	}
	p.notice = true
	t.Logf("with a notice of %v: %v", p.before, p.run(t))
	p.notice = false
	t.Logf("without: %v", p.run(t))
}
