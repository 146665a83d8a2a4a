package program

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"github.com/ctworker/ctworker/internal/config"
	"github.com/ctworker/ctworker/internal/queue"
	"github.com/ctworker/ctworker/sinks/progress"
)

// A Tool is a command around a job's queues.
type Tool struct {
	Config *config.Config
	Stdin  io.Reader
	Stdout *os.File
	Stderr *os.File
	// Name begins the lines about a usage that is wrong, and Help is the command that
	// shows the right one.
	Name, Help string

	ctx      context.Context
	provider queue.Provider
	log      zerolog.Logger
	out      *switchWriter
	terminal bool
}

// start finds the provider. Its context ends at the first signal; the second one has
// its usual effect.
func (t *Tool) start() (stop func(), err error) {
	if t.provider, err = queue.Open(t.Config); err != nil {
		return nil, err
	}
	t.terminal = term.IsTerminal(int(t.Stderr.Fd()))
	t.out = &switchWriter{w: t.Stderr}
	t.log = newLogger(t.out, t.terminal, t.Config.Verbose)
	ctx, cancel := context.WithCancelCause(context.Background())
	t.ctx = ctx
	incoming := make(chan os.Signal, 1)
	notify(incoming)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case sig := <-incoming:
			signal.Stop(incoming)
			cancel(signalError{sig})
		case <-ctx.Done():
		}
	}()
	return func() {
		signal.Stop(incoming)
		cancel(nil)
		<-ended
	}, nil
}

// usage reports what is wrong with the command line.
func (t *Tool) usage(err error) int { return Usage(t.Stderr, t.Name, t.Help, err) }

// fail reports an error, and returns the exit code: where a signal has ended it, that
// is what is told.
func (t *Tool) fail(err error) int {
	if code := t.interrupted(); code != 0 && errors.Is(err, context.Canceled) {
		t.log.Warn().Msg(context.Cause(t.ctx).Error())
		return code
	}
	t.logError(err)
	return ExitFatal
}

// interrupted is the exit code of a tool that a signal has ended before its work was
// done, or 0.
func (t *Tool) interrupted() int {
	var by signalError
	if !errors.As(context.Cause(t.ctx), &by) {
		return 0
	}
	sig, _ := by.signal.(syscall.Signal)
	return 128 + int(sig)
}

// logError logs each line of an error.
func (t *Tool) logError(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		t.log.Error().Msg(line)
	}
}

// showProgress shows how far it has come until what it returns is called.
func (t *Tool) showProgress(status func() progress.Status) (stop func()) {
	return showProgress(status, t.Stderr, t.out, t.log, t.terminal)
}
