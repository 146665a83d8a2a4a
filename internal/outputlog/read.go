package outputlog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/ctworker/ctworker/internal/rawjson"
)

// ReadOptions selects what Read returns.
type ReadOptions struct {
	// TaskIDs are the tasks to return. If it is empty, Read returns the output of all tasks, and the
	// output without a task.
	TaskIDs []string
	// Follow makes Read wait for further records at the end of the file, until ctx is done.
	Follow bool
}

// followInterval is how often a followed file is checked for new records.
const followInterval = 200 * time.Millisecond

// maxRecord is the maximum length of a line of an output log. A record has at most 64 KiB of text,
// of which each byte takes at most six bytes of JSON, and a task ID.
const maxRecord = 16 << 20

// Read calls emit for each record of the output log at path. It returns the first error of emit, or
// an error that names the damaged line. Incomplete data at the end of the file is ignored, because
// a run may be writing it. With ReadOptions.Follow, Read returns nil when ctx is done.
func Read(ctx context.Context, path string, opts ReadOptions, emit func(Record) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	var source io.Reader = &follower{ctx: ctx, file: file, follow: opts.Follow}
	if isCompressed(path) {
		decoder, err := zstd.NewReader(source, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
		if err != nil {
			return err
		}
		defer decoder.Close()
		source = decoder
	}
	var wanted [][]byte
	for _, id := range opts.TaskIDs {
		wanted = append(wanted, append(rawjson.AppendQuote([]byte(`"task_id":`), id), ','))
	}
	lines := bufio.NewReaderSize(source, 1<<16)
	for number := 1; ; number++ {
		line, err := readLine(lines)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), ctx.Err() != nil:
			return nil // the rest, if any, is incomplete
		case err != nil:
			return fmt.Errorf("%s: line %d: %w", path, number, err)
		}
		record, ok, err := parseWanted(line, number == 1, wanted)
		if err != nil {
			return fmt.Errorf("%s: line %d %w", path, number, err)
		}
		if ok && (len(opts.TaskIDs) == 0 || slices.Contains(opts.TaskIDs, record.TaskID)) {
			if err := emit(record); err != nil {
				return err
			}
		}
	}
}

// parseWanted parses a line that may contain a record of a wanted task. wanted are parts of the lines
// of these tasks. parseWanted returns false for a line of another task, an empty line and a line that
// a run was writing when it was killed.
func parseWanted(line []byte, isFirst bool, wanted [][]byte) (Record, bool, error) {
	switch {
	case len(line) == 0, !isFirst && !bytes.HasSuffix(line, []byte("}")):
		return Record{}, false, nil
	case !bytes.HasPrefix(line, []byte(prefix)):
		return Record{}, false, errors.New("is not a line of an output log: give the file of --output-log")
	case len(wanted) > 0 && !slices.ContainsFunc(wanted, func(id []byte) bool { return bytes.Contains(line, id) }):
		return Record{}, false, nil // most lines; parsing them would take most of the time
	}
	record, err := parse(line)
	return record, err == nil, err
}

// readLine returns the next line without its line break. The line is valid until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
	long := bytes.Clone(line)
	for errors.Is(err, bufio.ErrBufferFull) {
		if len(long) > maxRecord {
			return nil, errors.New("the line is too long for an output log")
		}
		line, err = r.ReadSlice('\n')
		long = append(long, line...)
	}
	return bytes.TrimSuffix(long, []byte("\n")), err
}

// follower reads a file. With follow, it waits at the end of the file for more data until ctx is
// done.
type follower struct {
	ctx    context.Context
	file   *os.File
	follow bool
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		n, err := f.file.Read(p)
		if n > 0 || !f.follow || !errors.Is(err, io.EOF) {
			return n, err
		}
		timer := time.NewTimer(followInterval)
		select {
		case <-f.ctx.Done():
			timer.Stop()
			return 0, io.EOF
		case <-timer.C:
		}
	}
}
