package pipeline

import "errors"

// AsShutdownTimeout returns the contents of the shutdownTimeoutError that err wraps. ok is false if
// err wraps no shutdownTimeoutError.
func AsShutdownTimeout(err error) (stages []string, unsettled int, tasks []string, ok bool) {
	var e *shutdownTimeoutError
	if !errors.As(err, &e) {
		return nil, 0, nil, false
	}
	return e.stages, e.unsettled, e.tasks, true
}
