package taskfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/klauspost/compress/gzip"
)

// trailing returns the error for bytes that follow the compressed data. The caller has read the
// buffer up to these bytes.
func (c *content) trailing() error {
	return &Error{Reason: fmt.Sprintf("the %s data ends at byte %d of the file, and the bytes after it are not %s: the tasks before them were read; remove these bytes",
		c.compressed, c.raw.n-int64(c.buffer.Buffered()), c.compressed)}
}

// atEnd reports whether the buffer has been read to the end of the file. If more bytes follow and
// they do not start with one of the magic numbers, atEnd returns an error.
func (c *content) atEnd(magic ...string) (bool, error) {
	start, err := c.buffer.Peek(len(magic[0]))
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return false, err
	case len(start) == 0:
		return true, nil
	}
	for _, m := range magic {
		if bytes.HasPrefix([]byte(m), start) {
			return false, nil // start is a magic number, or the beginning of one
		}
	}
	return false, c.trailing()
}

// A gzipReader decompresses gzip data, a sequence of members. A gzip.Reader for the whole sequence
// is not sufficient, because it returns the same error for a truncated member and for bytes that
// are not a member.
type gzipReader struct {
	content *content
	member  gzip.Reader
	ended   bool // the member has been read
}

const gzipMagic = "\x1F\x8B"

func newGzipReader(c *content) (*gzipReader, error) {
	g := &gzipReader{content: c}
	return g, g.next()
}

func (g *gzipReader) next() error {
	g.ended = false
	err := g.member.Reset(g.content.buffer)
	g.member.Multistream(false)
	return err
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		if g.ended {
			isEnd, err := g.content.atEnd(gzipMagic)
			if isEnd {
				return 0, io.EOF
			}
			if err == nil {
				err = g.next()
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return 0, err
			}
		}
		n, err := g.member.Read(p)
		if err == io.EOF { //nolint:errorlint // a Reader's end of input is io.EOF itself
			g.ended, err = true, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// A zstdFrames reads zstd data, and finds the ends of its frames. The decoder alone is not
// sufficient: it returns the same error for a truncated frame and for bytes that are not a frame,
// and it treats a read error between two frames as the end of the data.
type zstdFrames struct {
	content   *content
	remaining int64 // bytes to read before the next header
	inFrame   bool
	checksum  bool // the frame ends with a checksum
}

const (
	zstdMagic      = "\x28\xB5\x2F\xFD"
	zstdHeader     = 5          // bytes that determine the size of the frame's header
	skippableMagic = 0x184D2A50 // the last four bits may have any value
)

// zstdMagics contains the magic numbers of frames and of skippable frames.
var zstdMagics = func() []string {
	magics := []string{zstdMagic}
	for i := range uint32(16) {
		magics = append(magics, string(binary.LittleEndian.AppendUint32(nil, skippableMagic|i)))
	}
	return magics
}()

func (z *zstdFrames) Read(p []byte) (int, error) {
	for z.remaining == 0 {
		if !z.inFrame {
			isEnd, err := z.content.atEnd(zstdMagics...)
			if isEnd {
				return 0, io.EOF
			}
			if errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("read zstd frame: %w", err) // the decoder treats an unwrapped error as the end of the data
			}
			if err != nil {
				return 0, err
			}
		}
		if err := z.header(); err != nil {
			return 0, err
		}
	}
	n, err := z.content.buffer.Read(p[:min(int64(len(p)), z.remaining)])
	z.remaining -= int64(n)
	return n, err
}

// header peeks at the next header, and sets remaining to the size of the unit that starts with it:
// the header of a frame, a whole skippable frame, or a whole block. header does not wait for bytes
// after the header.
func (z *zstdFrames) header() error {
	size := 3 // of a block's header
	if !z.inFrame {
		start, err := z.content.buffer.Peek(4)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return err
		case string(start) == zstdMagic:
			size = zstdHeader
		default:
			size = 8 // magic number and size of a skippable frame
		}
	}
	header, err := z.content.buffer.Peek(size)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case err != nil:
		z.remaining = math.MaxInt64 // the header is truncated, which the decoder reports
	case z.inFrame:
		z.block(uint32(header[0]) | uint32(header[1])<<8 | uint32(header[2])<<16)
	case size == zstdHeader:
		z.frame(header[4])
	default:
		z.remaining = 8 + int64(binary.LittleEndian.Uint32(header[4:]))
	}
	return nil
}

// frame sets remaining to the size of the header of a frame with the given descriptor.
func (z *zstdFrames) frame(descriptor byte) {
	isSingle := descriptor&0x20 != 0 // has no window descriptor
	z.remaining = zstdHeader + [4]int64{0, 1, 2, 4}[descriptor&3] + [4]int64{0, 2, 4, 8}[descriptor>>6]
	if !isSingle || descriptor>>6 == 0 {
		z.remaining++ // the window descriptor, or the content size
	}
	z.inFrame, z.checksum = true, descriptor&4 != 0
}

// block sets remaining to the size of a block with the given header. For the last block of a frame,
// the size includes the checksum of the frame, if there is one.
func (z *zstdFrames) block(header uint32) {
	z.remaining = 3 + int64(header>>3)
	if header>>1&3 == 1 {
		z.remaining = 3 + 1 // one byte, which is repeated
	}
	if header&1 != 0 {
		z.inFrame = false
		if z.checksum {
			z.remaining += 4
		}
	}
}
