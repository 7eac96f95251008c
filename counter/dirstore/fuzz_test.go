package dirstore

import (
	"testing"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk/simdisk"
)

// Whatever the parts hold, reading them neither panics nor takes much memory, and
// what is accepted is a state that can be written and read again. What a fuzzer
// can't guess, the checksums, is put right after it has had its way.
func FuzzRead(f *testing.F) {
	list, _ := history()
	for _, l := range []files{list[0], list[4], list[len(list)-1]} {
		f.Add(l.log, l.snapshot, false)
		f.Add(l.log, l.snapshot, true)
	}
	f.Add([]byte{}, []byte{}, false)
	f.Fuzz(func(t *testing.T, log, snapshot []byte, mend bool) {
		l := files{log, snapshot}
		if mend {
			l.mend()
		}
		told, err := l.show()
		if err != nil {
			return
		}
		w := newWorld(simdisk.First{})
		w.PutDir(simPath)
		w.Put(simPath+"/log", l.log)
		w.Put(simPath+"/snapshot", l.snapshot)
		w.told = told
		_, half, _ := parseLogHeader(l.log)
		room := half >= 2*sectorSize
		if err := w.life(nil); err != nil {
			t.Fatal(err)
		}
		var set []counter.Named
		for name, count := range told {
			set = append(set, counter.Named{Name: name, Count: count / 2})
			w.told[name] = count / 2
		}
		w.Run(func() { err = setSim(w, set) })
		if err != nil {
			t.Fatal(err)
		}
		script := []step{add1(1, "a")}
		if !room {
			script = nil
		}
		if err := w.life(script); err != nil {
			t.Fatal(err)
		}
	})
}

func setSim(w *world, list []counter.Named) error { return set(w.Disk, simPath, w.half, list) }

// mend makes the checksums right.
func (f *files) mend() {
	f.log, f.snapshot = append([]byte(nil), f.log...), append([]byte(nil), f.snapshot...)
	if len(f.log) < logHeader {
		return
	}
	half := int64(len(f.log)-logHeader) / 2
	putLogHeader(f.log, 1, half)
	var chain uint32
	for at := logHeader; at+sectorSize <= len(f.log); at += sectorSize {
		copy(f.log[at+8:], f.log[12:20])
		if r, ok := parseRecord(f.log[at:], 1); ok && at+recordHeader+r.body <= len(f.log) {
			r.chain = chain
			chain = r.seal(f.log[at:], 1).checksum
		}
	}
	if len(f.snapshot) < snapshotHeader+trailerSize {
		return
	}
	s, _ := parseSnapshotHeader(f.snapshot)
	if at := len(f.snapshot) - trailerSize; at > snapshotHeader+blockHeader {
		s.counters, s.sum = mendBlock(f.snapshot[snapshotHeader:at])
	} else {
		s.counters, s.sum = 0, 0
	}
	putSnapshotHeader(f.snapshot, 1, position{generation: 2}, int(s.counters), s.sum)
	s, _ = parseSnapshotHeader(f.snapshot)
	if at := len(f.snapshot) - trailerSize; at > snapshotHeader+blockHeader {
		sealBlock(f.snapshot[snapshotHeader:at], s.checksum, 0)
	}
	putTrailer(f.snapshot[len(f.snapshot)-trailerSize:], s.checksum, 0)
}

// mendBlock counts what is in a block.
func mendBlock(b []byte) (n uint64, sum int64) {
	r := reader{rest: b[blockHeader:]}
	for len(r.rest) > 0 {
		r.name()
		count := r.count()
		if r.err == nil {
			n, sum = n+1, sum+count
		}
	}
	return n, sum
}
