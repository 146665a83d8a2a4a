package outputlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// truncateTornFrame removes an incomplete frame at the end of a compressed file. The last run was
// killed while it wrote this frame, and a decoder would not read past it.
func truncateTornFrame(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	end, err := completeFrames(file, info.Size())
	if err != nil || end == info.Size() {
		return err
	}
	return file.Truncate(end)
}

// completeFrames returns the size of the complete frames at the start of a file. It reads only the
// headers of the frames and of their blocks; see RFC 8878, section 3.1.
func completeFrames(file io.ReaderAt, size int64) (int64, error) {
	end := int64(0)
	for end < size {
		next, err := frameEnd(file, end)
		switch {
		case errors.Is(err, io.EOF), err == nil && next > size:
			return end, nil
		case err != nil && end == 0:
			return 0, errNotALog
		case err != nil:
			return 0, fmt.Errorf("the file is damaged at byte %d: %w; use another file", end, err)
		}
		end = next
	}
	return end, nil
}

// frameEnd returns where the frame at an offset ends. It returns io.EOF if the headers are
// incomplete.
func frameEnd(file io.ReaderAt, at int64) (int64, error) {
	start := make([]byte, zstd.HeaderMaxSize)
	n, err := file.ReadAt(start, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if magic := []byte{0x28, 0xb5, 0x2f, 0xfd}; !bytes.HasPrefix(start[:n], magic[:min(n, len(magic))]) {
		return 0, errNotALog
	}
	var header zstd.Header
	if err := header.Decode(start[:n]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = io.EOF
		}
		return 0, err
	}
	at += int64(header.HeaderSize)
	for {
		var block [3]byte
		if n, err := file.ReadAt(block[:], at); n < len(block) {
			return 0, err
		}
		bits := uint32(block[0]) | uint32(block[1])<<8 | uint32(block[2])<<16
		isLast, kind, length := bits&1 == 1, bits>>1&3, int64(bits>>3)
		if kind == 1 { // a repeated byte: length is that of the content
			length = 1
		}
		at += 3 + length
		if isLast {
			break
		}
	}
	if header.HasCheckSum {
		at += 4
	}
	return at, nil
}
