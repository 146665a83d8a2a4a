package app

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/worker"
)

// signals ends a run when signals arrive. The first signal shuts the run down, the second one kills
// the running tasks, and the third one has its default effect. It handles signals before the run
// opens any resource, because the first signal must also end an open that blocks.
type signals struct {
	display *display
	grace   time.Duration
	stop    context.CancelCauseFunc
	// worker is the worker whose tasks a second signal kills. It is nil before the worker has started.
	worker atomic.Pointer[worker.Worker]

	incoming chan os.Signal
	ended    chan struct{}
	once     sync.Once
	first    syscall.Signal // the first signal received; read it only after ended is closed
	// second reports whether a second signal was received. A repeated SIGHUP does not count.
	second atomic.Bool
	// startEnded reports whether the start has ended, with or without success.
	startEnded atomic.Bool
}

// startBound is the time after the first signal within which the start must end.
const startBound = 10 * time.Second

// signalError is the cause of a run that was stopped by a signal.
type signalError struct{ signal os.Signal }

// Error names the signal.
func (e signalError) Error() string { return fmt.Sprintf("received signal %q", e.signal) }

// watchSignals returns a context that ends at the first signal.
func watchSignals(d *display, grace time.Duration) (context.Context, *signals) {
	ctx, stop := context.WithCancelCause(context.Background())
	s := &signals{display: d, grace: grace, stop: stop, incoming: make(chan os.Signal, 4), ended: make(chan struct{})}
	notify(s.incoming)
	go s.run()
	return ctx, s
}

// notify makes the signals that request the end of the process arrive on incoming.
func notify(incoming chan<- os.Signal) {
	wanted := []os.Signal{syscall.SIGTERM}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // a signal that was ignored at the start, as under nohup, stays ignored
			wanted = append(wanted, sig)
		}
	}
	signal.Notify(incoming, wanted...)
	// If the reader of the log exits, the run must continue. With this call, a write to a broken
	// pipe returns an error instead of ending the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

func (s *signals) run() {
	defer close(s.ended)
	for received := range s.incoming {
		sig, _ := received.(syscall.Signal)
		if s.first == 0 {
			s.first = sig
			s.stop(signalError{sig}) // before announce: the log may block
			s.announce(sig)
			continue
		}
		if sig == syscall.SIGHUP {
			continue // closing a terminal can send several SIGHUPs
		}
		s.second.Store(true)
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		w := s.worker.Load()
		if w == nil { // the start blocks
			os.Exit(128 + int(sig))
		}
		running := w.Status().Running
		w.Kill(signalError{sig})
		if sig == syscall.SIGINT {
			s.display.newLine()
		}
		msg := "killing the running tasks"
		if running == 0 {
			msg = "exiting without waiting until events are written and tasks are acknowledged or released"
		}
		s.display.log.Info().Str("signal", sig.String()).Int64("running", running).Msg(msg)
	}
}

// announce logs the first signal. If the worker has not started, announce exits the process, unless
// the start ends within startBound.
func (s *signals) announce(sig syscall.Signal) {
	if sig == syscall.SIGINT {
		s.display.newLine()
	}
	log := s.display.log.Info().Str("signal", sig.String())
	if s.worker.Load() == nil {
		log.Msg("stopping before the first task")
		time.AfterFunc(startBound, func() {
			if s.worker.Load() == nil && !s.startEnded.Load() {
				os.Exit(128 + int(sig))
			}
		})
		return
	}
	running := s.worker.Load().Status().Running
	log = log.Int64("running", running)
	if running == 0 {
		log.Msg("shutting down: no tasks are running; send the signal again to end at once")
		return
	}
	log.Float64("grace_seconds", s.grace.Seconds()).
		Msg("shutting down: waiting for running tasks; send the signal again to kill them")
}

// started sets the worker whose tasks a second signal kills.
func (s *signals) started(w *worker.Worker) { s.worker.Store(w) }

// isSecond reports whether a second signal was received.
func (s *signals) isSecond() bool { return s.second.Load() }

// end stops watching for signals. It returns the first signal received, or 0.
func (s *signals) end() syscall.Signal {
	s.startEnded.Store(true)
	s.once.Do(func() {
		notify(s.display.atEnd)
		signal.Stop(s.incoming)
		close(s.incoming)
	})
	<-s.ended
	s.stop(nil)
	return s.first
}
