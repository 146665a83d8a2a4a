package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/ctworker/ctworker/internal/retry"
)

// errClosed is returned by Read after Close.
var errClosed = errors.New("the file is closed")

// A reader reads a file to its end, and replaces failed connections. Read must not be called
// concurrently; Close may be called from any goroutine.
type reader struct {
	name     string
	obj      object
	opts     Options
	reporter *retry.Reporter

	ctx    context.Context // canceled by Close
	cancel context.CancelFunc

	mu            sync.Mutex // held by Read, and by Close after it has interrupted Read
	body          io.ReadCloser
	disconnectNow context.CancelFunc // cancels the request
	stall         *time.Timer        // calls disconnectNow
	offset        int64
	closed        bool
	err           error // permanent
}

func newReader(name string, obj object, opts Options) *reader {
	r := &reader{name: name, obj: obj, opts: opts, reporter: retry.NewReporter(opts.Log, name)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Name returns the redacted URL of the file; see redactAddress.
func (r *reader) Name() string { return r.name }

// Size returns the size of the file in bytes, or -1 if the server does not report it.
func (r *reader) Size() int64 { return r.obj.size() }

// connect opens a connection at the current offset.
func (r *reader) connect() error {
	ctx, drop := context.WithCancel(r.ctx)
	stall := time.AfterFunc(r.opts.StallTimeout, drop)
	defer stall.Stop()
	var body io.ReadCloser
	err := retry.Guard(func() (err error) { body, err = r.obj.open(ctx, r.offset); return err })
	if err != nil {
		drop()
		return r.cause(err)
	}
	r.body, r.disconnectNow, r.stall = body, drop, stall
	return nil
}

var errStalled = errors.New("the connection stalled: no data arrived in time")

// cause returns the reason if this reader has canceled the connection, and err if it has not.
func (r *reader) cause(err error) error {
	switch {
	case r.ctx.Err() != nil:
		return errClosed
	case errors.Is(err, context.Canceled):
		return errStalled
	}
	return err
}

func (r *reader) disconnect() {
	if r.body != nil {
		_ = r.body.Close() // it was only read from
		r.disconnectNow()
		r.body = nil
	}
}

// Read reads the next bytes. If the connection fails, Read reconnects, for up to
// Options.GiveUpAfter. After io.EOF or another error, all further calls return that error.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	began := time.Now() // GiveUpAfter is per call, because the caller may pause for hours between calls
	var attempt *retry.Attempt
	defer func() {
		if attempt != nil {
			attempt.End(r.err)
		}
	}()
	for tries := 1; r.err == nil; tries++ {
		n, err := r.readOnce(p)
		if n > 0 {
			r.offset += int64(n)
			if err != nil {
				r.disconnect() // the next Read reconnects, and gets the error again if it persists
			}
			return n, nil
		}
		if err != nil {
			r.disconnect()
			if attempt == nil {
				attempt = r.reporter.Begin("read")
			}
			r.err = r.onError(attempt, err, tries, began)
		}
	}
	return 0, r.err
}

// readOnce reads from the current connection. If there is none, it opens a connection first.
func (r *reader) readOnce(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, errClosed
	}
	if size := r.obj.size(); size >= 0 && r.offset >= size {
		return 0, io.EOF
	}
	if r.body == nil {
		if err := r.connect(); err != nil {
			return 0, err
		}
	}
	r.stall.Reset(r.opts.StallTimeout)
	var n int
	err := retry.Guard(func() (err error) { n, err = r.body.Read(p); return err })
	r.stall.Stop()
	return n, err
}

// onError handles an error of a connection. It returns the error with which reading ends, or nil if
// Read must try again. Before it returns nil, it waits, except after the first try.
func (r *reader) onError(attempt *retry.Attempt, err error, tries int, began time.Time) error {
	err = r.cause(err)
	size := r.obj.size()
	switch {
	case errors.Is(err, errClosed), !isTransient(err):
		return err
	case errors.Is(err, io.EOF) && (size < 0 || r.offset == size):
		return io.EOF
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	where := fmt.Sprintf("after %d bytes", r.offset)
	if size >= 0 {
		where = fmt.Sprintf("after %d of %d bytes", r.offset, size)
	}
	if since := time.Since(began); since > r.opts.GiveUpAfter {
		return fmt.Errorf("the download was interrupted %s; %d attempts to continue it failed within %v: %w", where, tries, since.Round(time.Second), err)
	}
	if tries == 1 { // most interruptions are brief
		r.opts.Log.Debug().Err(err).Str("file", r.name).Int64("offset", r.offset).Msg("connection to the server of the task file ended; continuing at the same position")
		return nil
	}
	attempt.Failed(fmt.Errorf("the download of the task file was interrupted %s: %w", where, err))
	if !retry.Pause(r.ctx, tries-2) {
		return errClosed
	}
	return nil
}

// Close closes the file. A blocked Read returns errClosed. A second Close does nothing.
func (r *reader) Close() error {
	r.cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disconnect()
	if !r.closed {
		r.closed, r.err = true, errClosed
		r.obj.close()
	}
	return nil
}
