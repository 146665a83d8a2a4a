package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/cloudqueue"
	"github.com/ctworker/ctworker/internal/config"
)

// A Tool is a command that operates on the queues of a job, such as "ctworker load".
type Tool struct {
	Config *config.Config
	Stdin  io.Reader
	Stdout *os.File
	Stderr *os.File
	// Name is the start of each line about a usage error. Help is the command that prints the usage.
	Name, Help string

	ctx      context.Context
	provider cloudqueue.Provider
	log      zerolog.Logger
	display  *display
}

// toolBound is the time after the first signal within which a command must exit, even if the reader
// of its output blocks it.
const toolBound = 10 * time.Second

// start connects to the provider of the queues. The context of the Tool ends at the first signal.
// The second signal has its default effect.
func (t *Tool) start() (stop func(), err error) {
	t.display = newDisplay(t.Stderr, t.Config)
	t.log = t.display.log
	if t.provider, err = cloudqueue.Open(t.Config, t.log); err != nil {
		t.display.close()
		t.display = nil
		return nil, err
	}
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
			if sig == syscall.SIGINT {
				t.display.newLine()
			}
			time.AfterFunc(toolBound, func() { os.Exit(t.interrupted()) }) // fires only if the command hangs
		case <-ctx.Done():
		}
	}()
	return func() {
		notify(t.display.atEnd)
		signal.Stop(incoming)
		cancel(nil)
		<-ended
		t.display.close()
	}, nil
}

// usage reports what is wrong with the command line.
func (t *Tool) usage(err error) int {
	if t.display == nil {
		return Usage(t.Stderr, t.Name, t.Help, err)
	}
	return t.display.usage(t.Name, t.Help, err)
}

// print formats text and writes it to standard error.
func (t *Tool) print(format string, args ...any) { t.display.print(fmt.Sprintf(format, args...)) }

// fail logs an error and returns the exit code. If a signal was received, the signal is assumed to
// be the cause, and determines the exit code.
func (t *Tool) fail(err error) int {
	code := t.interrupted()
	if code == 0 {
		t.display.logError("", err)
		return ExitFatal
	}
	t.log.Warn().Err(err).Msg(context.Cause(t.ctx).Error()) // err need not wrap the context's error: clients return their own
	return code
}

// interrupted returns the exit code of a command that was ended by a signal before its work was
// done. It returns 0 for a command that was not ended by a signal.
func (t *Tool) interrupted() int {
	var by signalError
	if !errors.As(context.Cause(t.ctx), &by) {
		return 0
	}
	sig, _ := by.signal.(syscall.Signal)
	return 128 + int(sig)
}
