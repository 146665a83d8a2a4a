package procexec

import (
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	maxTaskWarnings     = 16   // texts per run; limited because they come from tasks
	maxTaskWarningBytes = 2048 // length of one text
)

// taskWarnings logs the warnings that processes add to their replies, each text once. It is not
// safe for concurrent use.
type taskWarnings struct {
	seen map[string]bool
}

// take returns a function that logs the warning of a task, or nil if the text or the maximum
// number of texts has been logged already.
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
			Msg("task sent a warning; it is logged once per run")
	}
}
