package worker

import (
	"fmt"
	"os"
	"path/filepath"
)

// runDir is the temporary directory of the run. It contains the files that notify tasks.
// Its path is absolute, because a task may have a different working directory.
type runDir struct {
	path string
	info os.FileInfo
}

func newRunDir() (runDir, error) {
	const todo = "set TMPDIR to a writable directory"
	temp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return runDir{}, fmt.Errorf("temporary directory: %w; set TMPDIR to an absolute path", err)
	}
	path, err := os.MkdirTemp(temp, "ctworker-")
	if err != nil {
		return runDir{}, fmt.Errorf("temporary directory: %w; %s", err, todo)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return runDir{}, fmt.Errorf("temporary directory: %w; %s", err, todo)
	}
	return runDir{path, info}, nil
}

// Close removes the directory, including any files that tasks have created in it. If a task
// has replaced the directory, Close removes nothing, because the replacement may contain
// the user's data.
func (d runDir) Close() error {
	info, err := os.Lstat(d.path)
	if err != nil || !os.SameFile(d.info, info) {
		return nil
	}
	return os.RemoveAll(d.path)
}
