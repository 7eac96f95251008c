package dirstore

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/counterd/counterd/counter/internal/disk/simdisk"
	"github.com/counterd/counterd/internal/race"
)

// files is a store as it lies on the disk.
type files struct{ log, snapshot []byte }

func (w *world) files() files {
	return files{bytes.Clone(w.Cached[simPath+"/log"].Cache), bytes.Clone(w.Cached[simPath+"/snapshot"].Cache)}
}

// show reads what was put on a disk.
func (f files) show() (counts, error) {
	d := simdisk.New(simdisk.First{})
	d.PutDir(simPath)
	if f.log != nil {
		d.Put(simPath+"/log", f.log)
	}
	if f.snapshot != nil {
		d.Put(simPath+"/snapshot", f.snapshot)
	}
	table, err := show(d, simPath)
	if err != nil {
		return nil, err
	}
	return contents(table), nil
}

// history returns a store, after each commit of a life with several snapshots and
// generations.
func history() (list []files, told []counts) {
	w := newWorld(simdisk.First{})
	w.half = 3 * sectorSize
	keep := func(w *world, _ *Store) error {
		list, told = append(list, w.files()), append(told, maps.Clone(w.told))
		return nil
	}
	if err := w.life([]step{
		keep, add1(1, "a"), keep, add1(2, "a", "b"), keep, add1(1, long), keep, snapshot, keep,
		add1(4, "b"), keep, add1(1, "a", long), keep, snapshot, keep, add1(8, "c"), keep, add1(16, "d", long+"e"), keep,
		snapshot, add1(1, "a"), keep, add1(1, "a"), keep,
	}); err != nil {
		panic(err)
	}
	return list, told
}

// rotten judges what a store shows of which some sectors of the log were changed:
// what it held, or an error. If the last records are all among what was changed, it
// may show the state before these: then no crash could be told from it.
func rotten(f files, told []counts, lost func(back int) bool) (refused bool, err error) {
	got, err := f.show()
	if errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	for back := range len(told) {
		if maps.Equal(got, told[len(told)-1-back]) {
			return false, nil
		}
		if !lost(back) {
			break
		}
	}
	return false, fmt.Errorf("it shows %v instead of %v", got, told[len(told)-1])
}

// Any single flipped bit of the log or the snapshot changes nothing, or is an error;
// or it is in the very last record, which then reads as torn.
func TestBitFlipsExhaustively(t *testing.T) {
	race.Spare(t)
	list, told := history()
	f, told := list[len(list)-1], told[len(told)-3:] // two records since the last snapshot
	last := f.records()[0]
	right, refused, torn := 0, 0, 0
	flip := func(part []byte, bit int, isLog bool) {
		t.Helper()
		part[bit/8] ^= 1 << (bit % 8)
		defer func() { part[bit/8] ^= 1 << (bit % 8) }()
		inLast := isLog && bit/8 >= last && bit/8 < last+sectorSize
		no, err := rotten(f, told, func(back int) bool {
			if inLast && back == 0 {
				torn++
				return true
			}
			return false
		})
		if err != nil {
			t.Fatalf("bit %d (log: %v): %v", bit, isLog, err)
		}
		if no {
			refused++
		} else {
			right++
		}
	}
	every := 1
	if testing.Short() {
		every = 7
	}
	for bit := 0; bit < len(f.snapshot)*8; bit += every {
		flip(f.snapshot, bit, false)
	}
	for bit := 0; bit < len(f.log)*8; bit += every {
		if bit == logHeaderSize*8 { // the rest of the header isn't looked at
			bit = logHeader * 8
		}
		flip(f.log, bit, true)
	}
	t.Logf("%d bits: %d made no difference, %d were refused, %d tore the last record", right+refused+torn, right, refused, torn)
	if min(right, refused, torn) < 20 {
		t.Error("that is too few")
	}
}

