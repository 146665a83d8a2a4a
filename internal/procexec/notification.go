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

// A Notification notifies all running tasks of an event that happens once, for example the shutdown
// of the worker. A descriptor that tasks inherit becomes readable. For shell scripts, which cannot
// easily test a descriptor, a file also appears.
type Notification struct {
	r    int // inherited by tasks; this program never reads from it
	w    *os.File
	dir  int // the directory, opened before a task could replace it
	path string
	once sync.Once
	err  error

	closing  sync.Once
	closeErr error
}

// NewNotification returns a Notification. Raise will create a file called name in the directory
// dir. The path dir must be absolute, because a task may have another working directory. Close the
// Notification after the last task.
func NewNotification(dir, name string) (*Notification, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("notification %s: the directory %q must be an absolute path", name, dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("notification %s: open directory %s: %w", name, dir, err)
	}
	r, w, err := unixfd.Pipe()
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("notification %s: %w", name, err)
	}
	return &Notification{r: r, w: os.NewFile(uintptr(w), name), dir: fd, path: filepath.Join(dir, name)}, nil
}

// FD returns the descriptor that tasks inherit. Only Close may close it.
func (n *Notification) FD() uintptr { return uintptr(n.r) }

// Path returns the path of the file that Raise creates.
func (n *Notification) Path() string { return n.path }

// Raise notifies the tasks. It does not block. Only the first call has an effect; further calls
// return the same error.
func (n *Notification) Raise() error {
	n.once.Do(func() {
		// Create the file before the descriptor becomes readable. A task that waits for the
		// descriptor then finds the file.
		if err := n.createFile(); err != nil {
			n.err = fmt.Errorf("notification: create the file %s: %w", n.path, err)
		}
		// The byte makes the pipe readable. Tasks must not read the byte. If a task does, the pipe
		// is still readable, because the writing end is closed.
		if _, err := n.w.Write([]byte{'\n'}); err != nil {
			n.err = fmt.Errorf("notification %s: %w", n.path, err)
		}
		_ = n.w.Close()
	})
	return n.err
}

// createFile creates the file, even if a task has created something else at its path. Tasks run as
// the same user, so they can replace the file and its directory, for example with a symbolic link.
// Therefore createFile uses the directory that NewNotification opened. It creates a file with a
// random name there, and renames the file. Renaming replaces a symbolic link without following it.
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
		// A task has created a directory with that name. Rename the directory, because a file
		// cannot replace it.
		if err = unix.Renameat(n.dir, name, n.dir, hidden+"-moved"); err == nil {
			err = unix.Renameat(n.dir, hidden, n.dir, name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(n.dir, hidden, 0)
	}
	return err
}

// Close closes the descriptors and removes the file. It does not notify the tasks. After Close,
// Raise has no effect.
func (n *Notification) Close() error {
	n.closing.Do(func() {
		n.once.Do(func() { _ = n.w.Close() })
		_ = unix.Unlinkat(n.dir, filepath.Base(n.path), 0)
		n.closeErr = os.NewSyscallError("close", errors.Join(unix.Close(n.dir), unix.Close(n.r)))
	})
	return n.closeErr
}
