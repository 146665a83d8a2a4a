package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/journal"
	"github.com/ctworker/ctworker/internal/outcome"
	"github.com/ctworker/ctworker/pipeline"
)

const (
	// shownFailures is the number of failed tasks that are logged one by one, and the number of
	// failed tasks that the summary lists.
	shownFailures = 10
	// maxMessages limits the different messages that are counted for the summary.
	maxMessages = 100
	// sameFailures is the number of tasks, counted from the start of the run, that must all fail in
	// the same way before a warning is logged.
	sameFailures = 20
	// minForPercent is the number of tasks that must have ended before --max-failures with a percentage
	// applies.
	minForPercent = 20
	// overlapTasks is the number of tasks, counted from the start of the run, that are searched for in the
	// event log of earlier runs.
	overlapTasks = 2000
)

// The messages of log lines about tasks.
const (
	TaskStdout        = "task wrote to standard output"
	TaskStderr        = "task wrote to standard error"
	TaskOutputOmitted = "not shown: the task printed too many lines per second; record them with --output-log"
	TaskFailed        = "task failed"
	TaskRetried       = "task failed and will be retried"
)

// Failure describes tasks that failed in the same way.
type Failure struct {
	Kind pipeline.OutcomeKind
	// Message is the last line of the exception, or the exit code and the last line of standard error.
	// In Summary.Failures, numbers are replaced by an ellipsis.
	Message string
	Count   int64
}

// FailedTask is a failed task of the summary.
type FailedTask struct {
	ID string
	Failure
}

// outcomes observes the outcome of each task. It logs failed tasks, and ends the run if too many tasks
// fail.
type outcomes struct {
	log zerolog.Logger
	cfg *config.Config
	// logAll states that each failure is a warning, and not only the first ones.
	logAll bool
	// stop ends the run because of too many failures.
	stop func(cause error)
	// retries states that a task whose verdict is Retry will run again. Such a task is not counted as
	// failed.
	retries bool
	// earlier contains the IDs of tasks in the event log before this run; nil if there are none.
	earlier map[string]bool

	ended       atomic.Int64 // number of tasks that ended and are not retried
	consecutive int64        // number of tasks that failed since the last completed task; only calls of observe use it

	mu       sync.Mutex
	failed   int64
	logged   int64 // number of attempts passed to logFailure
	first    []FailedTask
	messages map[Failure]int64 // number of failures by Failure, whose Count is 0
	limit    error             // why stop was called
	noted    bool              // noteRetry has logged a warning
}

// observe is called for each task that ended, before its event is written. Calls do not overlap.
func (o *outcomes) observe(d *pipeline.Decision) {
	kind := d.Outcome.Kind
	if kind == pipeline.Interrupted || kind == pipeline.LeaseLost {
		return
	}
	ended := o.ended.Add(1)
	if o.earlier != nil {
		o.checkOverlap(d.Task.ID, ended)
	}
	if kind == pipeline.Completed && d.Verdict == pipeline.Ack { // without the mutex, which would slow short tasks down
		if o.consecutive != 0 {
			o.consecutive = 0
		}
		if ended == minForPercent { // later, a completed task only lowers the percentage
			o.mu.Lock()
			defer o.mu.Unlock()
			o.checkLimits()
		}
		return
	}
	o.observeOther(d)
}

// observeOther observes a task that failed or that qualifies for a retry.
func (o *outcomes) observeOther(d *pipeline.Decision) {
	o.mu.Lock()
	defer o.mu.Unlock()
	retried := o.retries && d.Verdict == pipeline.Retry
	switch {
	case d.Outcome.Kind == pipeline.Completed:
		o.consecutive = 0
		o.noteRetry(d)
		return
	case retried:
		o.ended.Add(-1)
		o.logFailure(d, failureOf(d))
		return
	}
	o.noteRetry(d)
	o.failed++
	o.consecutive++
	f := failureOf(d)
	if len(o.first) < shownFailures {
		o.first = append(o.first, FailedTask{d.Task.ID, f})
	}
	o.count(Failure{Kind: f.Kind, Message: general(d, f)})
	o.logFailure(d, f)
	o.warnIfAllTheSame()
	o.checkLimits()
}

// count counts a failure by its message.
func (o *outcomes) count(f Failure) {
	if _, known := o.messages[f]; !known && len(o.messages) >= maxMessages {
		return
	}
	if o.messages == nil {
		o.messages = map[Failure]int64{}
	}
	o.messages[f]++
}

// logFailure logs a failed attempt as a warning. Unless o.logAll is set, only the first ones are
// warnings, and all others are logged at level debug.
func (o *outcomes) logFailure(d *pipeline.Decision, f Failure) {
	e := o.log.Debug()
	if o.logged < shownFailures || o.logAll {
		e = o.log.Warn()
	}
	o.logged++
	text := TaskFailed
	if o.retries && d.Verdict == pipeline.Retry {
		text = TaskRetried
	}
	e.Str("task_id", d.Task.ID).Int("attempt", d.Attempt).Stringer("outcome", f.Kind).Str("reason", f.Message).Msg(text) // package app moves the fields into the message
	if o.logged == shownFailures+1 && !o.logAll && o.cfg.LogLevel != "debug" {
		o.log.Warn().Msg("further failed tasks are counted, but not logged; to log all of them, use --verbose")
	}
}

