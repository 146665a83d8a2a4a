package procexec

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// A Notice is something that every process of a run is told once, such as that
// the worker shuts down: a descriptor that becomes readable, and, for shell
// scripts, a file that appears.
type Notice struct {
	r    int // never read here; processes inherit it
	w    *os.File
	path string
	once sync.Once
	err  error

	closing  sync.Once
	closeErr error
}

// NewNotice returns a notice that has not been raised. Its file will appear in
// dir under name.
func NewNotice(dir, name string) (*Notice, error) {
	r, w, err := pipe()
	if err != nil {
		return nil, fmt.Errorf("notice %s: %w", name, err)
	}
	return &Notice{r: r, w: os.NewFile(uintptr(w), name), path: filepath.Join(dir, name)}, nil
}

// FD is the descriptor for processes to inherit. It stays the Notice's.
func (n *Notice) FD() uintptr { return uintptr(n.r) }

// Path is the file that appears.
func (n *Notice) Path() string { return n.path }

// Raise gives the notice, once and for good. It does not block.
func (n *Notice) Raise() error {
	n.once.Do(func() {
		// The file first: who is woken by the descriptor shall find it.
		f, err := os.Create(n.path)
		if err != nil {
			n.err = fmt.Errorf("notice: %w", err)
		} else {
			_ = f.Close()
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

// Close releases the descriptors and removes the file. It does not raise, and
// nor does a Raise that comes after it.
func (n *Notice) Close() error {
	n.closing.Do(func() {
		n.once.Do(func() { _ = n.w.Close() })
		_ = os.Remove(n.path)
		n.closeErr = os.NewSyscallError("close", syscall.Close(n.r))
	})
	return n.closeErr
}
