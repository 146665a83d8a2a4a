package audit

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"
)

// hash is the hash of a task ID. With 128 bits, two of 10,000,000 IDs have the same hash with a
// probability below 1e-24.
type hash [2]uint64

// recordKind is what a record describes: entryRecord means an entry of the task file, and any other
// value is the journal.Kind of a final event.
type recordKind uint8

const (
	entryRecord recordKind = 0
	// rerunRecord is a flag of a final event that replaces an earlier final event.
	rerunRecord recordKind = 1 << 7
)

// record is a record in memory. number contains its position among all records.
type record struct {
	hash   hash
	number uint64 // the lowest 8 bits are the recordKind
}

const (
	recordBytes = 24
	// chunkRecords is the number of records that are sorted in memory: 6 MiB.
	chunkRecords = 1 << 18
)

func compare(a, b record) int {
	return cmp.Or(cmp.Compare(a.hash[0], b.hash[0]), cmp.Compare(a.hash[1], b.hash[1]), cmp.Compare(a.number, b.number))
}

// sorter sorts records by their hash. Records with the same hash stay in the order in which they were added.
type sorter struct {
	dir    string
	chunk  []record
	files  []*os.File // sorted chunks
	number uint64
}

func newSorter(dir string) *sorter { return &sorter{dir: dir} }

func (s *sorter) add(h hash, what recordKind) error {
	if len(s.chunk) == chunkRecords {
		if err := s.spill(); err != nil {
			return err
		}
	}
	if s.chunk == nil {
		s.chunk = make([]record, 0, chunkRecords)
	}
	s.number++
	s.chunk = append(s.chunk, record{h, s.number<<8 | uint64(what)})
	return nil
}

// spill writes the records in memory to a temporary file.
func (s *sorter) spill() error {
	slices.SortFunc(s.chunk, compare)
	f, err := os.CreateTemp(s.dir, "ctworker-audit-*")
	if err != nil {
		return err
	}
	s.files = append(s.files, f)
	if err := os.Remove(f.Name()); err != nil { // the system deletes the file when it is closed, even after kill -9
		return err
	}
	w := bufio.NewWriterSize(f, 1<<18)
	var b [recordBytes]byte
	for _, r := range s.chunk {
		binary.LittleEndian.PutUint64(b[0:], r.hash[0])
		binary.LittleEndian.PutUint64(b[8:], r.hash[1])
		binary.LittleEndian.PutUint64(b[16:], r.number)
		_, _ = w.Write(b[:]) // Flush returns the error
	}
	s.chunk = s.chunk[:0]
	return w.Flush()
}

func (s *sorter) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
}

// groups calls f for the records of each hash. f must not retain records.
func (s *sorter) groups(f func(h hash, records []recordKind)) error {
	if len(s.files) > 0 && len(s.chunk) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	m, err := s.merge()
	if err != nil {
		return err
	}
	var group []recordKind
	var current hash
	for {
		r, err := m.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(group) > 0 && (err != nil || r.hash != current) {
			f(current, group)
			group = group[:0]
		}
		if err != nil {
			return nil
		}
		current = r.hash
		group = append(group, recordKind(r.number&0xff))
	}
}

// merge returns a merger of all chunks.
func (s *sorter) merge() (*merger, error) {
	if len(s.files) == 0 {
		slices.SortFunc(s.chunk, compare)
		return &merger{memory: s.chunk}, nil
	}
	s.chunk = nil // the memory is needed for the buffers
	m := &merger{}
	for _, f := range s.files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		c := &chunkReader{r: bufio.NewReaderSize(f, 1<<15)}
		if err := c.advance(); err != nil {
			return nil, err
		}
		m.chunks = append(m.chunks, c)
	}
	heap.Init(m)
	return m, nil
}

// merger merges the sorted chunks in files. If the only chunk is in memory, it returns the records of that
// chunk. It is a heap of the chunks in files, ordered by the next record of each chunk.
type merger struct {
	memory []record
	chunks []*chunkReader
}

func (m *merger) Len() int           { return len(m.chunks) }
func (m *merger) Less(i, j int) bool { return compare(m.chunks[i].head, m.chunks[j].head) < 0 }
func (m *merger) Swap(i, j int)      { m.chunks[i], m.chunks[j] = m.chunks[j], m.chunks[i] }

// Push implements heap.Interface. It is not called.
func (m *merger) Push(any) {}

// Pop implements heap.Interface.
func (m *merger) Pop() any {
	last := len(m.chunks) - 1
	c := m.chunks[last]
	m.chunks = m.chunks[:last]
	return c
}

// next returns the next record, or io.EOF.
func (m *merger) next() (record, error) {
	if len(m.memory) > 0 {
		r := m.memory[0]
		m.memory = m.memory[1:]
		return r, nil
	}
	if len(m.chunks) == 0 {
		return record{}, io.EOF
	}
	c := m.chunks[0]
	r := c.head
	switch err := c.advance(); {
	case errors.Is(err, io.EOF):
		heap.Pop(m)
	case err != nil:
		return record{}, err
	default:
		heap.Fix(m, 0)
	}
	return r, nil
}

// chunkReader reads a sorted chunk.
type chunkReader struct {
	r    *bufio.Reader
	head record
}

// advance reads the next record into head. It returns io.EOF at the end.
func (c *chunkReader) advance() error {
	var b [recordBytes]byte
	if _, err := io.ReadFull(c.r, b[:]); err != nil {
		return err
	}
	c.head = record{hash{binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])}, binary.LittleEndian.Uint64(b[16:])}
	return nil
}
