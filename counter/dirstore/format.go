package dirstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/counterd/counterd/counter"
)

const (
	version = 1

	logMagic      = "cntd-log"
	recordMagic   = "cntd-rec"
	snapshotMagic = "cntd-snp"

	sectorSize     = 512  // what a disk writes whole
	logHeader      = 4096 // the log before its halves
	logHeaderSize  = 32   // what is used of that
	recordHeader   = 52
	snapshotHeader = 72
	trailerSize    = 12
	blockHeader    = 8

	maxBody  = 1 << 20 // of a record; one counter's entry always fits
	maxBlock = 256 << 10
	maxEntry = counter.MaxName + 3*binary.MaxVarintLen64
)

var (
	// ErrDamaged says that the directory was a store, and that no crash explains
	// what it holds now.
	ErrDamaged = errors.New("the store is damaged")

	// ErrForeign says that the directory isn't a store of this program.
	ErrForeign = errors.New("not a counterd store of many counters")

	errCut = errors.New("it ends within an entry")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// position is a place between two records of the log.
type position struct {
	generation uint64 // of the record before it; its half is generation % 2
	offset     int64  // in that half
	sequence   uint64 // of the record before it
	chain      uint32 // the checksum of the record before it
}

// next is the beginning of the other half.
func (p position) next() position {
	p.generation++
	p.offset = 0
	return p
}

// putLogHeader writes the header of a log into b.
func putLogHeader(b []byte, id uint64, half int64) {
	copy(b, logMagic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint64(b[12:], id)
	binary.LittleEndian.PutUint64(b[20:], uint64(half))
	binary.LittleEndian.PutUint32(b[28:], checksum(b[:28]))
}

func parseLogHeader(b []byte) (id uint64, half int64, err error) {
	if string(b[:8]) != logMagic {
		return 0, 0, fmt.Errorf("%w: what is called log isn't one", ErrForeign)
	}
	if checksum(b[:28]) != binary.LittleEndian.Uint32(b[28:]) {
		return 0, 0, damaged("the log's header is not whole")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return 0, 0, fmt.Errorf("%w: version %d of the log is not known to this program", ErrForeign, v)
	}
	half = int64(binary.LittleEndian.Uint64(b[20:]))
	if half < sectorSize || half > math.MaxInt64/4 || half%sectorSize != 0 {
		return 0, 0, damaged("the log's halves can't have %d bytes", half)
	}
	return binary.LittleEndian.Uint64(b[12:]), half, nil
}

// record is the header of a record.
type record struct {
	generation uint64
	sequence   uint64
	sum        int64 // of all counters after it
	body       int   // its length
	chain      uint32
	checksum   uint32
}

// size is how much of the log the record takes.
func (r record) size() int64 { return sectors(recordHeader + int64(r.body)) }

func sectors(n int64) int64 { return (n + sectorSize - 1) / sectorSize * sectorSize }

// seal writes the header of the record b, whose body is there, and returns it.
func (r record) seal(b []byte, id uint64) record {
	copy(b, recordMagic)
	binary.LittleEndian.PutUint64(b[8:], id)
	binary.LittleEndian.PutUint64(b[16:], r.generation)
	binary.LittleEndian.PutUint64(b[24:], r.sequence)
	binary.LittleEndian.PutUint64(b[32:], uint64(r.sum))
	binary.LittleEndian.PutUint32(b[40:], uint32(r.body))
	binary.LittleEndian.PutUint32(b[44:], r.chain)
	r.checksum = recordChecksum(b[:recordHeader+r.body])
	binary.LittleEndian.PutUint32(b[48:], r.checksum)
	return r
}

func recordChecksum(b []byte) uint32 {
	return crc32.Update(checksum(b[:48]), castagnoli, b[recordHeader:])
}

// parseRecord returns the header at the beginning of b if it can be one of this
// store. It is one only if its checksum is right, too.
func parseRecord(b []byte, id uint64) (record, bool) {
	if string(b[:8]) != recordMagic || binary.LittleEndian.Uint64(b[8:]) != id {
		return record{}, false
	}
	length := binary.LittleEndian.Uint32(b[40:])
	if length > maxBody {
		return record{}, false
	}
	return record{
		generation: binary.LittleEndian.Uint64(b[16:]),
		sequence:   binary.LittleEndian.Uint64(b[24:]),
		sum:        int64(binary.LittleEndian.Uint64(b[32:])),
		body:       int(length),
		chain:      binary.LittleEndian.Uint32(b[44:]),
		checksum:   binary.LittleEndian.Uint32(b[48:]),
	}, true
}

// appendKnown appends the entry of a counter that the log knows by its number.
func appendKnown(b []byte, number int, count int64) []byte {
	b = binary.AppendUvarint(b, uint64(number)+1)
	return binary.AppendUvarint(b, uint64(count))
}

// appendNew appends the entry of the next counter.
func appendNew(b, name []byte, count int64) []byte {
	b = append(b, 0)
	b = appendName(b, name)
	return binary.AppendUvarint(b, uint64(count))
}

func appendName(b, name []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(name)))
	return append(b, name...)
}

