package procexec

import (
	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/utf8cut"
)

const (
	maxTaskWarnings     = 16   // maximum number of texts per run; tasks could otherwise fill the log
	maxTaskWarningBytes = 2048 // maximum length of a text
)

// taskWarnings logs the warnings that processes add to their replies. It logs each text only once.
// It is not safe for concurrent use.
type taskWarnings struct {
	seen map[string]bool
}

// take returns a function that logs the warning. It returns nil if the same text was logged before,
// or if the maximum number of texts is reached.
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
