package results

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
)

// effect is the effect of a task event on which event of its task is exported.
type effect uint8

const (
	requestsRetry effect = iota // none
	endsTask                    // the event is exported, unless a later one is
	discards                    // the event of a rerun that requests a retry: no earlier event is exported
	replaces                    // like endsTask, for a rerun
	effectBits    = 2
)

// record is a task event. key contains its ordinal and its effect.
type record struct {
	hash [2]uint64
	key  uint64
}

const (
	recordBytes = 24
	// maxRecords is the number of records that are held in memory: 6 MiB.
	maxRecords = 1 << 18
	// partitionBits makes the partitions of a billion records small enough for the memory: 94 MB each.
	partitionBits = 8
	bufferBytes   = 1 << 14
)

// A selector finds the final event of each task. It holds a hash of 128 bits of each task ID. With ten million
// IDs, two of them have the same hash with a probability below 1e-24.
//
// Up to limit records are held in memory. If there are more, they are divided by their hash into
// partitions in temporary files.
type selector struct {
	seeds      [2]maphash.Seed
	limit      int
	memory     []record
	partitions []partition
}

// partition is a temporary file with the records of some tasks.
type partition struct {
	file *os.File
	w    *bufio.Writer
	size int // number of records
}

func newSelector(limit int) *selector {
	return &selector{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, limit: limit}
}

// add adds a task event. Events must be added in the order of their ordinals.
func (s *selector) add(taskID []byte, ordinal int64, e effect) error {
	r := record{[2]uint64{maphash.Bytes(s.seeds[0], taskID), maphash.Bytes(s.seeds[1], taskID)}, uint64(ordinal)<<effectBits | uint64(e)}
	if s.partitions != nil {
		return s.spill(r)
	}
	if s.memory = append(s.memory, r); len(s.memory) < s.limit {
		return nil
	}
	for range 1 << partitionBits {
		f, err := unnamedFile()
		if err != nil {
			return fmt.Errorf("temporary file: %w", err)
		}
		s.partitions = append(s.partitions, partition{f, bufio.NewWriterSize(f, bufferBytes), 0})
	}
	for _, r := range s.memory {
		if err := s.spill(r); err != nil {
			return err
		}
	}
	s.memory = nil
	return nil
}

func (s *selector) spill(r record) error {
	var b [recordBytes]byte
	binary.LittleEndian.PutUint64(b[0:], r.hash[0])
	binary.LittleEndian.PutUint64(b[8:], r.hash[1])
	binary.LittleEndian.PutUint64(b[16:], r.key)
	p := &s.partitions[r.hash[0]>>(64-partitionBits)]
	p.size++
	if _, err := p.w.Write(b[:]); err != nil {
		return fmt.Errorf("temporary file: %w", err)
	}
	return nil
}

func (s *selector) close() error {
	var err error
	for _, p := range s.partitions {
		err = errors.Join(err, p.file.Close())
	}
	return err
}

// selection is the set of the lines that are exported. The zero selection contains all lines.
type selection struct {
	bits []uint64
	// unfinished is the number of tasks without a final event. repeated is the number of tasks with several
	// final events that do not replace each other.
	unfinished, repeated int64
}

func (s *selection) has(ordinal int64) bool {
	return s.bits == nil || ordinal>>6 < int64(len(s.bits)) && s.bits[ordinal>>6]&(1<<(ordinal&63)) != 0
}

// finish returns the selection of the final events among the given number of lines.
func (s *selector) finish(lines int64) (*selection, error) {
	chosen := &selection{bits: make([]uint64, lines/64+1)}
	chosen.addFinals(s.memory)
	for _, p := range s.partitions {
		records, err := p.read(s.memory[:0])
		if err != nil {
			return nil, fmt.Errorf("temporary file: %w", err)
		}
		chosen.addFinals(records)
		s.memory = records
	}
	return chosen, nil
}

// read returns the records of a partition, in the memory of buffer if it is large enough.
func (p *partition) read(buffer []record) ([]record, error) {
	if err := p.w.Flush(); err != nil {
		return nil, err
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	buffer = slices.Grow(buffer, p.size)
	in := bufio.NewReaderSize(p.file, 1<<18)
	var b [recordBytes]byte
	for range p.size {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return nil, err
		}
		buffer = append(buffer, record{
			[2]uint64{binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])}, binary.LittleEndian.Uint64(b[16:]),
		})
	}
	return buffer, nil
}

// addFinals adds the final event of each task in records. It sorts records.
func (s *selection) addFinals(records []record) {
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.hash[0], b.hash[0]), cmp.Compare(a.hash[1], b.hash[1]), cmp.Compare(a.key, b.key))
	})
	for len(records) > 0 {
		n := 1
		for n < len(records) && records[n].hash == records[0].hash {
			n++
		}
		s.addTask(records[:n])
		records = records[n:]
	}
}

// addTask adds the final event of a task, whose events are in the order in which they were written.
func (s *selection) addTask(events []record) {
	final, finals := int64(-1), 0
	for _, r := range events {
		ordinal := int64(r.key >> effectBits)
		switch effect(r.key & (1<<effectBits - 1)) {
		case requestsRetry:
		case endsTask:
			final = ordinal
			finals++
		case replaces:
			final = ordinal
		case discards:
			final = -1
		}
	}
	if final < 0 {
		s.unfinished++
		return
	}
	if finals > 1 {
		s.repeated++
	}
	s.bits[final>>6] |= 1 << (final & 63)
}
