package taskfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/ctworker/ctworker/internal/units"
)

// fileKind is the format of a task file, without its compression.
type fileKind uint8

const (
	unknownKind fileKind = iota // determined from the first byte
	jsonArray
	jsonLines
	yamlList
	csvTable
	tsvTable
	inputList
)

// maxWindow is the maximum window size of a zstd file. A reader needs about that much memory. The
// zstd command has the same default limit.
const maxWindow = 128 << 20

// content is the content of an open task file.
type content struct {
	format     format
	bomLength  int64         // size of the byte order mark before the text
	compressed string        // "gzip", "zstd" or ""
	raw        *counter      // the file
	buffer     *bufio.Reader // reads from raw
	zstd       *zstd.Decoder // nil unless compressed is "zstd"
}

// contentOptions configures openContent. The functions may be nil.
type contentOptions struct {
	limit       int64           // maximum size of an entry in bytes
	lines       bool            // each line of the file is an input
	csv         bool            // the file is a CSV or TSV file, whatever its name
	beforeRead  func()          // called before a read that may block
	onAmbiguous func(Ambiguity) // called at most once; File and Entry are not set
}

// counter counts the bytes read from a file.
type counter struct {
	src io.Reader
	n   int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += int64(n)
	return n, err
}

// openContent determines the format of src from its first bytes and its name. It also returns a
// content if it returns an error, because describeError needs the content.
func openContent(src io.Reader, path string, opts contentOptions) (*content, error) {
	c := &content{raw: &counter{src: src}}
	c.buffer = bufio.NewReaderSize(c.raw, chunkSize)
	kind, promised := kindOf(path)
	plain, err := c.decompress(promised)
	if err != nil {
		return c, err
	}
	t := newText(plain)
	if c.bomLength, err = skipBOM(t); err != nil {
		return c, err
	}
	if t.r == t.w && t.err != nil && !errors.Is(t.err, io.EOF) {
		return c, t.err
	}
	switch {
	case opts.lines:
		kind = inputList
	case opts.csv && kind != tsvTable:
		kind = csvTable
	case kind == unknownKind:
		kind = sniff(t)
	}
	t.beforeRead = opts.beforeRead
	switch kind {
	case inputList:
		c.format = newInputLines(t, opts.limit)
	case yamlList:
		c.format = newYAML(t, opts)
	case csvTable:
		c.format = newCSV(t, opts.limit, separatorOf(t))
	case tsvTable:
		c.format = newCSV(t, opts.limit, '\t')
	default:
		c.format = newJSON(t, kind, opts.limit)
	}
	return c, nil
}

// skipBOM removes a byte order mark, and returns its size. It returns an error if the text is not UTF-8.
func skipBOM(t *text) (size int64, err error) {
	start := t.peek(2)
	if bytes.HasPrefix([]byte{0xEF, 0xBB}, start) {
		start = t.peek(3)
	}
	switch {
	case bytes.HasPrefix(start, []byte{0xEF, 0xBB, 0xBF}):
		t.skipBOM(3)
		return 3, nil
	case bytes.HasPrefix(start, []byte{0xFE, 0xFF}), bytes.HasPrefix(start, []byte{0xFF, 0xFE}),
		len(start) >= 2 && (start[0] == 0 || start[1] == 0):
		return 0, &Error{Reason: "the file is UTF-16 or UTF-32 text: save it as UTF-8"}
	}
	return 0, nil
}

// kindOf returns the kind and the compression that the extensions of a file name indicate.
func kindOf(path string) (k fileKind, compression string) {
	name := strings.ToLower(filepath.Base(path))
	switch filepath.Ext(name) {
	case ".gz", ".gzip":
		compression = "gzip"
	case ".zst", ".zstd":
		compression = "zstd"
	}
	if compression != "" {
		name = strings.TrimSuffix(name, filepath.Ext(name))
	}
	switch filepath.Ext(name) {
	case ".json":
		k = jsonArray
	case ".jsonl", ".ndjson":
		k = jsonLines
	case ".yaml", ".yml":
		k = yamlList
	case ".csv":
		k = csvTable
	case ".tsv":
		k = tsvTable
	}
	return k, compression
}

