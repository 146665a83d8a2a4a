package worker

import (
	"fmt"
	"os"
	"path/filepath"
)

// runDir is a directory that a run has for itself, with the files that notify its
// tasks. Its path is absolute, as a task may have another working directory.
type runDir struct {
	path string
	info os.FileInfo
}

func newRunDir() (runDir, error) {
	const todo = "set TMPDIR to a directory that can be written to"
	temp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return runDir{}, fmt.Errorf("directory for the notifications of tasks: %w; set TMPDIR to an absolute path", err)
	}
	path, err := os.MkdirTemp(temp, "ctworker-")
	if err != nil {
		return runDir{}, fmt.Errorf("directory for the notifications of tasks: %w; %s", err, todo)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return runDir{}, fmt.Errorf("directory for the notifications of tasks: %w; %s", err, todo)
	}
	return runDir{path, info}, nil
}

// Close removes the directory with what tasks have put into it. What a task has put
// in the directory's place is left alone: it may be anything of the user's.
func (d runDir) Close() error {
	info, err := os.Lstat(d.path)
	if err != nil || !os.SameFile(d.info, info) {
		return nil
	}
	return os.RemoveAll(d.path)
}
