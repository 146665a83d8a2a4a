package procexec_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/internal/procexec"
)

// outputs collects what the processes of a pool print. The lines of a task are separated by |.
type outputs struct {
	t         *testing.T
	mu        sync.Mutex
	text      map[string]string
	ended     map[string]int
	uncertain map[string]string // printed text → task that the text was assigned to
}

func newOutputs(t *testing.T) *outputs {
	return &outputs{t: t, text: map[string]string{}, ended: map[string]int{}, uncertain: map[string]string{}}
}

func (o *outputs) options(maxTasks int) procexec.PoolOptions {
	return procexec.PoolOptions{MaxTasks: maxTasks, Output: o.open, Streams: []procexec.Stream{procexec.Stdout, procexec.Stderr}}
}

func (o *outputs) open(task procexec.Task) procexec.TaskOutput {
	return &taskOutput{outputs: o, id: task.ID}
}

type taskOutput struct {
	*outputs
	id    string
	ended bool
}

func (o *taskOutput) Line(line procexec.OutputLine) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		o.t.Errorf("%q: a line after End", o.id)
	}
	if line.Uncertain {
		o.uncertain[string(line.Text)] = o.id
		return
	}
	o.text[o.id] += fmt.Sprintf("%d:%s|", line.Stream, line.Text)
}

func (o *taskOutput) End() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.outputs.ended[o.id]++
}

// In each kind of process, output is attributed to the task that printed it. The output of each
// task ends once.
func TestPoolOutput_BelongsToItsTask(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker", "worker-ahead", "worker-ring"} {
		for _, maxTasks := range []int{0, 1, 7} {
			t.Run(fmt.Sprint(child, ", ", maxTasks), func(t *testing.T) {
				t.Parallel()
				o := newOutputs(t)
				const n = 100
				actions := slices.Repeat([]action{{Do: "print"}}, n)
				for i := range actions {
					if i%10 == 3 {
						actions[i].Do = ""
					}
				}
				startPool(t, child, 2, o.options(maxTasks)).all(actions...)
				for i, a := range actions {
					id := fmt.Sprintf("t%d", i)
					want := []string{"1:last " + id, "1:out " + id, "2:err " + id, ""}
					if a.Do == "" {
						want = []string{""}
					}
					got := strings.Split(o.text[id], "|")
					slices.Sort(got) // the order of the two streams is not defined
					slices.Sort(want)
					if !slices.Equal(got, want) || o.ended[id] != len(want)/4 {
						t.Errorf("%s: %q, ended %d times", id, o.text[id], o.ended[id])
					}
				}
				if len(o.uncertain) > 0 || o.text[""] != "" {
					t.Errorf("uncertain: %v, without a task: %q", o.uncertain, o.text[""])
				}
			})
		}
	}
}

// A process that has printed nothing for a long time gets tasks in advance. If the process then
// prints something, this output is not lost, and later output is attributed exactly again.
func TestPoolOutput_AfterSilence(t *testing.T) {
	t.Parallel()
	for _, child := range []string{"worker-ahead", "worker-ring"} {
		t.Run(child, func(t *testing.T) {
			t.Parallel()
			o := newOutputs(t)
			r := startPool(t, child, 1, o.options(0))
			const silent = 3 * procexec.QuietTasks
			actions := slices.Repeat([]action{{}}, silent)
			actions = append(actions, action{Do: "print"})
			actions = append(actions, slices.Repeat([]action{{}}, 500)...)
			actions = append(actions, slices.Repeat([]action{{Do: "print"}}, 100)...)
			r.all(actions...)
			first := fmt.Sprintf("t%d", silent)
			for _, line := range []string{"out " + first, "last " + first, "err " + first} {
				task, uncertain := o.uncertain[line]
				if exact := strings.Contains(o.text[first], line); uncertain == exact {
					t.Errorf("%q is attributed to %q, and exactly: %t", line, task, exact)
				}
			}
			for i := len(actions) - 100; i < len(actions); i++ {
				if id := fmt.Sprintf("t%d", i); len(o.text[id]) != len("1:out |1:last |2:err |")+3*len(id) {
					t.Errorf("%s: %q", id, o.text[id])
				}
			}
		})
	}
}

// A process that exits reports its last line of standard error.
func TestPoolOutput_StderrLine(t *testing.T) {
	t.Parallel()
	for _, maxTasks := range []int{0, 1} {
		o := newOutputs(t)
		results := startPool(t, "worker-ring", 1, o.options(maxTasks)).all(action{Do: "print"}, action{Do: "print and exit", N: 3}, action{Do: "exit", N: 4})
		if got := results[1]; got.Kind != outcome.Exited || got.ExitCode != 3 || got.StderrLine != "err t1" {
			t.Errorf("%+v", got)
		}
		if got := results[2]; got.ExitCode != 4 || got.StderrLine != "" {
			t.Errorf("%+v", got)
		}
	}
}

// A process can print more than its pipe holds.
func TestPoolOutput_Flood(t *testing.T) {
	t.Parallel()
	o := newOutputs(t)
	lines := 0
	opts := o.options(0)
	opts.Output = func(task procexec.Task) procexec.TaskOutput {
		return lineCounter{func() { o.mu.Lock(); lines++; o.mu.Unlock() }}
	}
	startPool(t, "worker-ahead", 2, opts).all(action{Do: "flood", N: 20}, action{Do: "flood", N: 20}, action{Do: "print"})
	if want := 40<<10 + 3; lines != want {
		t.Errorf("%d lines, want %d", lines, want)
	}
}

type lineCounter struct{ count func() }

func (c lineCounter) Line(procexec.OutputLine) { c.count() }
func (lineCounter) End()                       {}

// A panic of a receiver ends the run with an error.
func TestPoolOutput_Panic(t *testing.T) {
	t.Parallel()
	o := newOutputs(t)
	opts := o.options(0)
	opts.Output = func(procexec.Task) procexec.TaskOutput { panic("a fault in the log") }
	r := startPool(t, "worker", 1, opts)
	r.put(action{Do: "print"}, action{Do: "flood", N: 1})
	close(r.in)
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "a fault in the log") {
		t.Errorf("error %v", err)
	}
}
