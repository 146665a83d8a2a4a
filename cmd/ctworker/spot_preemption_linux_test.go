package main

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// instance is a worker on a simulated spot instance.
type instance struct {
	*worker
	notice    atomic.Pointer[string] // what the metadata service of the instance returns
	startedAt time.Time
}

// preemption configures how instances are terminated, and whether a notice precedes the termination.
type preemption struct {
	tasks                       int
	minRuntime, maxRuntime      time.Duration // of a task
	interval, noticeTime, lease time.Duration
	hasNotice                   bool
}

// cost is the cost of the preemptions in a run.
type cost struct {
	terminated, repeated, events int
	duration                     time.Duration
	// slotSeconds is the sum of the lifetimes of all slots. usefulSeconds is the part of slotSeconds
	// that was spent on executions that completed a task for the first time.
	slotSeconds, usefulSeconds float64
}

func (c cost) String() string {
	return fmt.Sprintf("%.0f s; %d instances terminated; %d tasks ran more than once; %d events; %.0f slot-seconds, %.1f %% of them idle or wasted",
		c.duration.Seconds(), c.terminated, c.repeated, c.events, c.slotSeconds, 100*(1-c.usefulSeconds/c.slotSeconds))
}

// run runs the tasks on four workers. At each interval, it terminates one worker and starts another
// one.
func (p preemption) run(t *testing.T) (l cost) {
	t.Helper()
	const slots = 4
	c, address := startSQS(t)
	j := &job{t: t, dir: t.TempDir(), provider: providers[0], cloud: c, counter: c.counter(), counterAddress: address}
	j.useAddress(address)
	j.load(p.tasks)
	b := j.recordStarts()
	script := fmt.Sprintf(`n=${CTWORKER_TASK_ID#t}; exec sleep $(awk "BEGIN { print %.3f + ($n * 7919 %% 1000) / 1000 * %.3f }")`, p.minRuntime.Seconds(), (p.maxRuntime - p.minRuntime).Seconds())
	args := append([]string{"-j", fmt.Sprint(slots), "--lease", fmt.Sprint(p.lease.Seconds()), "--is-spot", "--termination-margin", "1"}, b.command(script)...)
	count := 0
	startInstance := func() *instance {
		count++
		w := &instance{startedAt: time.Now()}
		none := ""
		w.notice.Store(&none)
		url := metadataServer(t, map[string]func() string{"/latest/meta-data/spot/instance-action": func() string { return *w.notice.Load() }})
		j.useAddress(address)
		j.vars = append(j.vars, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+url)
		w.worker = j.work(fmt.Sprintf("w%d", count), args...)
		return w
	}
	startedAt := time.Now()
	var instances []*instance
	for range slots {
		instances = append(instances, startInstance())
	}
	terminated := make(chan *instance, 1000) // terminated instances
	end := func(w *instance) {
		<-w.exited
		l.slotSeconds += slots * time.Since(w.startedAt).Seconds()
	}
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	pending := 0
	for d := j.depth("jobs"); !isEmpty(d); d = j.depth("jobs") {
		select {
		case w := <-terminated:
			pending--
			end(w)
		case <-tick.C:
			i := rand.IntN(len(instances))
			w := instances[i]
			instances[i] = startInstance()
			l.terminated++
			pending++
			wait := time.Duration(0)
			if p.hasNotice {
				at := time.Now().Add(p.noticeTime)
				text := fmt.Sprintf(`{"action":"terminate","time":%q}`, at.UTC().Format(time.RFC3339Nano))
				w.notice.Store(&text)
				wait = p.noticeTime
			}
			time.AfterFunc(wait, func() {
				_ = w.cmd.Process.Signal(syscall.SIGKILL) // it may have exited before
				terminated <- w
			})
		case <-time.After(50 * time.Millisecond):
		}
	}
	l.duration = time.Since(startedAt)
	for range pending {
		end(<-terminated)
	}
	for _, w := range instances {
		w.signal(syscall.SIGTERM)
		w.wantExitAfterSignal()
		end(w)
	}
	seen := map[string]bool{}
	for _, e := range j.readEvents() {
		l.events++
		if id, ok := e["task_id"].(string); ok && !seen[id] {
			seen[id] = true
			took, _ := e["elapsed_time"].(float64)
			l.usefulSeconds += took
		}
	}
	for i := range p.tasks {
		if id := fmt.Sprintf("t%d", i); !seen[id] {
			t.Errorf("%s has no event", id)
		}
	}
	l.repeated = countRepeated(b.byTask())
	return l
}

// Terminated instances lose no task. With a notice they waste less time.
func TestSpot_Preemptions(t *testing.T) {
	t.Parallel()
	p := preemption{tasks: taskCount(60, 200), minRuntime: 200 * time.Millisecond, maxRuntime: time.Second, interval: 2 * time.Second, noticeTime: 3 * time.Second, lease: 4 * time.Second}
	if p.tasks > 200 {
		p = preemption{tasks: p.tasks, minRuntime: time.Second, maxRuntime: 5 * time.Second, interval: 10 * time.Second, noticeTime: 10 * time.Second, lease: time.Minute}
	}
	p.hasNotice = true
	t.Logf("with a notice of %v: %v", p.noticeTime, p.run(t))
	p.hasNotice = false
	t.Logf("without a notice: %v", p.run(t))
}
