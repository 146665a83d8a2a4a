package procexec

import (
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	maxTaskWarnings     = 16   // different texts per run, as the text comes from a task
	maxTaskWarningBytes = 2048 // of one text
)

// taskWarnings logs the warnings that processes add to their replies, each text once.
// The caller synchronizes calls of take.
type taskWarnings struct {
	seen map[string]bool
}

// take returns a function that logs the warning of a task, or nil if the same text has
// been logged before or too many have.
func (w *taskWarnings) take(log *zerolog.Logger, taskID, text string) func() {
	text = utf8cut.Start(text, maxTaskWarningBytes)
	if w.seen[text] || len(w.seen) >= maxTaskWarnings {
		return nil
	}
	if w.seen == nil {
		w.seen = make(map[string]bool)
	}
	w.seen[text] = true
	return func() {
		log.Warn().Str("first_task_id", taskID).Str("warning", text).
			Msg("a task's process sent a warning; the same one is not logged again")
	}
}
