package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/startup"
	"github.com/ctworker/ctworker/pipeline"
)

// newRunID returns the ID that a run writes to its events.
func newRunID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}

// lockLog locks the event log, so that no run continues from it while this run writes to it.
func (w *Worker) lockLog(ctx context.Context) error {
	cfg := w.opts.Config
	if !cfg.EventLogToFile {
		return nil
	}
	lock, err := startup.Open(ctx, func() (*journal.Lock, error) { return journal.TryLock(cfg.EventLogFile, cfg.Resume) },
		func(l *journal.Lock) { _ = l.Close() }, "event log: locking "+cfg.EventLogFile)
	if err != nil {
		return err
	}
	w.onClose(lock.Close)
	return nil
}

// resume reads the event logs of earlier runs, and makes the source skip the tasks that are done. Call
// it when the source is open and the event log is locked.
func (w *Worker) resume(ctx context.Context) error {
	cfg, log := w.opts.Config, w.opts.Log.With().Str("component", "resume").Logger()
	var rerun journal.Kinds
	if cfg.Rerun != "" {
		var err error
		if rerun, err = journal.ParseKinds(cfg.Rerun); err != nil {
			return &ConfigError{fmt.Errorf("--rerun: %w", err)}
		}
	}
	j := journal.New(rerun)
	paths := config.Lines(cfg.ResumeFrom)
	others := len(paths)
	if cfg.EventLogToFile {
		paths = append(paths, cfg.EventLogFile)
	}
	for i, path := range paths {
		damage, err := j.ReadFile(ctx, path, i >= others)
		if err != nil {
			return err
		}
		if damage.NotALog() {
			return &ConfigError{fmt.Errorf("%s: contains no event, so it is not an event log; give the event log of the earlier run", path)}
		}
		if damage.Torn {
			log.Warn().Str("file", path).Msg("ignored the incomplete last line of the event log; its task runs again")
		}
		if damage.Count > 0 {
			log.Warn().Str("file", path).Int64("line_count", damage.Count).Ints64("lines", damage.Lines).
				Msg("ignored damaged lines of the event log; their tasks run again")
		}
	}
	w.logResume(ctx, j, log)
	w.resumed = &resumedSource{Source: w.source, journal: j, first: w.skip()}
	w.source = w.resumed
	return nil
}

// logResume logs how many tasks are done, and how many will run.
func (w *Worker) logResume(ctx context.Context, j *journal.Journal, log zerolog.Logger) {
	inLog := j.Counts()
	e, done, failed, rerun := log.Info(), inLog.Done, inLog.Failed, inLog.Rerun
	if c, ok := w.countTasks(ctx, j); ok {
		w.counted, done, failed, rerun = c, c.done, c.failed, c.rerun
		e = e.Int64("total", c.total).Int64("to_run", c.total-c.done)
		if c.repeated > 0 {
			log.Warn().Int64("task_count", c.repeated).
				Msg("several tasks have the same ID, so their events cannot be distinguished, and the wrong one of them may be skipped; give each task its own ID")
		}
		if c.total > 0 && done+rerun == 0 && inLog.Done+inLog.Rerun > 0 {
			log.Warn().Int64("in_log", inLog.Done+inLog.Rerun).
				Msg("none of the finished tasks in the event log is a task of this run; check that the log belongs to these tasks")
		}
	}
	e = e.Int64("done", done).Int64("failed", failed)
	if inLog.Unfinished > 0 {
		e = e.Int64("retry", inLog.Unfinished)
	}
	switch {
	case done+rerun+inLog.Unfinished == 0:
		e.Msg("continuing: no task is done yet, so all tasks run")
	case rerun > 0:
		e.Int64("rerun", rerun).Msg("continuing: skipping the tasks that are done, and running failed tasks again")
	case failed > 0:
		e.Msg("continuing: skipping the tasks that are done; to run the failed ones again, add --rerun failed")
	default:
		e.Msg("continuing: skipping the tasks that are done")
	}
}

// resumedSource skips the tasks that are done according to a journal.
type resumedSource struct {
	pipeline.Source
	journal *journal.Journal
	first   int64        // number of tasks to skip before the journal applies (--tasks-to-skip)
	skipped atomic.Int64 // number of tasks skipped so far
	failed  atomic.Int64 // number of skipped tasks that did not complete
}

// Receive implements pipeline.Source. It returns the next tasks that are not done.
func (s *resumedSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	for {
		ds, err := s.Source.Receive(ctx, limit)
		kept := ds[:0]
		for _, d := range ds {
			if s.first > 0 {
				s.first--
				if err := d.Ack(ctx); err != nil {
					return kept, err
				}
				continue
			}
			next := s.journal.Next(d.Task.ID)
			if next.Skip {
				if err := d.Ack(ctx); err != nil { // a local lease, so this does not fail
					return kept, err
				}
				s.skipped.Add(1)
				if next.Failed {
					s.failed.Add(1)
				}
				continue
			}
			d.Attempt = max(d.Attempt, next.Attempt)
			if next.Rerun {
				d.Plumbing().SetRerun()
			}
			kept = append(kept, d)
		}
		if len(kept) > 0 || err != nil {
			return kept, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// earlier returns the number of tasks that have been skipped so far because earlier runs have done
// them, and how many of these tasks did not complete.
func (w *Worker) earlier() (done, failed int64) {
	if w.resumed == nil {
		return 0, 0
	}
	if w.counted.total > 0 {
		return w.counted.done, w.counted.failed
	}
	return w.resumed.skipped.Load(), w.resumed.failed.Load()
}
