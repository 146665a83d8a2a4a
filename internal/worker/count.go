package worker

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/taskfile"
)

// Counting the tasks before the run starts must not delay a large run. With these limits, counting
// takes at most about a second.
const (
	maxCountedTasks = 2_000_000
	maxCountedBytes = 256 << 20
	countBatch      = 256
)

// taskCounts are the numbers of tasks in the source, when a run continues an earlier one.
type taskCounts struct {
	total  int64
	done   int64 // number of tasks that are skipped
	failed int64 // number of tasks in done that did not complete
	rerun  int64 // number of tasks that run although they have failed before
	// repeated is the number of tasks that have the ID of an earlier task of the source. Their events cannot
	// be distinguished. It is 0 if the IDs are made of the data, because the tasks are then equal.
	repeated int64
}

// countTasks reads the tasks of the source a second time, and counts them. ok is false if the source
// cannot be read twice, is too large, or returns an error. The run itself reports such an error. j may
// be nil; countTasks does not change it.
func (w *Worker) countTasks(ctx context.Context, j *journal.Journal) (c taskCounts, ok bool) {
	tasks := w.opts.Recount
	if w.file != nil {
		tasks = w.recountFile(ctx)
	}
	if tasks == nil {
		return c, false
	}
	ids := journal.New(0) // used as a set
	defer ids.Free()
	if j == nil {
		j = journal.New(0)
	} else {
		j = j.Clone()
	}
	defer j.Free()
	ownIDs := w.hasOwnIDs()
	skip := w.skip()
	limit := limitOf(w.opts.Config)
	for task, err := range tasks {
		if err != nil || c.total >= maxCountedTasks || ctx.Err() != nil {
			return taskCounts{}, false
		}
		if skip > 0 {
			skip--
			continue
		}
		next := j.Next(task.ID)
		if !next.Skip && limit >= 0 && c.total-c.done == limit { // the run ends before this task
			break
		}
		c.add(next)
		if ownIDs {
			ids.Add(journal.Event{TaskID: []byte(task.ID)})
		}
	}
	if ownIDs {
		c.repeated = c.total - ids.Tasks()
	}
	return c, true
}

// hasOwnIDs reports whether the IDs of the tasks are not made of their data.
func (w *Worker) hasOwnIDs() bool {
	isTable := w.opts.Config.CSV != "" || strings.Contains(w.path, ".csv") || strings.Contains(w.path, ".tsv")
	return w.file != nil && w.opts.InputFile == "" && !isTable
}

// add counts a task.
func (c *taskCounts) add(next journal.Decision) {
	c.total++
	switch {
	case next.Skip:
		c.done++
		if next.Failed {
			c.failed++
		}
	case next.Rerun:
		c.rerun++
	}
}

// recountFile returns an iterator over the tasks of the task file, or nil if the file is not a local
// file of moderate size.
func (w *Worker) recountFile(ctx context.Context) iter.Seq2[pipeline.Task, error] {
	path := w.path
	if path == "" || path == "-" || strings.Contains(path, "://") {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCountedBytes {
		return nil
	}
	return func(yield func(pipeline.Task, error) bool) {
		file, err := taskfile.Open(path, taskfile.Options{Skip: w.opts.Config.TasksToSkip, CSV: w.opts.Config.CSV != "", Lines: w.opts.InputFile != ""})
		if err != nil {
			yield(pipeline.Task{}, err)
			return
		}
		defer func() { _ = file.Close(ctx) }()
		for {
			ds, err := file.Receive(ctx, countBatch)
			for _, d := range ds {
				if !yield(d.Task, nil) {
					return
				}
			}
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(pipeline.Task{}, err)
				return
			}
		}
	}
}