// bytesOf bounds the entry of a counter from above. Of one that is known the name
// isn't written.
func bytesOf(name []byte, known bool) int64 {
	const most = 2 * binary.MaxVarintLen64
	if known {
		return most
	}
	return most + 1 + int64(len(name))
}

// reader takes values off a run of bytes.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.err = errCut
		r.rest = nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

func (r *reader) count() int64 {
	v := r.number()
	if v > math.MaxInt64 && r.err == nil {
		r.err = errors.New("a count passes 2^63-1")
	}
	return int64(v)
}

// name returns the next name, which aliases the bytes.
func (r *reader) name() []byte {
	n := r.number()
	switch {
	case n > counter.MaxName:
		r.err = fmt.Errorf("a name of %d bytes", n)
	case n > uint64(len(r.rest)):
		r.err = errCut
	}
	if r.err != nil {
		r.rest = nil
		return nil
	}
	name := r.rest[:n]
	r.rest = r.rest[n:]
	return name
}

// apply does to the counters what the body of a record says.
func apply(table *counter.Table, body []byte) error {
	r := reader{rest: body}
	for len(r.rest) > 0 {
		if err := applyOne(table, &r); err != nil {
			return err
		}
	}
	return nil
}

func applyOne(table *counter.Table, r *reader) error {
	number := r.number()
	if number == 0 {
		name := r.name()
		count := r.count()
		return add(table, r, name, count)
	}
	count := r.count()
	switch i := number - 1; {
	case r.err != nil:
		return r.err
	case i >= uint64(table.Len()):
		return fmt.Errorf("counter %d of %d", i, table.Len())
	case count <= table.Count(int(i)):
		return fmt.Errorf("counter %d falls from %d to %d", i, table.Count(int(i)), count)
	default:
		return table.Put(int(i), count)
	}
}

// add makes a counter that must not be there yet.
func add(table *counter.Table, r *reader, name []byte, count int64) error {
	if r.err != nil {
		return r.err
	}
	n := table.Len()
	if err := table.Set(name, count); err != nil {
		return err
	}
	if table.Len() == n {
		return fmt.Errorf("the counter %.40q is there twice", name)
	}
	return nil
}

// putSnapshotHeader writes the header of a snapshot into b.
func putSnapshotHeader(b []byte, id uint64, at position, counters int, sum int64) {
	copy(b, snapshotMagic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint64(b[12:], id)
	binary.LittleEndian.PutUint64(b[20:], at.generation)
	binary.LittleEndian.PutUint64(b[28:], uint64(at.offset))
	binary.LittleEndian.PutUint64(b[36:], at.sequence)
	binary.LittleEndian.PutUint32(b[44:], at.chain)
	binary.LittleEndian.PutUint64(b[48:], uint64(counters))
	binary.LittleEndian.PutUint64(b[56:], uint64(sum))
	// Four bytes are zero.
	binary.LittleEndian.PutUint32(b[68:], checksum(b[:68]))
}

// summary is what the header of a snapshot says.
type summary struct {
	id       uint64
	at       position
	counters uint64
	sum      int64
	checksum uint32
}

func parseSnapshotHeader(b []byte) (summary, error) {
	if string(b[:8]) != snapshotMagic || checksum(b[:68]) != binary.LittleEndian.Uint32(b[68:]) {
		return summary{}, damaged("the snapshot's header is not whole")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return summary{}, fmt.Errorf("%w: version %d of the snapshot is not known to this program", ErrForeign, v)
	}
	s := summary{
		id: binary.LittleEndian.Uint64(b[12:]),
		at: position{
			generation: binary.LittleEndian.Uint64(b[20:]),
			offset:     int64(binary.LittleEndian.Uint64(b[28:])),
			sequence:   binary.LittleEndian.Uint64(b[36:]),
			chain:      binary.LittleEndian.Uint32(b[44:]),
		},
		counters: binary.LittleEndian.Uint64(b[48:]),
		sum:      int64(binary.LittleEndian.Uint64(b[56:])),
		checksum: binary.LittleEndian.Uint32(b[68:]),
	}
	return s, nil
}

// sealBlock writes the header of the block b, which is the number-th of the
// snapshot whose header has the checksum seed.
func sealBlock(b []byte, seed uint32, number int) {
	binary.LittleEndian.PutUint32(b, uint32(len(b)-blockHeader))
	binary.LittleEndian.PutUint32(b[4:], blockChecksum(b[blockHeader:], seed, number))
}

func blockChecksum(payload []byte, seed uint32, number int) uint32 {
	var head [8]byte
	binary.LittleEndian.PutUint64(head[:], uint64(number))
	return crc32.Update(crc32.Update(seed, castagnoli, head[:]), castagnoli, payload)
}

// putTrailer writes the end of a snapshot into b.
func putTrailer(b []byte, seed uint32, reached uint64) {
	binary.LittleEndian.PutUint64(b, reached)
	binary.LittleEndian.PutUint32(b[8:], crc32.Update(seed, castagnoli, b[:8]))
}

func parseTrailer(b []byte, seed uint32) (reached uint64, ok bool) {
	return binary.LittleEndian.Uint64(b), crc32.Update(seed, castagnoli, b[:8]) == binary.LittleEndian.Uint32(b[8:])
}
