package pipeline

import (
	"context"
	"errors"
	"fmt"
)

// Tee returns a Sink that writes every event to each of sinks, in their order. An event counts as
// written when it is durable in all of them. If one sink fails, the sinks before it may already
// contain the events. Closing the Tee closes all sinks.
func Tee(sinks ...Sink) Sink {
	for i, sink := range sinks {
		if sink == nil {
			panic(fmt.Sprintf("pipeline: Tee: sink %d is nil", i+1))
		}
	}
	if len(sinks) == 1 {
		return sinks[0]
	}
	return tee(sinks)
}

type tee []Sink

func (t tee) Write(ctx context.Context, events []Event) error {
	for _, sink := range t {
		if err := sink.Write(ctx, events); err != nil {
			return err
		}
	}
	return nil
}

func (t tee) Close(ctx context.Context) error {
	var errs []error
	for _, sink := range t {
		errs = append(errs, recovered(func() error { return sink.Close(ctx) }))
	}
	return errors.Join(errs...)
}
