package dirstore

import (
	"bytes"
	"fmt"
	"io"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

// log is the file to which records are appended.
type log struct {
	file disk.File
	id   uint64
	half int64 // bytes
	at   position
	buf  []byte // the record that is being made, header first
}

// page is how much of a new log is written at once. The kernel caches what one
// write brings as one piece, and a commit's sync looks at all of the piece that the
// record lies in: in pieces of a megabyte a commit took 1.08 of the time.
const page = 4 << 10

// makeLog fills a new file, so that no commit needs more room or changes anything
// but the data.
func makeLog(f disk.File, id uint64, half int64) error {
	size := logHeader + 2*half
	buf := make([]byte, min(size, page))
	putLogHeader(buf, id, half)
	for at := int64(0); at < size; at += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-at)]
		if _, err := f.WriteAt(buf, at); err != nil {
			return err
		}
		clear(buf[:logHeaderSize])
	}
	return f.Sync()
}

// openLog reads the header of the log in f.
func openLog(f disk.File) (*log, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fmt.Errorf("%w: the log is empty", ErrForeign)
	}
	header := make([]byte, logHeaderSize)
	if size < logHeader {
		clear(header) // and so it is none
	} else if err := readAt(f, header, 0); err != nil {
		return nil, err
	}
	id, half, err := parseLogHeader(header)
	if err != nil {
		return nil, err
	}
	l := &log{file: f, id: id, half: half}
	if size != l.size() {
		return nil, damaged("the log has %d bytes instead of %d", size, l.size())
	}
	return l, nil
}

func readAt(f disk.File, b []byte, at int64) error {
	n, err := f.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading: %w", err)
}

func (l *log) size() int64 { return logHeader + 2*l.half }

// start is where the half of a generation begins.
func (l *log) start(generation uint64) int64 {
	return logHeader + int64(generation%2)*l.half
}

// fits returns where a record of so many bytes can go, if the snapshot on disk is
// of that generation or a later one: halves of older ones are free.
func (l *log) fits(size int64, snapshot uint64) (position, bool) {
	size = sectors(size)
	if l.at.offset+size <= l.half {
		return l.at, true
	}
	return l.at.next(), size <= l.half && snapshot >= l.at.generation
}

// begin begins a record.
func (l *log) begin() { l.buf = append(l.buf[:0], make([]byte, recordHeader)...) }

// append writes the record that was made to where it fits, and syncs. If it fails
// nothing more may be appended.
func (l *log) append(to position, sum int64) error {
	r := record{generation: to.generation, sequence: to.sequence + 1, sum: sum, body: len(l.buf) - recordHeader, chain: to.chain}
	r = r.seal(l.buf, l.id)
	l.buf = append(l.buf, make([]byte, r.size()-int64(len(l.buf)))...)
	if _, err := l.file.WriteAt(l.buf, l.start(to.generation)+to.offset); err != nil {
		return err
	}
	if err := l.file.Datasync(); err != nil {
		return err
	}
	l.at = position{to.generation, to.offset + r.size(), r.sequence, r.checksum}
	return nil
}

// holds reports whether the record before l.at is in the log, at its place. Into
// the beginning of a half none leads that must be there still.
func (l *log) holds() (bool, error) {
	start, end := l.start(l.at.generation), l.start(l.at.generation)+l.at.offset
	for at := end - sectorSize; at >= start; at -= sectorSize {
		r, ok, err := l.read(at, end)
		if err != nil {
			return false, err
		}
		if ok {
			return r.sequence == l.at.sequence && r.checksum == l.at.chain && at+r.size() == end, nil
		}
	}
	return l.at.offset == 0, nil
}

// tail is the last record, as it lies in the log.
type tail struct {
	at    int64
	bytes []byte
}

// replay does to the counters what the records from l.at on say, and moves l.at
// behind the last one. It returns that, if there is one.
func (l *log) replay(table *counter.Table) (tail, error) {
	var last tail
	for {
		r, at, ok, err := l.following()
		if err != nil || !ok {
			return last, err
		}
		if r.chain != l.at.chain {
			return last, damaged("record %d of the log doesn't follow from what was before it", r.sequence)
		}
		if err := apply(table, l.buf[recordHeader:recordHeader+r.body]); err != nil {
			return last, damaged("record %d of the log: %w", r.sequence, err)
		}
		if table.Sum() != r.sum {
			return last, damaged("after record %d of the log the sum is %d instead of %d", r.sequence, table.Sum(), r.sum)
		}
		l.at = position{r.generation, at.offset + r.size(), r.sequence, r.checksum}
		last = tail{l.start(at.generation) + at.offset, append(last.bytes[:0], l.buf...)}
	}
}

// following reads the record that follows l.at, in the same half or at the
// beginning of the other.
func (l *log) following() (r record, at position, ok bool, err error) {
	for _, at := range []position{l.at, l.at.next()} {
		r, ok, err := l.read(l.start(at.generation)+at.offset, l.start(at.generation)+l.half)
		if err != nil {
			return r, at, false, err
		}
		if ok && r.generation == at.generation && r.sequence == l.at.sequence+1 {
			return r, at, true, nil
		}
	}
	return record{}, position{}, false, nil
}

// read reads the record at a place of the file into l.buf, up to the end of its
// last sector. It isn't ok if there is no whole record before end.
func (l *log) read(at, end int64) (record, bool, error) {
	if at+sectorSize > end {
		return record{}, false, nil
	}
	l.buf = append(l.buf[:0], make([]byte, sectorSize)...)
	if err := readAt(l.file, l.buf, at); err != nil {
		return record{}, false, err
	}
	r, ok := parseRecord(l.buf, l.id)
	if !ok || at+r.size() > end {
		return record{}, false, nil
	}
	if more := r.size() - sectorSize; more > 0 {
		l.buf = append(l.buf, make([]byte, more)...)
		if err := readAt(l.file, l.buf[sectorSize:], at+sectorSize); err != nil {
			return record{}, false, err
		}
	}
	return r, recordChecksum(l.buf[:recordHeader+r.body]) == r.checksum, nil
}

// search looks at every sector for a record that comes after l.at. There can't be
// one: it would have been written after the one that is missing. It also reports
// whether nothing was ever written.
func (l *log) search() (blank bool, err error) {
	blank = true
	zeros := make([]byte, sectorSize)
	buf := make([]byte, min(1<<20, l.half))
	for half := range uint64(2) {
		start := l.start(half)
		for from := start; from < start+l.half; from += int64(len(buf)) {
			part := buf[:min(int64(len(buf)), start+l.half-from)]
			if err := readAt(l.file, part, from); err != nil {
				return false, err
			}
			for at := 0; at < len(part); at += sectorSize {
				sector := part[at : at+sectorSize]
				blank = blank && bytes.Equal(sector, zeros)
				if r, ok := parseRecord(sector, l.id); !ok || r.sequence <= l.at.sequence {
					continue
				}
				r, whole, err := l.read(from+int64(at), start+l.half)
				if err != nil {
					return false, err
				}
				if whole {
					return false, damaged("record %d of the log is missing or rotten, record %d is there", l.at.sequence+1, r.sequence)
				}
			}
		}
	}
	return blank, nil
}
