package counter

import (
	"fmt"
	"hash/maphash"
	"math"
)

// Table is a set of counters in memory: their names, their counts, and the sum of
// these. The counters are numbered from 0 in the order in which they were made,
// and none is ever removed.
//
// A million names of 28 bytes take some 60 MB. Nothing in it is a pointer that the
// garbage collector would have to follow, and no step of its growth moves much.
//
// It isn't safe for concurrent use: who counts on it has a lock of their own. A
// [TableLister] reads beside them.
type Table struct {
	View  // as of now
	sum   int64
	most  int64 // names
	bytes int64 // of all names
	end   int   // of the last chunk of names: the next name begins here

	seed   maphash.Seed
	shards [shards]shard
}

// View is the counters of a Table as of one moment. What they are called doesn't
// change any more, so a View that was taken under the lock of those who count shows
// the names without it.
type View struct {
	n       int
	entries []*[entriesInChunk]entry
	names   [][]byte // chunks of up to namesChunk bytes; a name lies within one
}

// entry has a counter's name in one word, so that a hit on one of many counters
// misses the processor's cache once for both.
type entry struct {
	count int64
	name  uint64 // the chunk, the place in it, and the length in the last 11 bits
}

// shard is a part of the index, by hash: open addressing with linear probing. The
// parts are many, so that one that must grow holds up its hit for microseconds.
type shard struct {
	slots []slot // a power of two
	used  int
}

type slot struct {
	hash   uint32
	number uint32 // of the counter, and one: 0 is a free slot
}

const (
	shardBits      = 10
	shards         = 1 << shardBits
	entriesInChunk = 1024
	lengthBits     = 11 // of MaxName
	placeBits      = 16
	namesChunk     = 1 << placeBits
	firstSlots     = 8
	maxCounters    = math.MaxInt32
)

// BytesPerName times how many counters there may be is how long all their names
// may be together.
const BytesPerName = 64

var errLongName = fmt.Errorf("a name has more than %d bytes", MaxName)

// NewTable returns a Table without counters, to which Add and Make add at most
// most of them.
func NewTable(most int64) *Table {
	return &Table{most: min(most, maxCounters), seed: maphash.MakeSeed()}
}

// Most is how many there may be.
func (t *Table) Most() int64 { return t.most }

// Sum is the sum of all counts.
func (t *Table) Sum() int64 { return t.sum }

// Count is the count of counter i.
func (t *Table) Count(i int) int64 { return t.entry(i).count }

// Add adds hits ≥ 0 to the counter of that name, which it makes if there is none,
// and returns its count. With hits = 0 it reads, and makes none.
//
// ErrTooMany: there is no room for a new counter. ErrFull: the sum would pass
// 2^63-1. With either nothing was changed, nor allocated, and total is the count
// as it is.
func (t *Table) Add(name []byte, hits int64) (total int64, err error) {
	hash := maphash.Bytes(t.seed, name)
	i, ok := t.find(name, hash)
	if ok {
		total = t.Count(i)
	}
	switch {
	case hits == 0:
		return total, nil
	case hits > math.MaxInt64-t.sum:
		return total, ErrFull
	case !ok:
		if err := t.room(name); err != nil {
			return 0, err
		}
		i = t.insert(name, hash)
	}
	t.entry(i).count += hits
	t.sum += hits
	return total + hits, nil
}

// Find returns the number of the counter of that name.
func (t *Table) Find(name []byte) (i int, ok bool) {
	return t.find(name, maphash.Bytes(t.seed, name))
}

// Make returns the number of the counter of that name, which it makes, with the
// count 0, if there is none. ErrTooMany: there is no room for it.
func (t *Table) Make(name []byte) (i int, err error) {
	hash := maphash.Bytes(t.seed, name)
	if i, ok := t.find(name, hash); ok {
		return i, nil
	}
	if err := t.room(name); err != nil {
		return 0, err
	}
	return t.insert(name, hash), nil
}

