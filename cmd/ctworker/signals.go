package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/worker"
)

// signals ends a worker as a user asks for it: in order at the first signal, at
// once at the second. A third one has its usual effect.
type signals struct {
	worker *worker.Worker
	log    zerolog.Logger
	grace  time.Duration

	incoming chan os.Signal
	ended    chan struct{}
	once     sync.Once
	first    syscall.Signal // the first one received; read after ended
}

// signalError is why a run was stopped.
type signalError struct{ signal os.Signal }

// Error names the signal.
func (e signalError) Error() string { return fmt.Sprintf("received signal %q", e.signal) }

func watchSignals(w *worker.Worker, log zerolog.Logger, grace time.Duration) *signals {
	s := &signals{worker: w, log: log, grace: grace, incoming: make(chan os.Signal, 4), ended: make(chan struct{})}
	wanted := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it, and that stands
		wanted = append(wanted, syscall.SIGHUP)
	}
	signal.Notify(s.incoming, wanted...)
	// A reader of the log that goes away must not take the run with it: with
	// this, a write to a broken pipe is an error and no longer the end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go s.run()
	return s
}

func (s *signals) run() {
	defer close(s.ended)
	for received := range s.incoming {
		sig, _ := received.(syscall.Signal)
		if s.first == 0 {
			s.first = sig
			s.log.Info().Str("signal", sig.String()).Dur("grace", s.grace).
				Msg("stopping: no further task is started, running tasks may finish; once more ends them at once")
			s.worker.Stop(signalError{sig})
			continue
		}
		s.log.Info().Str("signal", sig.String()).Msg("killing the running tasks")
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		s.worker.Kill(signalError{sig})
	}
}

// stop ends the watching and returns the first signal, or 0.
func (s *signals) stop() syscall.Signal {
	s.once.Do(func() {
		signal.Stop(s.incoming)
		close(s.incoming)
	})
	<-s.ended
	return s.first
}
