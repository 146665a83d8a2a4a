// Package startup opens what can hang while it is opened, such as a named pipe that no
// process reads, or a file on a network file system that does not answer.
//
//	open in a goroutine ─▶ opened, or the context ends first
//
// # The guarantee
//
// Open returns soon after its context ends, whatever the operating system does. What
// is opened later than that is closed again.
//
// # What it is not for
//
// It cannot end the system call: until that returns, a goroutine and its thread wait
// for it. Use it only in programs that end after such an error.
package startup

import (
	"context"
	"fmt"

	"github.com/ctworker/ctworker/pipeline/again"
)

// Open calls open in a goroutine and returns what it returns. If ctx ends first, Open
// returns an error that wraps the cause of ctx and names what was being done; discard
// is then called for what open returns later. A panic in open is an error.
func Open[T any](ctx context.Context, open func() (T, error), discard func(T), what string) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if ctx.Err() != nil {
		return none, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	opened := make(chan result)
	go func() {
		var v T
		err := again.Guard(func() (err error) { v, err = open(); return err })
		select {
		case opened <- result{v, err}:
		case <-ctx.Done():
			select {
			case opened <- result{v, err}: // it is being waited for all the same
			default:
				if err == nil {
					discard(v)
				}
			}
		}
	}()
	select {
	case r := <-opened:
		return r.value, r.err
	case <-ctx.Done():
		return none, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}
