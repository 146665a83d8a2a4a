package procexec

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// A Notice notifies every process of a run once, for example that the worker shuts down: a
// descriptor becomes readable, and, for shell scripts, a file appears.
type Notification struct {
	r    int // never read here; processes inherit it
	w    *os.File
	dir  int // descriptor of the file's directory; a task may replace what is at its path
	path string
	once sync.Once
	err  error

	closing  sync.Once
	closeErr error
}

// NewNotification returns a notice that has not been raised. Raise creates the file name in dir, which
// must be an absolute path.
func NewNotification(dir, name string) (*Notification, error) {
	if !filepath.IsAbs(dir) { // a task may have another working directory
		return nil, fmt.Errorf("notice %s: directory %q is not an absolute path", name, dir)
	}
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("notice %s: directory %s: %w", name, dir, err)
	}
	r, w, err := pipe()
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("notice %s: %w", name, err)
	}
	return &Notification{r: r, w: os.NewFile(uintptr(w), name), dir: fd, path: filepath.Join(dir, name)}, nil
}

// FD is the descriptor for processes to inherit. It stays the Notice's.
func (n *Notification) FD() uintptr { return uintptr(n.r) }

// Path is the file that appears.
func (n *Notification) Path() string { return n.path }

// Raise gives the notice, once and for good. It does not block.
func (n *Notification) Raise() error {
	n.once.Do(func() {
		// The file first: a process that the descriptor wakes must find it.
		if err := n.createFile(); err != nil {
			n.err = fmt.Errorf("notice: %s: %w", n.path, err)
		}
		// A byte makes the pipe readable; closing it keeps it so even after a
		// process has, against the rule, read the byte.
		if _, err := n.w.Write([]byte{'\n'}); err != nil {
			n.err = fmt.Errorf("notice %s: %w", n.path, err)
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

// Close releases the descriptors and removes the file. It does not raise, and
// nor does a Raise that comes after it.
func (n *Notification) Close() error {
	n.closing.Do(func() {
		n.once.Do(func() { _ = n.w.Close() })
		_ = unix.Unlinkat(n.dir, filepath.Base(n.path), 0)
		n.closeErr = os.NewSyscallError("close", errors.Join(unix.Close(n.dir), unix.Close(n.r)))
	})
	return n.closeErr
}
