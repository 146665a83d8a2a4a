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

// hostSource is what a host's task source writes to a pipe. The pipe's end is the
// source's only if the source says so: its process may have died.
type forkServerSource struct {
	*taskfile.Source
	host *procexec.ForkServer
	pipe *sourcePipe
	err  error
}

// Receive returns the next tasks; see pipeline.Source.
func (s *forkServerSource) Receive(ctx context.Context, limit int) ([]*pipeline.Delivery, error) {
	if s.err != nil {
		return nil, s.err
	}
	ds, err := s.Source.Receive(ctx, limit)
	broken := (*taskfile.Error)(nil)
	if !errors.Is(err, io.EOF) && !errors.As(err, &broken) {
		return ds, err
	}
	// Why the pipe has ended, or ends in the middle of a task, the host knows
	// better. A source that would go on is told that nobody reads any more.
	_ = s.pipe.Close()
	select {
	case <-s.host.SourceOver():
		s.err = err
		if ended := s.host.SourceError(); ended != nil {
			s.err = fmt.Errorf("the task source has failed: %w", ended)
		}
	case <-s.host.Lost():
		s.err = s.host.LostError()
	case <-ctx.Done():
		if len(ds) > 0 {
			return ds, nil
		}
		return nil, ctx.Err()
	}
	return ds, s.err
}

// sourcePipe is the pipe that a host's task source writes to. It ends when the source
// has, though something that the source has left behind may still hold it open.
type sourcePipe struct {
	*os.File
	over   <-chan struct{} // the host's SourceOver
	close  sync.Once
	closed chan struct{}
	ended  chan struct{} // closed when the goroutine that waits for the source has
}

func openSourcePipe(host *procexec.ForkServer, from *procexec.ForkServerSource) (*sourcePipe, error) {
	// So that a read can be woken up.
	if err := syscall.SetNonblock(from.StreamFD, true); err != nil {
		return nil, fmt.Errorf("the task source's descriptor %d: %w", from.StreamFD, err)
	}
	p := &sourcePipe{
		File: os.NewFile(uintptr(from.StreamFD), from.Name), over: host.SourceOver(),
		closed: make(chan struct{}), ended: make(chan struct{}),
	}
	go func() {
		defer close(p.ended)
		select {
		case <-p.over:
			_ = p.SetReadDeadline(time.Unix(1, 0))
		case <-p.closed:
		}
	}()
	return p, nil
}

// Read reads until the source has ended, and then what is left.
func (p *sourcePipe) Read(b []byte) (int, error) {
	n, err := p.File.Read(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	select {
	case <-p.over:
	default: // the reader's owner wants it back
		return n, err
	}
	conn, err := p.SyscallConn()
	if err != nil {
		return 0, err
	}
	if over := conn.Control(func(fd uintptr) {
		for n, err = syscall.Read(int(fd), b); errors.Is(err, syscall.EINTR); {
			n, err = syscall.Read(int(fd), b)
		}
	}); over != nil {
		return 0, over
	}
	if n <= 0 && (err == nil || errors.Is(err, syscall.EAGAIN)) {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Close closes it; what was only read from has nothing to report.
func (p *sourcePipe) Close() error {
	p.close.Do(func() {
		close(p.closed)
		<-p.ended
		_ = p.File.Close()
	})
	return nil
}
