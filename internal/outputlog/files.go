package outputlog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// attemptFiles are the text files of one attempt, one per stream. A file is created for the first
// line of its stream.
type attemptFiles struct {
	log     *Log
	taskID  string
	attempt int
	stdout  *os.File
	stderr  *os.File
	// omitted is true after a note about omitted lines: the next piece of a long line starts a new line.
	omitted bool
	failed  bool
}

// write writes the line of a record, or a note about omitted lines.
func (f *attemptFiles) write(r *Record) {
	file := &f.stdout
	if r.Stream == Stderr {
		file = &f.stderr
	}
	if f.failed {
		return
	}
	var err error
	if *file == nil {
		*file, err = f.open(r.Stream)
	}
	if err == nil {
		text := append(append(make([]byte, 0, len(r.Text)+1), r.Text...), '\n')
		switch {
		case r.OmittedLines > 0:
			text = fmt.Appendf(nil, "[ctworker omitted %d lines (%d bytes) of standard output and standard error]\n", r.OmittedLines, r.OmittedBytes)
		case r.Continued && !f.omitted: // join the pieces of a long line: overwrite the line break
			_, err = (*file).Seek(-1, io.SeekCurrent)
		}
		f.omitted = r.OmittedLines > 0
		if err == nil {
			_, err = (*file).Write(text)
		}
	}
	if err != nil {
		f.failed = true
		f.log.fileFailed(err)
	}
}

func (f *attemptFiles) open(stream Stream) (*os.File, error) {
	dir := filepath.Join(f.log.opts.Dir, FileName(f.taskID))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(f.attempt)+"."+string(stream)), os.O_CREATE|os.O_WRONLY, 0o666)
	if err == nil {
		_, err = file.Seek(0, io.SeekEnd) // an earlier run may have written the output of its own first attempt
	}
	return file, err
}

func (f *attemptFiles) close() {
	for _, file := range []*os.File{f.stdout, f.stderr} {
		if file == nil {
			continue
		}
		if err := file.Close(); err != nil && !f.failed {
			f.failed = true
			f.log.fileFailed(err)
		}
	}
}

// maxName is the maximum length of a name that FileName returns. File systems allow 255 bytes.
const maxName = 200

// FileName returns a name for a file or directory that belongs to a task. Different tasks have
// different names. Letters, digits and the characters _ - + = @ and . stay as they are, except a
// period at the start; every other byte becomes % and two hexadecimal digits, as in a URL. A name of
// more than 200 bytes is cut, and %~ and the start of the task ID's SHA-256 are appended.
func FileName(taskID string) string {
	var b strings.Builder
	for i := range len(taskID) {
		c := taskID[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("_-+=@", c) >= 0, c == '.' && i > 0:
			_ = b.WriteByte(c)
		default:
			_, _ = fmt.Fprintf(&b, "%%%02X", c)
		}
		if b.Len() > maxName {
			sum := sha256.Sum256([]byte(taskID))
			return b.String()[:maxName-40] + "%~" + hex.EncodeToString(sum[:16])
		}
	}
	return b.String()
}
