package eventlog

// ErrRemoved is errRemoved, for tests.
var ErrRemoved = errRemoved

// SetLock is setLock.
func SetLock(fd, how int) error { return setLock(fd, how) }

// Warned reports whether the Log has logged a warning about its lock.
func (l *Log) Warned() bool { return l.appender.warned }
