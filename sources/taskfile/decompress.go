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
)

// kind is how the tasks are written down.
type fileKind uint8

const (
	unknownKind fileKind = iota // to be seen from the first byte
	jsonArray
	jsonLines
	yamlList
)

// maxWindow is how far back a zstd file may refer, and so about the memory that
// reading it takes. zstd's own limit at its default settings is the same.
const maxWindow = 128 << 20

// content is what is inside a task file, ready to read.
type content struct {
	format     format
	bomLength  int64         // bytes of byte order mark before the text
	compressed string        // "gzip", "zstd" or ""
	raw        *counter      // the file
	buffer     *bufio.Reader // on raw
	zstd       *zstd.Decoder // nil unless zstd
}

// contentOptions configures openContent. The functions may be nil.
type contentOptions struct {
	limit       int64           // maximum size of an entry in bytes
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

// openContent finds out what src holds, by its first bytes and its name. It
// returns a content with every error, so that the error can be put in words.
func openContent(src io.Reader, path string, opts contentOptions) (*content, error) {
	c := &content{raw: &counter{src: src}}
	c.buffer = bufio.NewReaderSize(c.raw, chunkSize)
	kind, promised := kindOf(path)
	plain, err := c.decompress(promised)
	if err != nil {
		return c, err
	}
	t := newText(plain)
	switch start := t.peek(3); {
	case bytes.HasPrefix(start, []byte{0xEF, 0xBB, 0xBF}):
		c.bomLength = 3
		t.skipBOM(3)
	case bytes.HasPrefix(start, []byte{0xFE, 0xFF}), bytes.HasPrefix(start, []byte{0xFF, 0xFE}),
		len(start) >= 2 && (start[0] == 0 || start[1] == 0):
		return c, &Error{Reason: "the file is UTF-16 or UTF-32 text: save it as UTF-8"}
	}
	if t.r == t.w && t.err != nil && !errors.Is(t.err, io.EOF) {
		return c, t.err
	}
	if kind == unknownKind {
		kind = sniff(t)
	}
	t.beforeRead = opts.beforeRead
	if kind == yamlList {
		c.format = newYAML(t, opts)
	} else {
		c.format = newJSON(t, kind, opts.limit)
	}
	return c, nil
}

// kindOf says what a file's name promises: its kind and its compression.
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
	}
	return k, compression
}

// sniff tells the kind by the first byte that is not white space. It reads no
// further than to that byte, since a pipe may not have more to give yet.
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

// decompress returns the plain text. The first bytes decide; the name may
// promise a compression, and must then be right.
func (c *content) decompress(promised string) (io.Reader, error) {
	start, err := c.buffer.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c.compressed = compression(start)
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
		// One goroutine reads, and it is the caller's.
		c.zstd, err = zstd.NewReader(&zstdFrames{content: c}, zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		return c.zstd, err
	default:
		return nil, &Error{Reason: fmt.Sprintf("the file is %s: of the compressed formats only gzip and zstd can be read", c.compressed)}
	}
}

// compression names the format that starts with these bytes, "" for none.
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

// unreadable puts in words that the file could not be read.
func (c *content) describeError(err error) string {
	switch {
	case c == nil || c.compressed == "":
		return "cannot be read: " + err.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the " + c.compressed + " file is cut off: it ends before its data does"
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return "the zstd file needs a window of more than " + size(maxWindow) + ": compress it without --long, or with --long=27 at most"
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return "the gzip file is damaged: " + err.Error()
	default:
		return "the " + c.compressed + " file cannot be read, it may be damaged: " + err.Error()
	}
}

// position is how much of the file has been read; ended says that all has.
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
