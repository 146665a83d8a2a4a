package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// openError returns an error that says why the file at path could not be opened, and what to do
// about it.
func (o Options) openError(path string, err error) error {
	advice := "use another " + o.Flag
	switch dir := filepath.Dir(path); {
	case errors.Is(err, fs.ErrNotExist) && isMissing(dir):
		advice = fmt.Sprintf("create the directory %s, or ", dir) + advice
	case errors.Is(err, syscall.EISDIR):
		advice = "give the name of a file in it"
	case errors.Is(err, fs.ErrPermission):
		advice = "make it writable, or " + advice
	}
	return fmt.Errorf("%s: %w; %s", o.Name, err, advice)
}

func isMissing(dir string) bool {
	_, err := os.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// writeError returns an error that says why a write failed, and what to do about it. written is the
// number of bytes that were written.
func (o Options) writeError(err error, written int) error {
	advice := "make the file writable, then " + o.Recovery
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		advice = fmt.Sprintf("the disk is full: free some space or use another %s, then %s", o.Flag, o.Recovery)
	case errors.Is(err, errRemoved):
		return fmt.Errorf("%s: %w; its events are lost, unless you have a copy; %s", o.Name, err, o.Recovery)
	case errors.Is(err, syscall.EFBIG):
		advice = fmt.Sprintf("the file has reached the maximum allowed size: use another %s, then %s", o.Flag, o.Recovery)
	}
	if written > 0 {
		advice += " (its last line may be incomplete)"
	}
	return fmt.Errorf("%s: %w; %s", o.Name, err, advice)
}