// noteRetry logs a warning, once, if a task qualifies for a retry but is not retried because --retries is not
// set.
func (o *outcomes) noteRetry(d *pipeline.Decision) {
	if o.retries || o.noted || d.Verdict != pipeline.Retry {
		return
	}
	o.noted = true
	o.log.Warn().Str("task_id", d.Task.ID).Msg("a task qualifies for a retry, but this run retries none; to retry tasks, use --retries N, or --resume after the run")
}

// warnIfAllTheSame logs a warning if the first tasks of the run all failed in the same way, because
// all further tasks will probably fail, too.
func (o *outcomes) warnIfAllTheSame() {
	if o.ended.Load() != sameFailures || o.failed != sameFailures || len(o.messages) != 1 {
		return
	}
	o.log.Warn().Int64("task_count", o.failed).Str("reason", o.first[0].Message).
		Msg("every task so far failed in the same way; to end such a run early, use --max-failures")
}

// checkLimits ends the run if more tasks failed than the settings allow.
func (o *outcomes) checkLimits() {
	var reason string
	ended := o.ended.Load()
	switch limit := o.cfg.MaxFailures; {
	case o.limit != nil:
		return
	case o.cfg.MaxConsecutiveFailures > 0 && o.consecutive >= o.cfg.MaxConsecutiveFailures:
		reason = fmt.Sprintf("%d tasks failed one after the other (--max-consecutive-failures %d)", o.consecutive, o.cfg.MaxConsecutiveFailures)
	case limit.Count > 0 && o.failed >= limit.Count:
		reason = fmt.Sprintf("%d tasks failed (--max-failures %s)", o.failed, o.cfg.MaxFailures)
	case limit.Percent > 0 && ended >= minForPercent && float64(o.failed)*100 >= limit.Percent*float64(ended):
		reason = fmt.Sprintf("%d of %d tasks failed (--max-failures %s)", o.failed, ended, o.cfg.MaxFailures)
	default:
		return
	}
	o.limit = errors.New(reason)
	o.log.Error().Msg("too many failures: " + reason + "; no more tasks start, and running tasks finish")
	o.stop(o.limit)
}

// checkOverlap logs a warning if an earlier run has written an event of the task.
func (o *outcomes) checkOverlap(id string, ended int64) {
	switch {
	case o.earlier[id]:
		o.log.Warn().Str("task_id", id).Str("file", o.cfg.EventLogFile).
			Msg("the event log has events of an earlier run for the same tasks; these tasks run again; to skip tasks that are done, use --resume")
	case ended < overlapTasks:
		return
	}
	o.earlier = nil
}

// onExitCode returns a function that decides by the exit code whether a task is retried. The result known is
// false if the settings do not contain the exit code. onExitCode returns nil if no exit codes are set.
func onExitCode(cfg *config.Config) func(code int) (retry, known bool) {
	if cfg.RetryOnExitCodes == (config.ExitCodes{}) && cfg.NoRetryOnExitCodes == (config.ExitCodes{}) {
		return nil
	}
	return func(code int) (retry, known bool) {
		switch {
		case cfg.NoRetryOnExitCodes.Contain(code):
			return false, true
		case cfg.RetryOnExitCodes.Contain(code):
			return true, true
		}
		return false, false
	}
}

// failureOf returns the way in which a task failed.
func failureOf(d *pipeline.Decision) Failure {
	o := &d.Outcome
	return Failure{Kind: o.Kind, Message: outcome.Reason(o.Kind, o.Exception, o.ExitCode, o.StderrLine)}
}

// general returns the message of a failure without the parts that probably differ between tasks: it
// replaces all numbers except the exit code by an ellipsis.
func general(d *pipeline.Decision, f Failure) string {
	head := ""
	if d.Outcome.Kind == pipeline.Exited {
		head = outcome.Reason(pipeline.Exited, "", d.Outcome.ExitCode, "")
	}
	return head + numbers.ReplaceAllString(f.Message[len(head):], "…")
}

var numbers = regexp.MustCompile(`[0-9]+`)

// describe sets the failures in the summary: the first failed tasks, and the most frequent messages.
func (o *outcomes) describe(s *Summary) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s.FailureLimit = o.limit
	s.FirstFailed = slices.Clone(o.first)
	for f, n := range o.messages {
		f.Count = n
		s.Failures = append(s.Failures, f)
	}
	slices.SortFunc(s.Failures, func(a, b Failure) int {
		if a.Count != b.Count {
			return int(b.Count - a.Count)
		}
		return strings.Compare(a.Message, b.Message)
	})
	s.Failures = s.Failures[:min(len(s.Failures), shownMessages)]
}

// shownMessages is the number of messages in the summary.
const shownMessages = 5

// overlapBytes is the number of bytes that are read at the start, and again at the end, of an event log of
// earlier runs.
const overlapBytes = 256 << 10

// earlierIDs returns the IDs of tasks in the first and the last part of the event log. It returns nil
// if the event log does not exist or cannot be read.
func earlierIDs(ctx context.Context, path string) map[string]bool {
	info, err := os.Stat(path) // before opening: the open of a named pipe can block
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	ids := map[string]bool{}
	for _, from := range []int64{0, max(info.Size()-overlapBytes, overlapBytes)} {
		_ = journal.Lines(ctx, io.NewSectionReader(f, from, overlapBytes), func(_ int64, line []byte, _ bool) {
			if !bytes.HasPrefix(line, []byte("{")) { // the rest of a line whose start was not read
				return
			}
			if e, ok, err := journal.Parse(line); ok && err == nil {
				ids[string(e.TaskID)] = true
			}
		})
	}
	return ids
}
