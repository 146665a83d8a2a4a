package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/ctworker/ctworker/internal/procexec"
	"github.com/ctworker/ctworker/pipeline"
	"github.com/ctworker/ctworker/sources/taskfile"
)

// forkServerSource reads the tasks that the task source of a fork server writes to a pipe. The end
// of the pipe is the end of the tasks only if the fork server confirms that the source has ended
// normally, because the writing process may have died.
type forkServerSource struct {
	*taskfile.Source
	forkServer *procexec.ForkServer
	pipe       *sourcePipe
	err        error
}

// Receive implements pipeline.Source.
func (s *forkServerSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if s.err != nil {
		return nil, s.err
	}
	ds, err := s.Source.Receive(ctx, limit)
	syntaxErr := (*taskfile.Error)(nil)
	if !errors.Is(err, io.EOF) && !errors.As(err, &syntaxErr) {
		return ds, err
	}
	// The pipe has ended, possibly in the middle of a task. The fork server knows the
	// reason. Closing the pipe stops a source that is still writing.
	_ = s.pipe.Close()
	select {
	case <-s.forkServer.SourceDone():
		s.err = err
		if sourceErr := s.forkServer.SourceError(); sourceErr != nil {
			s.err = fmt.Errorf("task source failed: %w", sourceErr)
		}
	case <-s.forkServer.Exited():
		s.err = s.forkServer.ExitError()
	case <-ctx.Done():
		if len(ds) > 0 {
			return ds, nil
		}
		return nil, ctx.Err()
	}
	return ds, s.err
}

// sourcePipe is the pipe that the task source of a fork server writes to. Read returns io.EOF when
// the source has ended, even if a process that the source has started still holds the pipe open.
type sourcePipe struct {
	*os.File
	sourceDone <-chan struct{} // the fork server's SourceDone
	close      sync.Once
	closed     chan struct{}
	ended      chan struct{} // closed when the goroutine that waits for sourceDone has ended
}

func openSourcePipe(forkServer *procexec.ForkServer, from *procexec.ForkServerSource) (*sourcePipe, error) {
	// Nonblocking mode makes it possible to interrupt a read.
	if err := syscall.SetNonblock(from.StreamFD, true); err != nil {
		return nil, fmt.Errorf("file descriptor %d of the task source: %w", from.StreamFD, err)
	}
	p := &sourcePipe{
		File: os.NewFile(uintptr(from.StreamFD), from.Name), sourceDone: forkServer.SourceDone(),
		closed: make(chan struct{}), ended: make(chan struct{}),
	}
	go func() {
		defer close(p.ended)
		select {
		case <-p.sourceDone:
			_ = p.SetReadDeadline(time.Unix(1, 0))
		case <-p.closed:
		}
	}()
	return p, nil
}

// Read reads until the source has ended, and then the remaining data.
func (p *sourcePipe) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	select {
	case <-p.sourceDone:
	default: // the deadline was set by the reader
		return n, err
	}
	conn, err := p.SyscallConn()
	if err != nil {
		return 0, err
	}
	if controlErr := conn.Control(func(fd uintptr) {
		for n, err = syscall.Read(int(fd), b); errors.Is(err, syscall.EINTR); {
			n, err = syscall.Read(int(fd), b)
		}
	}); controlErr != nil {
		return 0, controlErr
	}
	if n <= 0 && (err == nil || errors.Is(err, syscall.EAGAIN)) {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Close closes the pipe. It always returns nil.
func (p *sourcePipe) Close() error {
	p.close.Do(func() {
		close(p.closed)
		<-p.ended
		_ = p.File.Close()
	})
	return nil
}
