package again

import (
	"errors"
	"fmt"

	"github.com/sourcegraph/conc/panics"
)

// A PanicError is a panic that Guard has recovered.
type PanicError struct {
	// Value is what was passed to panic.
	Value any
	// Stack is the stack of the goroutine that panicked.
	Stack []byte
}

// Error returns the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the panic's value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Guard calls do and returns its error, or a *PanicError if it panics. Every call of a
// provider's SDK goes through it: a corrupt response must not terminate the process.
func Guard(do func() error) error {
	var err error
	if p := panics.Try(func() { err = do() }); p != nil {
		return &PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}

// IsPanic reports whether err wraps a *PanicError.
func IsPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}
