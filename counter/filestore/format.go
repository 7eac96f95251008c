package filestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/counterd/counterd/counter/internal/disk"
)

const (
	magic   = "counterd"
	version = 1

	recordSize = 32
	sectorSize = 512            // what a disk writes whole
	copiesSize = 2 * sectorSize // what a commit writes
	slotSize   = 4096           // a block of the filesystem
	fileSize   = 2 * slotSize
)

var (
	// ErrDamaged says that the file was a store, and that no crash explains what
	// it holds now.
	ErrDamaged = errors.New("the store is damaged")

	// ErrForeign says that the file isn't a store of this program.
	ErrForeign = errors.New("not a counterd store")

	errShort = errors.New("fewer bytes than the file has")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one state of the count.
type record struct {
	sequence uint64
	value    int64
}

func (r record) slot() int     { return int(r.sequence % 2) }
func (r record) offset() int64 { return int64(r.slot()) * slotSize }

// put writes r twice into buf, copiesSize bytes long, which must be zero where
// no record is.
func (r record) put(buf []byte) {
	b := buf[:recordSize]
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint64(b[12:], r.sequence)
	binary.LittleEndian.PutUint64(b[20:], uint64(r.value))
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	copy(buf[sectorSize:], b)
}

// parse returns the record in b if it is whole and belongs into slot.
func parse(b []byte, slot int) (record, bool) {
	b = b[:recordSize]
	if string(b[:8]) != magic || binary.LittleEndian.Uint32(b[8:]) != version {
		return record{}, false
	}
	if crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return record{}, false
	}
	r := record{binary.LittleEndian.Uint64(b[12:]), int64(binary.LittleEndian.Uint64(b[20:]))}
	return r, r.slot() == slot && r.value >= 0
}

// parseSlot returns the newer whole record of a slot.
func parseSlot(file []byte, slot int) (record, bool) {
	b := file[slot*slotSize:]
	first, ok1 := parse(b, slot)
	second, ok2 := parse(b[sectorSize:], slot)
	if !ok1 || ok2 && second.sequence > first.sequence {
		return second, ok2
	}
	return first, ok1
}

// parseFile returns the newest record of a whole file.
func parseFile(file []byte) (record, error) {
	if err := recognise(file); err != nil {
		return record{}, err
	}
	if len(file) < fileSize {
		return record{}, fmt.Errorf("%w: it has %d bytes instead of %d", ErrDamaged, len(file), fileSize)
	}
	if len(file) > fileSize {
		return record{}, fmt.Errorf("%w: it has more than %d bytes", ErrDamaged, fileSize)
	}
	even, ok0 := parseSlot(file, 0)
	odd, ok1 := parseSlot(file, 1)
	switch {
	case !ok0 && !ok1:
		return record{}, fmt.Errorf("%w: neither slot holds a whole record", ErrDamaged)
	case !ok0:
		return record{}, fmt.Errorf("%w: slot 0 holds no whole record (slot 1 says %d)", ErrDamaged, odd.value)
	case !ok1:
		return record{}, fmt.Errorf("%w: slot 1 holds no whole record (slot 0 says %d)", ErrDamaged, even.value)
	}
	newest, before := even, odd
	if odd.sequence > even.sequence {
		newest, before = odd, even
	}
	if newest.sequence-before.sequence != 1 {
		return record{}, fmt.Errorf("%w: writes are missing between the slots (sequences %d and %d, values %d and %d)",
			ErrDamaged, before.sequence, newest.sequence, before.value, newest.value)
	}
	return newest, nil
}

// recognise tells a store, perhaps a damaged one, from anything else. One copy
// of the magic is enough, so that a store can lose much and still be one.
func recognise(file []byte) error {
	if len(file) == 0 {
		return fmt.Errorf("%w: the file is empty", ErrForeign)
	}
	for _, at := range []int{0, sectorSize, slotSize, slotSize + sectorSize} {
		if len(file) >= at+len(magic) && bytes.Equal(file[at:at+len(magic)], []byte(magic)) {
			return checkVersion(file[at:])
		}
	}
	return ErrForeign
}

// checkVersion refuses a whole record of a later version; with a wrong checksum
// it is damage.
func checkVersion(b []byte) error {
	if len(b) < recordSize || crc32.Checksum(b[:28], castagnoli) != binary.LittleEndian.Uint32(b[28:]) {
		return nil
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return fmt.Errorf("%w: version %d is not known to this program", ErrForeign, v)
	}
	return nil
}

// read returns the content of f. Of a file that is too long it returns one byte
// too many.
func read(f disk.File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	buf := make([]byte, min(size, fileSize+1))
	n, err := f.ReadAt(buf, 0)
	if n < len(buf) && (err == nil || err == io.EOF) {
		err = errShort
	}
	if n < len(buf) {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return buf, nil
}
