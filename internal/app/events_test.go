package app

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// WriteLines blocks while nothing reads, and returns an error soon after the first signal.
func TestStdoutWriter_ReaderThatHasStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{reads: make(chan struct{})}
		stopped, stop := context.WithCancelCause(t.Context())
		w := stdoutWriter{r, stopped}
		time.AfterFunc(time.Hour, func() { stop(signalError{syscall.SIGTERM}) })
		began := time.Now()
		err := w.WriteLines(t.Context(), [][]byte{[]byte("{}")})
		if took := time.Since(began); !errors.As(err, new(signalError)) || !strings.Contains(err.Error(), "nothing reads the standard output") || took != time.Hour+stdoutLinger {
			t.Errorf("error %v after %v", err, took)
		}
		close(r.reads)
		synctest.Wait()
		if err := w.WriteLines(t.Context(), [][]byte{[]byte("{1}"), []byte("{2}")}); err != nil {
			t.Errorf("a reader that reads: %v", err)
		}
		if got := r.String(); got != "{}\n{1}\n{2}\n" {
			t.Errorf("wrote %q", got)
		}
	})
}
