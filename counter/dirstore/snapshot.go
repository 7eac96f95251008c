package dirstore

import (
	"bufio"
	"encoding/binary"
	"io"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// image is what a snapshot is made of: the counters as they were at a position of
// the log.
type image struct {
	id     uint64
	at     position
	names  counter.View
	counts []int64
	sum    int64
	block  int // the most bytes of a block
}

// write writes the image into a new file, in pieces, each synced before the next:
// so the disk never has much more to do than a commit gives it. After each it
// calls pause, unless that is nil. reached is asked at the end how far the log has
// come.
func (m *image) write(f disk.File, reached func() uint64, pause func() error) (size int64, err error) {
	buf := make([]byte, snapshotHeader)
	putSnapshotHeader(buf, m.id, m.at, len(m.counts), m.sum)
	seed := binary.LittleEndian.Uint32(buf[snapshotHeader-4:])
	for i, block := 0, 0; i < len(m.counts); block++ {
		start := len(buf)
		buf = append(buf, make([]byte, blockHeader)...)
		for ; i < len(m.counts) && len(buf)-start-blockHeader <= m.block-maxEntry; i++ {
			buf = appendName(buf, m.names.Name(i))
			buf = binary.AppendUvarint(buf, uint64(m.counts[i]))
		}
		sealBlock(buf[start:], seed, block)
		if i == len(m.counts) {
			break // the trailer goes with it
		}
		if _, err := f.WriteAt(buf, size); err != nil {
			return 0, err
		}
		if err := f.Datasync(); err != nil {
			return 0, err
		}
		size += int64(len(buf))
		buf = buf[:0]
		if pause != nil {
			if err := pause(); err != nil {
				return 0, err
			}
		}
	}
	end := len(buf)
	buf = append(buf, make([]byte, trailerSize)...)
	putTrailer(buf[end:], seed, reached())
	if _, err := f.WriteAt(buf, size); err != nil {
		return 0, err
	}
	return size + int64(len(buf)), f.Sync()
}

// readSnapshot reads the snapshot in f, of the store with that log, into the
// table, and moves the log to its position. It returns how far the log had come.
func readSnapshot(f disk.File, l *log, table *counter.Table) (reached uint64, err error) {
	size, err := f.Size()
	if err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(&stream{file: f, size: size}, int(min(size, maxBlock)))
	head := make([]byte, snapshotHeader)
	if err := fill(in, head); err != nil {
		return 0, err
	}
	s, err := parseSnapshotHeader(head)
	if err != nil {
		return 0, err
	}
	switch at := s.at; {
	case s.id != l.id:
		return 0, damaged("the snapshot and the log belong to two stores")
	case at.offset < 0 || at.offset > l.half || at.offset%sectorSize != 0:
		return 0, damaged("the snapshot's place in the log can't be %d", at.offset)
	}
	var block []byte
	for number := 0; uint64(table.Len()) < s.counters; number++ {
		if block, err = readBlock(in, block, s.checksum, number); err != nil {
			return 0, err
		}
		r := reader{rest: block}
		for len(r.rest) > 0 {
			name := r.name()
			count := r.count()
			if err := add(table, &r, name, count); err != nil {
				return 0, damaged("block %d of the snapshot: %w", number, err)
			}
		}
	}
	if uint64(table.Len()) != s.counters || table.Sum() != s.sum {
		return 0, damaged("the snapshot has %d counters with %d in all instead of %d with %d", table.Len(), table.Sum(), s.counters, s.sum)
	}
	end := make([]byte, trailerSize)
	if err := fill(in, end); err != nil {
		return 0, err
	}
	reached, ok := parseTrailer(end, s.checksum)
	if !ok {
		return 0, damaged("the snapshot's end is not whole")
	}
	if _, err := in.ReadByte(); err == nil {
		return 0, damaged("the snapshot is longer than it should be")
	} else if err != io.EOF {
		return 0, err
	}
	l.at = s.at
	return reached, nil
}

func readBlock(in io.Reader, block []byte, seed uint32, number int) ([]byte, error) {
	head := make([]byte, blockHeader)
	if err := fill(in, head); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(head)
	if length == 0 || length > maxBlock {
		return nil, damaged("block %d of the snapshot can't have %d bytes", number, length)
	}
	block = append(block[:0], make([]byte, length)...)
	if err := fill(in, block); err != nil {
		return nil, err
	}
	if blockChecksum(block, seed, number) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, damaged("block %d of the snapshot is rotten", number)
	}
	return block, nil
}

// stream reads a file from its beginning. Only at the file's end it says io.EOF.
type stream struct {
	file     disk.File
	at, size int64
}

func (s *stream) Read(b []byte) (int, error) {
	b = b[:min(int64(len(b)), s.size-s.at)]
	if len(b) == 0 {
		return 0, io.EOF
	}
	err := readAt(s.file, b, s.at)
	if err != nil {
		return 0, err
	}
	s.at += int64(len(b))
	return len(b), nil
}

// fill reads all of b.
func fill(in io.Reader, b []byte) error {
	_, err := io.ReadFull(in, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged("the snapshot is cut")
	}
	return err
}