// Sectors of the log that come back as zeros, ones, noise, another sector, or an
// older version of themselves, alone and in pairs.
func TestRottenSectorsExhaustively(t *testing.T) {
	race.Spare(t)
	list, told := history()
	f, older, told := list[len(list)-1], list[len(list)-4], told[len(told)-3:]
	noise := make([]byte, sectorSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	var sectors []int
	for at := logHeader; at < len(f.log); at += sectorSize {
		sectors = append(sectors, at)
	}
	records := f.records()
	right, refused := 0, 0
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		bad := files{bytes.Clone(f.log), f.snapshot}
		changed := map[int]bool{}
		for range 2 {
			at := sectors[c.Choose(len(sectors))]
			with := make([]byte, sectorSize)
			switch pick := c.Choose(4 + len(sectors)); pick {
			case 0:
			case 1:
				with = bytes.Repeat([]byte{0xff}, sectorSize)
			case 2:
				with = noise
			case 3:
				with = older.log[at : at+sectorSize]
			default:
				with = f.log[sectors[pick-4] : sectors[pick-4]+sectorSize]
			}
			copy(bad.log[at:], with)
			changed[at] = !bytes.Equal(bad.log[at:at+sectorSize], f.log[at:at+sectorSize])
		}
		no, err := rotten(bad, told, func(back int) bool { return back < len(records) && changed[records[back]] })
		if no {
			refused++
		} else {
			right++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ways: %d refused, %d right or with the last records torn", ways, refused, right)
	if min(right, refused) < 500 {
		t.Error("that is too few")
	}
}

// records returns where the records of the last generations begin, the last one
// first.
func (f files) records() (places []int) {
	sequence := func(at int) uint64 {
		r, _ := parseRecord(f.log[at:], f.id())
		return r.sequence
	}
	for at := logHeader; at < len(f.log); at += sectorSize {
		if sequence(at) > 0 {
			places = append(places, at)
		}
	}
	slices.SortFunc(places, func(a, b int) int { return cmp.Compare(sequence(b), sequence(a)) })
	return places
}

func (f files) id() uint64 {
	id, _, err := parseLogHeader(f.log)
	if err != nil {
		panic(err)
	}
	return id
}

// A part that is missing, of another store, or of another time is an error, or what
// is shown is what was answered last. Only a log that was copied when the snapshot
// was in place already can't be told from a crash.
func TestExchangedParts(t *testing.T) {
	list, told := history()
	others, _ := history()
	right, refused := 0, 0
	check := func(what string, f files, allowed ...counts) {
		t.Helper()
		got, err := f.show()
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign) {
			refused++
			return
		}
		for _, c := range allowed {
			if err == nil && maps.Equal(got, c) {
				right++
				return
			}
		}
		t.Errorf("%s: %v, %v", what, got, err)
	}
	for i, f := range list {
		check("the snapshot is missing", files{f.log, nil})
		check("the log is missing", files{nil, f.snapshot})
		check("the log is cut", files{f.log[:len(f.log)-sectorSize], f.snapshot})
		check("the log is longer", files{append(bytes.Clone(f.log), make([]byte, sectorSize)...), f.snapshot})
		check("the log is empty", files{[]byte{}, f.snapshot})
		check("the snapshot is empty", files{f.log, []byte{}})
		check("the snapshot is cut", files{f.log, f.snapshot[:len(f.snapshot)-1]})
		check("the snapshot is longer", files{f.log, append(bytes.Clone(f.snapshot), 0)})
		check("exchanged", files{f.snapshot, f.log})
		for j, g := range list {
			if i == j {
				check("nothing", f, told[i])
				continue
			}
			check("two stores", files{f.log, others[j].snapshot})
			if bytes.Equal(f.snapshot, g.snapshot) {
				continue
			}
			check(fmt.Sprintf("log %d, snapshot %d", i, j), files{f.log, g.snapshot}, told[i])
		}
	}
	t.Logf("%d right, %d refused", right, refused)
	if min(right, refused) < 20 {
		t.Error("that is too few")
	}
}

// Two copies of one store that went different ways have nothing in common any more,
// though their records have the same numbers.
func TestExchangedTwins(t *testing.T) {
	origin := made([]step{add1(1, "a")})
	var twins []*world
	for _, hits := range []int64{2, 3} {
		w := origin.again(simdisk.First{})
		if err := w.life([]step{add1(hits, "a"), add1(1, "b"), snapshot, add1(1, "c")}); err != nil {
			t.Fatal(err)
		}
		twins = append(twins, w)
	}
	for i, w := range twins {
		if _, err := (files{w.files().log, twins[1-i].files().snapshot}).show(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
}
