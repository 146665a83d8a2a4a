package procexec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ctworker/ctworker/internal/unixfd"
)

// A Notification notifies all processes of a run once, for example that the worker is shutting
// down: a descriptor becomes readable, and, for shell scripts, a file appears.
type Notification struct {
	r    int // inherited by processes; never read here
	w    *os.File
	dir  int // descriptor of the file's directory; a task may replace what is at its path
	path string
	once sync.Once
	err  error

	closing  sync.Once
	closeErr error
}

// NewNotification creates a Notification. Raise creates the file name in dir, which must be an
// absolute path. Close it after the last task.
func NewNotification(dir, name string) (*Notification, error) {
	if !filepath.IsAbs(dir) { // a task may have another working directory
		return nil, fmt.Errorf("notification %s: directory %q is not an absolute path", name, dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("notification %s: directory %s: %w", name, dir, err)
	}
	r, w, err := unixfd.Pipe()
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("notification %s: %w", name, err)
	}
	return &Notification{r: r, w: os.NewFile(uintptr(w), name), dir: fd, path: filepath.Join(dir, name)}, nil
}

// FD returns the descriptor for processes to inherit. The Notification closes it.
func (n *Notification) FD() uintptr { return uintptr(n.r) }

// Path returns the path of the file that appears.
func (n *Notification) Path() string { return n.path }

// Raise notifies the processes. It does not block. Further calls have no effect and return the
// same error.
func (n *Notification) Raise() error {
	n.once.Do(func() {
		// The file first: a process that the descriptor wakes must find it.
		if err := n.createFile(); err != nil {
			n.err = fmt.Errorf("notification: %s: %w", n.path, err)
		}
		// A byte makes the pipe readable. Closing it keeps it readable after a
		// process has read the byte, although it should not.
		if _, err := n.w.Write([]byte{'\n'}); err != nil {
			n.err = fmt.Errorf("notification %s: %w", n.path, err)
		}
		_ = n.w.Close()
	})
	return n.err
}

// createFile creates the file. Tasks run as the same user, so they can put anything at the path
// of the file or of its directory; createFile does not open or follow it. It creates the file
// under a random name in the directory that was opened before any task started, and renames it
// over whatever is at the path.
func (n *Notification) createFile() error {
	name := filepath.Base(n.path)
	hidden := "." + name + "-" + rand.Text()
	fd, err := unix.Openat(n.dir, hidden, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	_ = unix.Close(fd)
	err = unix.Renameat(n.dir, hidden, n.dir, name)
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		// A directory is in the way: move it aside with its content.
		if err = unix.Renameat(n.dir, name, n.dir, hidden+"-moved"); err == nil {
			err = unix.Renameat(n.dir, hidden, n.dir, name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(n.dir, hidden, 0)
	}
	return err
}

// Close releases the descriptors and removes the file. It does not notify the processes. Calls
// of Raise after Close have no effect.
func (n *Notification) Close() error {
	n.closing.Do(func() {
		n.once.Do(func() { _ = n.w.Close() })
		_ = unix.Unlinkat(n.dir, filepath.Base(n.path), 0)
		n.closeErr = os.NewSyscallError("close", errors.Join(unix.Close(n.dir), unix.Close(n.r)))
	})
	return n.closeErr
}