// Set gives the counter of that name a count ≥ 0, and makes it if there is none,
// also beyond the number that there may be. ErrFull: the sum would pass 2^63-1,
// and nothing was changed.
func (t *Table) Set(name []byte, count int64) error {
	if len(name) > MaxName {
		return errLongName
	}
	hash := maphash.Bytes(t.seed, name)
	i, ok := t.find(name, hash)
	if ok {
		return t.Put(i, count)
	}
	if count > math.MaxInt64-t.sum {
		return ErrFull
	}
	return t.Put(t.insert(name, hash), count)
}

// Put gives counter i a count ≥ 0. ErrFull: the sum would pass 2^63-1, and nothing
// was changed.
func (t *Table) Put(i int, count int64) error {
	e := t.entry(i)
	rest := t.sum - e.count
	if count > math.MaxInt64-rest {
		return ErrFull
	}
	e.count, t.sum = count, rest+count
	return nil
}

// room says why a counter of that name can't be made.
func (t *Table) room(name []byte) error {
	if len(name) > MaxName {
		return errLongName
	}
	if int64(t.n) >= t.most || t.bytes+int64(len(name)) > BytesPerName*t.most {
		return ErrTooMany
	}
	return nil
}

func (t *Table) find(name []byte, hash uint64) (i int, ok bool) {
	s := &t.shards[hash>>(64-shardBits)]
	if s.used == 0 {
		return 0, false
	}
	mask := len(s.slots) - 1
	for at := int(hash) & mask; s.slots[at].number != 0; at = (at + 1) & mask {
		if s.slots[at].hash != uint32(hash) {
			continue
		}
		i := int(s.slots[at].number - 1)
		if string(t.Name(i)) == string(name) {
			return i, true
		}
	}
	return 0, false
}

// insert makes a counter that isn't there.
func (t *Table) insert(name []byte, hash uint64) int {
	i := t.n
	if i == maxCounters {
		panic("counter: more names than can be numbered")
	}
	if i%entriesInChunk == 0 {
		t.entries = append(t.entries, new([entriesInChunk]entry))
	}
	t.entry(i).name = t.keep(name)
	t.shards[hash>>(64-shardBits)].insert(slot{uint32(hash), uint32(i + 1)})
	t.n++
	return i
}

// keep copies a name, and returns where it is.
func (t *Table) keep(name []byte) uint64 {
	last := len(t.names) - 1
	if last < 0 || t.end+len(name) > len(t.names[last]) {
		size := min(namesChunk, max(MaxName, int(t.bytes))) // few names take little
		t.names = append(t.names, make([]byte, size))
		t.end = 0
		last++
	}
	copy(t.names[last][t.end:], name)
	at := uint64(last)<<(placeBits+lengthBits) | uint64(t.end)<<lengthBits | uint64(len(name))
	t.end += len(name)
	t.bytes += int64(len(name))
	return at
}

func (v *View) entry(i int) *entry { return &v.entries[i/entriesInChunk][i%entriesInChunk] }

// Len is how many counters there are.
func (v *View) Len() int { return v.n }

// Name is the name of counter i. It must not be changed, and stays as it is.
func (v *View) Name(i int) []byte {
	at := v.entry(i).name
	length := at & (1<<lengthBits - 1)
	place := at >> lengthBits & (1<<placeBits - 1)
	return v.names[at>>(placeBits+lengthBits)][place : place+length : place+length]
}

func (s *shard) insert(one slot) {
	if s.used >= len(s.slots)-len(s.slots)/4 {
		s.grow()
	}
	s.used++
	s.put(one)
}

func (s *shard) put(one slot) {
	mask := len(s.slots) - 1
	at := int(one.hash) & mask
	for s.slots[at].number != 0 {
		at = (at + 1) & mask
	}
	s.slots[at] = one
}

func (s *shard) grow() {
	old := s.slots
	s.slots = make([]slot, max(firstSlots, 2*len(old)))
	for _, one := range old {
		if one.number != 0 {
			s.put(one)
		}
	}
}
