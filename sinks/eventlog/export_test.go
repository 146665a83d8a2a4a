package eventlog

// ErrRemoved is errRemoved, for tests.
var ErrRemoved = errRemoved

// ErrClosed is errClosed, for tests.
var ErrClosed = errClosed
