package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// cannotOpen says why the file at path could not be opened and what to do about
// it.
func cannotOpen(path string, err error) error {
	todo := "give another --event-log-file"
	switch dir := filepath.Dir(path); {
	case errors.Is(err, fs.ErrNotExist) && isMissing(dir):
		todo = fmt.Sprintf("make the directory %s first, or ", dir) + todo
	case errors.Is(err, syscall.EISDIR):
		todo = "give the name of a file in it"
	case errors.Is(err, fs.ErrPermission):
		todo = "see that it can be written to, or " + todo
	}
	return fmt.Errorf("event log: %w; %s", err, todo)
}

func isMissing(dir string) bool {
	_, err := os.Stat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// explain says what a failed write means and what to do about it.
func explain(err error, written int) error {
	todo := "see that it can be written to, and run what has no event again"
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		todo = "the disk is full: free some space, or give another --event-log-file, and run what has no event again"
	case errors.Is(err, ErrRemoved):
		return fmt.Errorf("event log: %w; nothing keeps its events now: run all that it told of again, or what has no event in a copy that you have", err)
	case errors.Is(err, syscall.EFBIG):
		todo = "the file has reached the largest size that is allowed: give another --event-log-file, and run what has no event again"
	}
	if written > 0 {
		todo += " (its last line may be cut off)"
	}
	return fmt.Errorf("event log: %w; %s", err, todo)
}
