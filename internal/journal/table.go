package journal

import (
	"hash/maphash"
	"math/bits"
	"unsafe"

	"golang.org/x/sys/unix"
)

// table maps task IDs to entries. It is a hash table with open addressing. It is divided into shards, so
// that its growth copies only one shard at a time.
type table struct {
	seeds  [2]maphash.Seed
	shards [shardCount]shard
}

const (
	shardBits  = 8
	shardCount = 1 << shardBits
	// maxLoad is the maximum share of the slots of a shard that are used, in percent.
	maxLoad = 85
)

// shard has two parallel arrays. A slot whose entry is 0 is free.
type shard struct {
	hashes  []uint64
	entries []entry
	used    int
	memory  []byte // the memory of both arrays; nil if it belongs to the Go heap
}

// entry is the state of one task ID. Its highest bits are further bits of the hash.
type entry uint32

const (
	hashBits    = 11
	kindBits    = 3
	finalBits   = 9
	attemptBits = 7

	kindShift   = attemptBits
	retryShift  = kindShift + kindBits
	rerunShift  = retryShift + 1
	finalShift  = rerunShift + 1
	hashShift   = finalShift + finalBits
	maxFinals   = 1<<finalBits - 1
	maxAttempt  = 1<<attemptBits - 1
	hashMask    = entry(1<<hashBits-1) << hashShift
	kindMask    = entry(1<<kindBits-1) << kindShift
	finalMask   = entry(maxFinals) << finalShift
	attemptMask = entry(maxAttempt)
	// retryPending states that the last event requests a retry. rerunPending states that this retry
	// belongs to a rerun.
	retryPending = entry(1) << retryShift
	rerunPending = entry(1) << rerunShift
)

func (e entry) kind() Kind   { return Kind(e & kindMask >> kindShift) }
func (e entry) finals() int  { return int(e & finalMask >> finalShift) }
func (e entry) attempt() int { return int(e & attemptMask) }
func (e entry) retry() bool  { return e&retryPending != 0 }

func (e entry) withFinals(n int) entry {
	return e&^finalMask | entry(min(max(n, 0), maxFinals))<<finalShift
}

func newTable() *table { return &table{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}} }

func (t *table) hash(id []byte) (h uint64, more entry) {
	return maphash.Bytes(t.seeds[0], id), entry(maphash.Bytes(t.seeds[1], id)) << hashShift
}

// find returns the entry of an ID, or nil if there is none.
func (t *table) find(id []byte) *entry {
	h, more := t.hash(id)
	s := &t.shards[h>>(64-shardBits)]
	if len(s.entries) == 0 {
		return nil
	}
	i, ok := s.locate(h, more)
	if !ok {
		return nil
	}
	return &s.entries[i]
}

// insert returns the entry of an ID. If there is none, insert adds an entry of Kind None. The result is
// valid until the next insert.
func (t *table) insert(id []byte) *entry {
	h, more := t.hash(id)
	s := &t.shards[h>>(64-shardBits)]
	if s.used*100 >= len(s.entries)*maxLoad {
		s.grow()
	}
	i, ok := s.locate(h, more)
	if !ok {
		s.used++
		s.hashes[i], s.entries[i] = h, more|entry(None)<<kindShift
	}
	return &s.entries[i]
}

// locate returns the slot of a hash. If ok is false, the slot is free.
func (s *shard) locate(h uint64, more entry) (i int, ok bool) {
	// Multiplication maps the hash to a slot without a division. The highest bits select the shard.
	high, _ := bits.Mul64(h<<shardBits, uint64(len(s.entries)))
	for i = int(high); ; {
		switch e := s.entries[i]; {
		case e == 0:
			return i, false
		case s.hashes[i] == h && e&hashMask == more:
			return i, true
		}
		if i++; i == len(s.entries) {
			i = 0
		}
	}
}

func (s *shard) grow() {
	old := *s
	size := max(len(old.entries)*3/2, 16)
	s.memory, s.hashes, s.entries = newSlots(size)
	for i, e := range old.entries {
		if e != 0 {
			at, _ := s.locate(old.hashes[i], e&hashMask)
			s.hashes[at], s.entries[at] = old.hashes[i], e
		}
	}
	old.free()
}

// free frees the memory of the shard.
func (s *shard) free() {
	if s.memory != nil {
		_ = unix.Munmap(s.memory) // fails only for memory that was not mapped
	}
	*s = shard{}
}

// clone returns a copy of the table.
func (t *table) clone() *table {
	c := &table{seeds: t.seeds}
	for i, s := range t.shards {
		if s.used == 0 {
			continue
		}
		to := &c.shards[i]
		to.used = s.used
		to.memory, to.hashes, to.entries = newSlots(len(s.entries))
		copy(to.hashes, s.hashes)
		copy(to.entries, s.entries)
	}
	return c
}

// free frees the memory of the table, which must not be used after that.
func (t *table) free() {
	for i := range t.shards {
		t.shards[i].free()
	}
}

const (
	slotBytes = int(unsafe.Sizeof(uint64(0)) + unsafe.Sizeof(entry(0)))
	// minMapped is the minimum size of slots that are mapped from the system, in bytes.
	minMapped = 64 << 10
)

// newSlots returns the arrays of a shard. If the arrays are large, they are mapped from the system instead
// of allocated on the Go heap, because the heap may grow to three times its live size (app.gcPercent)
// before memory is collected. memory is the mapping, which the caller must unmap, or nil.
func newSlots(size int) (memory []byte, hashes []uint64, entries []entry) {
	if size*slotBytes >= minMapped {
		memory, err := unix.Mmap(-1, 0, size*slotBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			start := unsafe.Pointer(unsafe.SliceData(memory))
			return memory, unsafe.Slice((*uint64)(start), size), unsafe.Slice((*entry)(unsafe.Add(start, size*8)), size)
		}
	}
	return nil, make([]uint64, size), make([]entry, size)
}
