package retry

import (
	"errors"

	"github.com/sourcegraph/conc/panics"

	"github.com/ctworker/ctworker/pipeline"
)

// Guard calls do and returns its error. If do panics, Guard returns a *pipeline.PanicError. Guard
// is used for every call of a provider's SDK, because an SDK may panic on a corrupt response, and
// this panic must not terminate the process.
func Guard(do func() error) error {
	var err error
	if p := panics.Try(func() { err = do() }); p != nil {
		return &pipeline.PanicError{Value: p.Value, Stack: p.Stack}
	}
	return err
}

// IsPanic reports whether err wraps a *pipeline.PanicError.
func IsPanic(err error) bool {
	var p *pipeline.PanicError
	return errors.As(err, &p)
}
