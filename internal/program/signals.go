package program

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"github.com/ctworker/ctworker/internal/worker"
)

// signals ends a run as a user asks for it: in order at the first signal, at
// once at the second. A third one has its usual effect. It watches from before
// the first task can start.
type signals struct {
	log   zerolog.Logger
	grace time.Duration
	stop  context.CancelCauseFunc
	// worker is what a second signal kills, once there is one.
	worker atomic.Pointer[worker.Worker]

	incoming chan os.Signal
	ended    chan struct{}
	once     sync.Once
	first    syscall.Signal // the first one received; read after ended
}

// signalError is why a run was stopped.
type signalError struct{ signal os.Signal }

// Error names the signal.
func (e signalError) Error() string { return fmt.Sprintf("received signal %q", e.signal) }

// watchSignals returns a context that ends at the first signal.
func watchSignals(log zerolog.Logger, grace time.Duration) (context.Context, *signals) {
	ctx, stop := context.WithCancelCause(context.Background())
	s := &signals{log: log, grace: grace, stop: stop, incoming: make(chan os.Signal, 4), ended: make(chan struct{})}
	notify(s.incoming)
	go s.run()
	return ctx, s
}

// notify has the signals that ask for an end delivered to incoming.
func notify(incoming chan<- os.Signal) {
	wanted := []os.Signal{syscall.SIGTERM}
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGHUP} {
		if !signal.Ignored(sig) { // a background job of a script, nohup: that stands
			wanted = append(wanted, sig)
		}
	}
	signal.Notify(incoming, wanted...)
	// A reader of the log that goes away must not take the run with it: with
	// this, a write to a broken pipe is an error and no longer the end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
}

func (s *signals) run() {
	defer close(s.ended)
	for received := range s.incoming {
		sig, _ := received.(syscall.Signal)
		if s.first == 0 {
			s.first = sig
			s.stop(signalError{sig}) // before a word of it: the log may be blocked
			s.log.Info().Str("signal", sig.String()).Float64("grace_seconds", s.grace.Seconds()).
				Msg("stopping: running tasks may finish; once more kills them")
			continue
		}
		if sig == syscall.SIGHUP {
			continue // a terminal that closes sends several, and nobody has lost patience
		}
		signal.Reset(syscall.SIGINT, syscall.SIGTERM)
		w := s.worker.Load()
		if w == nil { // it hangs while it opens something
			os.Exit(128 + int(sig))
		}
		w.Kill(signalError{sig})
		s.log.Info().Str("signal", sig.String()).Msg("killing the running tasks")
	}
}

// end ends the watching and returns the first signal, or 0.
func (s *signals) end() syscall.Signal {
	s.once.Do(func() {
		signal.Stop(s.incoming)
		close(s.incoming)
	})
	<-s.ended
	s.stop(nil)
	return s.first
}
