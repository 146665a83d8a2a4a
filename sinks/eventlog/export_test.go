package eventlog

// ErrRemoved is errRemoved, for tests.
var ErrRemoved = errRemoved
