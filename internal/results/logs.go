package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ctworker/ctworker/internal/journal"
)

// Logs are open event logs. They can be read several times. They are not safe for concurrent use.
type Logs struct {
	logs []*eventLog
	// Damage describes, for each log, the lines that are not events. Export sets it.
	Damage []journal.Damage
}

// eventLog is an open log. It is read up to size, so that each pass sees the same lines even if a run
// appends to the log.
type eventLog struct {
	name string
	file *os.File
	size int64
}

// Open opens the logs with the given paths. "-" is stdin. A log that is not a regular file, such as a
// pipe, is first copied to a temporary file, which has no name and vanishes when it is closed. Open
// returns ctx's error if ctx is done while it copies.
func Open(ctx context.Context, paths []string, stdin io.Reader) (*Logs, error) {
	l := &Logs{Damage: make([]journal.Damage, len(paths))}
	for _, path := range paths {
		log, err := openLog(ctx, path, stdin)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		l.logs = append(l.logs, log)
		if err := log.checkStart(); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func openLog(ctx context.Context, path string, stdin io.Reader) (*eventLog, error) {
	if path == "-" {
		return spool(ctx, "standard input", stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("event log: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("event log: %w", err), f.Close())
	case info.IsDir():
		return nil, errors.Join(fmt.Errorf("event log %s: is a directory; give the name of a file", path), f.Close())
	case info.Mode().IsRegular():
		return &eventLog{path, f, info.Size()}, nil
	}
	log, err := spool(ctx, path, f)
	return log, errors.Join(err, f.Close())
}

// spool copies r to a temporary file.
func spool(ctx context.Context, name string, r io.Reader) (*eventLog, error) {
	f, err := unnamedFile()
	if err != nil {
		return nil, fmt.Errorf("copy %s to a temporary file: %w", name, err)
	}
	size, err := io.Copy(f, contextReader{ctx, r})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy %s to a temporary file: %w", name, err), f.Close())
	}
	return &eventLog{name, f, size}, nil
}

// unnamedFile returns a temporary file that the system deletes when it is closed, even after kill -9.
func unnamedFile() (*os.File, error) {
	f, err := os.CreateTemp("", "ctworker-results-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// contextReader is a reader that fails when ctx is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}

// checkStart returns an error if the log is compressed.
func (l *eventLog) checkStart() error {
	var start [4]byte
	n, err := l.file.ReadAt(start[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("event log: %w", err)
	}
	for _, c := range []struct{ magic, name, program string }{
		{"\x1f\x8b", "gzip", "gzip"},
		{"\x28\xb5\x2f\xfd", "Zstandard", "zstd"},
	} {
		if bytes.HasPrefix(start[:n], []byte(c.magic)) {
			return fmt.Errorf("event log %s: is compressed with %s; pass the uncompressed log through a pipe, with -: %s -dc FILE | ctworker results -", l.name, c.name, c.program)
		}
	}
	return nil
}

// Close closes the logs.
func (l *Logs) Close() error {
	var err error
	for _, log := range l.logs {
		err = errors.Join(err, log.file.Close())
	}
	return err
}

// Contains reports whether a log is the file that info describes.
func (l *Logs) Contains(info os.FileInfo) bool {
	for _, log := range l.logs {
		if own, err := log.file.Stat(); err == nil && os.SameFile(own, info) {
			return true
		}
	}
	return false
}

// A line is a line of a log that is not empty.
type line struct {
	log      int   // index of the log
	number   int64 // number of the line in its log, from 1
	ordinal  int64 // number of the line among those of all logs that are not empty, from 0
	text     []byte
	complete bool // the line ends with a line break
}

// each calls f for each line of all logs, and returns the number of lines. It ends at the first error of f.
func (l *Logs) each(ctx context.Context, f func(line) error) (count int64, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for i, log := range l.logs {
		err := journal.Lines(ctx, contextReader{ctx, io.NewSectionReader(log.file, 0, log.size)}, func(number int64, text []byte, complete bool) {
			if ctx.Err() != nil {
				return
			}
			if err := f(line{i, number, count, text, complete}); err != nil {
				stop(err)
			}
			count++
		})
		if cause := context.Cause(ctx); cause != nil {
			return count, cause
		}
		if err != nil {
			return count, fmt.Errorf("event log %s: %w", log.name, err)
		}
	}
	return count, nil
}
