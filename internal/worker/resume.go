package worker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/redact"
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
		if damage.Torn {
			log.Warn().Str("file", path).Msg("ignored the incomplete last line of the event log; its task runs again")
		}
		if damage.Count > 0 {
			log.Warn().Str("file", path).Int64("line_count", damage.Count).Ints64("lines", damage.Lines).
				Msg("ignored damaged lines of the event log; their tasks run again")
		}
	}
	w.logResume(ctx, j, log)
	w.resumed = &resumedSource{Source: w.source, journal: j}
	w.source = w.resumed
	return nil
}

// logResume logs how many tasks are done, and how many will run.
func (w *Worker) logResume(ctx context.Context, j *journal.Journal, log zerolog.Logger) {
	inLog := j.Counts()
	e, done, failed, rerun := log.Info(), inLog.Done, inLog.Failed, inLog.Rerun
	if c, ok := w.countTasks(ctx, j); ok {
		w.total, done, failed, rerun = c.total, c.done, c.failed, c.rerun
		e = e.Int64("total", c.total).Int64("to_run", c.total-c.done)
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
		e.Msg("continuing: skipping the tasks that are done; add --rerun failed to run the failed ones again")
	default:
		e.Msg("continuing: skipping the tasks that are done")
	}
}

// resumedSource skips the tasks that are done according to a journal.
type resumedSource struct {
	pipeline.Source
	journal *journal.Journal
	skipped atomic.Int64 // number of tasks skipped so far
	failed  atomic.Int64 // number of skipped tasks that did not complete
}

// Receive implements pipeline.Source. It returns the next tasks that are not done.
func (s *resumedSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	for {
		ds, err := s.Source.Receive(ctx, limit)
		kept := ds[:0]
		for _, d := range ds {
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
	return w.resumed.skipped.Load(), w.resumed.failed.Load()
}

// advise sets the commands that continue the run and that run its failed tasks again. It sets no
// commands if the command line of this program is not known, if the run writes no event log, or if the
// tasks come from a queue.
func (w *Worker) advise(s *Summary) {
	cfg := w.opts.Config
	if len(w.opts.Command) == 0 || !cfg.EventLogToFile || w.fromQueue() {
		return
	}
	command := func(flags ...string) string {
		if slices.ContainsFunc(w.opts.Command, func(arg string) bool { return redact.Text(arg) != arg }) {
			return strings.TrimSpace("the command of this run "+withFlags(flags)) + " (not shown, because it contains credentials)"
		}
		at := min(w.opts.FlagsAt, len(w.opts.Command))
		rest := w.opts.Command[at:]
		if len(flags) > 0 && len(rest) > 0 && rest[0] == "--resume" { // --resume comes from the advice of an earlier run; --rerun implies it
			rest = rest[1:]
		}
		return shellCommand(slices.Concat(w.opts.Command[:at], flags, rest))
	}
	failed := s.NotCompleted()+s.EarlierFailed > 0
	if s.Incomplete || s.RetriesLeft() {
		if cfg.Resume {
			s.ContinueWith = command()
		} else {
			s.ContinueWith = command("--resume")
		}
	}
	switch {
	case !failed:
	case cfg.Rerun == "":
		s.RerunWith = command("--rerun", "failed")
	case cfg.Rerun == "failed" && s.ContinueWith == "": // otherwise it is ContinueWith
		s.RerunWith = command()
	}
}

// withFlags returns the part of an advice that names flags to add to a command, or "" if there are none.
func withFlags(flags []string) string {
	if len(flags) == 0 {
		return ""
	}
	return "with " + strings.Join(flags, " ")
}

// shellCommand returns the text of a command line for a POSIX shell.
func shellCommand(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = shellQuote(arg)
	}
	return strings.Join(quoted, " ")
}

func shellQuote(arg string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	}
	if arg != "" && strings.IndexFunc(arg, func(r rune) bool { return !plain(r) }) < 0 {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