// sniff determines the kind of the file from the first byte that is not white space. When sniff has
// found this byte, it does not read further, because a read from a pipe may block.
func sniff(t *text) fileKind {
	for {
		start := bytes.TrimLeft(t.buf[t.r:t.w], jsonSpace)
		switch {
		case len(start) > 0 && start[0] == '[':
			return jsonArray
		case len(start) > 0 && start[0] == '{':
			return jsonLines
		case len(start) > 0, t.w == len(t.buf), t.err != nil:
			return yamlList
		}
		if t.more() != nil {
			return yamlList
		}
	}
}

// decompress returns a reader of the decompressed text. It determines the compression from the
// first bytes. promised is the compression that the file name indicates, or "" if the name indicates
// none. If promised is not "", and the content is not of that compression, decompress returns an
// error.
func (c *content) decompress(promised string) (io.Reader, error) {
	var start []byte
	var err error
	for n := 1; n <= maxMagic && err == nil; n++ { // no more bytes than necessary, because a read from a pipe may block
		start, err = c.buffer.Peek(n)
		if c.compressed = compression(start); c.compressed != "" || !mayBeCompressed(start) {
			break
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case promised != "" && c.compressed != promised:
		is := "not compressed"
		if c.compressed != "" {
			is = c.compressed
		}
		return nil, &Error{Reason: fmt.Sprintf("the name says %s, but the content is %s: rename the file or compress it", promised, is)}
	case c.compressed == "":
		return c.buffer, nil
	case c.compressed == "gzip":
		return newGzipReader(c)
	case c.compressed == "zstd":
		// Concurrency 1 makes the decoder read in the caller's goroutine.
		c.zstd, err = zstd.NewReader(&zstdFrames{content: c}, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		return c.zstd, err
	default:
		return nil, &Error{Reason: fmt.Sprintf("the file is %s: of the compressed formats only gzip and zstd can be read", c.compressed)}
	}
}

// maxMagic is the maximum length of the bytes with which a compressed format starts.
const maxMagic = 6

// mayBeCompressed reports whether start is shorter than the first bytes of a compressed format and equal to
// their start.
func mayBeCompressed(start []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "\x28\xb5\x2f\xfd", "BZh", "\xfd7zXZ\x00", "PK\x03\x04"} {
		if len(start) < len(magic) && strings.HasPrefix(magic, string(start)) {
			return true
		}
	}
	const skippable = "\x2a\x4d\x18" // after a byte from 0x50 to 0x5f
	return len(start) > 0 && len(start) <= len(skippable) && start[0]&0xF0 == 0x50 && strings.HasPrefix(skippable, string(start[1:]))
}

// compression returns the name of the compressed format that starts with these bytes, or "".
func compression(start []byte) string {
	switch {
	case bytes.HasPrefix(start, []byte{0x1F, 0x8B}):
		return "gzip"
	case bytes.HasPrefix(start, []byte{0x28, 0xB5, 0x2F, 0xFD}),
		// A skippable frame, which some tools write first.
		len(start) >= 4 && start[0]&0xF0 == 0x50 && bytes.Equal(start[1:4], []byte{0x2A, 0x4D, 0x18}):
		return "zstd"
	case bytes.HasPrefix(start, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(start, []byte{0xFD, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	case bytes.HasPrefix(start, []byte{'P', 'K', 3, 4}):
		return "a zip archive"
	}
	return ""
}

// describeError returns the reason for a failed read.
func (c *content) describeError(err error) string {
	switch {
	case c == nil || c.compressed == "":
		return "cannot be read: " + err.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the " + c.compressed + " file is cut off: it ends before its data does"
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return "the zstd file needs a window of more than " + units.Size(maxWindow) + ": compress it without --long, or with --long=27 at most"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return "the gzip file is damaged: " + err.Error()
	default:
		return "the " + c.compressed + " file cannot be read, it may be damaged: " + err.Error()
	}
}

// position returns the number of bytes of the file that have been read. If ended is true, the
// whole file has been read.
func (c *content) position(ended bool) int64 {
	switch {
	case ended:
		return c.raw.n
	case c.format == nil:
		return 0
	case c.compressed != "":
		return c.raw.n - int64(c.buffer.Buffered())
	default:
		return c.bomLength + c.format.offset()
	}
}

func (c *content) close() {
	if c.zstd != nil {
		c.zstd.Close()
	}
}
