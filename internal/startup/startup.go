// Package startup opens resources whose opening can block, such as a named pipe that no process
// reads, or a file on a network file system that does not respond.
//
//	open, in a goroutine ─▶ result, or an error when the context is done
//
// # The guarantee
//
// Open returns soon after its context is done, even if the system call still blocks. If the
// resource is opened after that, it is closed again.
//
// # Limits
//
// The package cannot interrupt the system call: a goroutine and its thread remain blocked until
// it returns. Use it only in programs that exit after such an error.
package startup

import (
	"context"
	"fmt"

	"github.com/ctworker/ctworker/internal/retry"
)

// Open calls open in a goroutine and returns its result. If ctx is done first, Open returns an
// error that wraps the cause of ctx. The text of the error starts with what, which names the
// operation. If open succeeds after that, the goroutine calls discard with the value that open
// returned. If open panics, Open returns the panic as an error.
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
		err := retry.Guard(func() (err error) { v, err = open(); return err })
		select {
		case opened <- result{v, err}:
		case <-ctx.Done():
			select {
			case opened <- result{v, err}: // Open is still receiving
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
