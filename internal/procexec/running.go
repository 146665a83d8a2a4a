package procexec

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// A RunningTask is a task that runs.
type RunningTask struct {
	ID            string
	Attempt, Slot int
	StartedAt     time.Time
	Pid           int // 0 if the task runs in this process
}

// errNotResponding means that the event loop of a pool did not answer in time.
var errNotResponding = errors.New("the process pool does not respond")

// Running returns the running tasks, those that have run the longest first. It asks the event loop of
// the pool. If the loop does not answer before ctx is done, Running returns an error. If no run uses the
// pool, no tasks are running.
func (p *Pool) Running(ctx context.Context) ([]RunningTask, error) {
	ask := p.ask.Load()
	if ask == nil {
		return nil, nil
	}
	tasks, err := (*ask)(ctx)
	sortByAge(tasks)
	return tasks, err
}

func sortByAge(tasks []RunningTask) {
	slices.SortFunc(tasks, func(a, b RunningTask) int {
		return cmp.Or(a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.Slot, b.Slot))
	})
}

// ask asks the loop for the running tasks. It is called by other goroutines.
func (l *loop[J, R]) ask(ctx context.Context) ([]RunningTask, error) {
	answer := make(chan []RunningTask, 1)
	select {
	case l.events <- event[J]{running: answer}:
	case <-l.done:
		return nil, nil
	case <-ctx.Done():
		return nil, errNotResponding
	}
	select {
	case tasks := <-answer:
		return tasks, nil
	case <-l.done:
		return nil, nil
	case <-ctx.Done():
		return nil, errNotResponding
	}
}

// running answers ask.
func (l *loop[J, R]) running() []RunningTask {
	var tasks []RunningTask
	for _, s := range l.slots {
		w := s.current
		if w == nil || w.proc == nil || w.sent.len() == 0 || w.finalResult != nil {
			continue
		}
		task := w.sent.first().task
		tasks = append(tasks, RunningTask{ID: task.ID, Attempt: task.Attempt, Slot: s.index, StartedAt: w.headStartedAt, Pid: w.proc.Pid()})
	}
	return tasks
}

// Tracker tracks running tasks. The zero value is ready to use. It is safe for concurrent use.
type Tracker struct {
	mu    sync.Mutex
	tasks map[int]RunningTask // by slot
}

// Add adds a task that runs from now on.
func (t *Tracker) Add(task RunningTask) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tasks == nil {
		t.tasks = map[int]RunningTask{}
	}
	t.tasks[task.Slot] = task
}

// Remove removes the task of a slot.
func (t *Tracker) Remove(slot int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.tasks, slot)
}

// Running returns the running tasks, those that have run the longest first.
func (t *Tracker) Running() []RunningTask {
	t.mu.Lock()
	defer t.mu.Unlock()
	tasks := make([]RunningTask, 0, len(t.tasks))
	for _, task := range t.tasks {
		tasks = append(tasks, task)
	}
	sortByAge(tasks)
	return tasks
}
