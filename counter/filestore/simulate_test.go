package filestore

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk/simdisk"
	"github.com/counterd/counterd/internal/race"
)

var (
	diskSeed = flag.Uint64("disk.seed", 0, "seed of the random disk simulation; 0 picks one")
	diskFull = flag.Bool("disk.full", false, "let two processes in a row meet trouble: minutes")
	diskRuns = flag.Int("disk.runs", 3000, "runs of the random disk simulation")
)

const (
	simPath = "c.db"

	firstOps = 22 // of a process that creates a store and commits three times
	nextOps  = 11 // of one that opens it and commits once
)

// world is a disk and what clients were told about the count on it.
type world struct {
	*simdisk.Disk
	told  int64 // the highest number that was answered or shown
	tried int64 // the highest that may be on the disk
}

func newWorld(c simdisk.Chooser) *world { return &world{Disk: simdisk.New(c)} }

// life opens the store and counts. It returns what no disk may cause.
func (w *world) life(adds []int64) (err error) {
	w.Run(func() { err = w.live(adds) })
	return err
}

func (w *world) live(adds []int64) error {
	s, err := open(w.Disk, simPath)
	if err != nil {
		return w.excuse(err)
	}
	v, err := s.add(0)
	if err != nil {
		return fmt.Errorf("read after opening: %w", err)
	}
	if err := w.shows(v); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	for _, n := range adds {
		w.tried = w.told + n
		v, err := s.add(n)
		if err != nil {
			return w.checkLost(s, err)
		}
		if v != w.told+n {
			return fmt.Errorf("%d after %d and %d", v, w.told, n)
		}
		w.told = v
	}
	return s.Close()
}

// shows notes that a process, just started, shows the count v.
func (w *world) shows(v int64) error {
	if v < w.told || v > w.tried {
		return fmt.Errorf("the count is %d; %d was answered, %d was tried", v, w.told, w.tried)
	}
	w.told, w.tried = v, v
	return nil
}

// excuse accepts an error only if an operation was made to fail.
func (w *world) excuse(err error) error {
	if w.Met && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
		return nil
	}
	return fmt.Errorf("without reason: %w", err)
}

// checkLost checks that after an error nothing is answered any more.
func (w *world) checkLost(s *Store, err error) error {
	if !w.Met {
		return fmt.Errorf("without reason: %w", err)
	}
	for _, n := range []int64{0, 1} {
		if _, again := s.add(n); !errors.Is(err, counter.ErrLost) || again != err {
			return fmt.Errorf("after %w an Add(%d) gave %w", err, n, again)
		}
	}
	return s.Close()
}

// Every way in which one commit can be torn, for numbers that share no bytes
// and such that share nearly all, in either slot. Then the same again for the
// write by which the next process makes durable what it found.
func TestTornWritesExhaustively(t *testing.T) {
	race.Spare(t)
	values := []struct{ before, add int64 }{
		{0, 1}, {1, 1}, {255, 1}, {1<<32 - 1, 1}, {0x0101010101010101, 0x0101010101010101}, {0, math.MaxInt64}, {math.MaxInt64 - 1, 1},
	}
	total := 0
	if testing.Short() {
		values = values[4:5]
	}
	for _, v := range values {
		for slot := range 2 {
			ways, err := simdisk.Explore(func(c simdisk.Chooser) error { return tornCommit(c, v.before, v.add, slot) })
			if err != nil {
				t.Fatalf("%d+%d in slot %d: %v", v.before, v.add, slot, err)
			}
			total += ways
		}
	}
	t.Logf("%d ways to tear a commit and the repair after it, no violation", total)
	if total < 5000 {
		t.Error("that is too few")
	}
}

// tornCommit cuts the power during a commit into slot, and again while the next
// process opens.
func tornCommit(c simdisk.Chooser, before, add int64, slot int) error {
	w := newWorld(c)
	content := make([]byte, fileSize)
	last := record{uint64(9 + slot), before} // its successor goes into slot
	prior := record{last.sequence - 1, max(before-1, 0)}
	last.put(content[last.offset():])
	prior.put(content[prior.offset():])
	f := w.Put(simPath, content)

	w.told, w.tried = before, before+add
	next := record{last.sequence + 1, before + add}
	buf := make([]byte, copiesSize)
	next.put(buf)
	f.Write(buf, int(next.offset()))
	w.CutPower(true)

	w.Trouble, w.BadOp = simdisk.Dies, 6 // open, lock, size, read, two writes, and dead before the sync
	if err := w.life(nil); err != nil {
		return err
	}
	w.CutPower(false)
	w.Calm()
	if err := w.life(nil); err != nil {
		return err
	}
	// What it showed is durable.
	w.CutPower(false)
	return w.life([]int64{0})
}

// A torn write has left a mix in one copy of the slot that it was for, and the
// other copy old. The next write into that slot, a commit's or that of store set,
// is torn again, in every way: it must not find that old copy to be the only one.
func TestTornTwiceExhaustively(t *testing.T) {
	race.Spare(t)
	total := 0
	slots := 2
	if testing.Short() {
		slots = 1
	}
	for slot := range slots {
		for _, mixed := range []int64{0, sectorSize} {
			for _, again := range []func(*world){tornCommitAgain, tornSetAgain} {
				ways, err := simdisk.Explore(func(c simdisk.Chooser) error { return tornTwice(c, slot, mixed, again) })
				if err != nil {
					t.Fatalf("slot %d, the copy at %d: %v", slot, mixed, err)
				}
				total += ways
			}
		}
	}
	t.Logf("%d ways to tear a second write, no violation", total)
	if total < 5000 {
		t.Error("that is too few")
	}
}

func tornTwice(c simdisk.Chooser, slot int, mixed int64, again func(*world)) error {
	w := newWorld(c)
	content := make([]byte, fileSize)
	old := record{uint64(8 + slot), 41}
	last := record{old.sequence + 1, 42}
	old.put(content[old.offset():])
	last.put(content[last.offset():])
	content[old.offset()+mixed+20]++
	w.Put(simPath, content)

	again(w)
	w.CutPower(true)
	w.Calm()
	w.told, w.tried = 42, 43
	return w.life(nil)
}

func tornCommitAgain(w *world) {
	w.Trouble, w.BadOp = simdisk.Dies, nextOps-1 // before the last sync
	w.Run(func() {
		s, _ := open(w.Disk, simPath)
		_, _ = s.add(1)
	})
}

func tornSetAgain(w *world) {
	w.Trouble, w.BadOp = simdisk.Dies, 8 // open, lock, size, read, two writes and a sync, a write, and dead before the next sync
	w.Run(func() { _ = set(w.Disk, simPath, 43) })
}

// Every operation of a process that creates a store and counts fails in every
// way, or the process dies there; then the machine runs on, runs short of
// memory or loses power in every way; with -disk.full then the same with the
// next process.
func TestEveryOperationFails(t *testing.T) {
	race.Spare(t)
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		w := newWorld(c)
		w.Meet(firstOps)
		if err := w.life([]int64{1, 2, 4}); err != nil {
			return fmt.Errorf("first process: %w", err)
		}
		w.Pause(false)
		if *diskFull {
			w.Meet(nextOps)
			if err := w.life([]int64{8}); err != nil {
				return fmt.Errorf("second process: %w", err)
			}
			w.CutPower(false)
		}
		w.Calm()
		// It may only show the count: what it shows must be durable, too.
		if err := w.life([][]int64{nil, {16}}[w.Choose(2)]); err != nil {
			return fmt.Errorf("last process: %w", err)
		}
		w.CutPower(false)
		if err := w.life(nil); err != nil {
			return fmt.Errorf("after the last process: %w", err)
		}
		return w.tidy()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ways, no violation", ways)
	if ways < 1000 {
		t.Error("that is too few")
	}
}

// tidy checks that nothing but the store is left in the directory.
func (w *world) tidy() error {
	if len(w.Cached) != 1 {
		return fmt.Errorf("%d files are left", len(w.Cached))
	}
	return nil
}

// The numbers of operations must be all there are.
func TestOperationsAreCovered(t *testing.T) {
	w := newWorld(simdisk.NewRandom(1, 1))
	for _, test := range []struct {
		adds    []int64
		covered int
	}{{[]int64{1, 2, 4}, firstOps}, {[]int64{8}, nextOps}} {
		w.Calm()
		if err := w.life(test.adds); err != nil {
			t.Fatal(err)
		}
		if w.Ops != test.covered {
			t.Errorf("%d operations, %d are covered", w.Ops, test.covered)
		}
	}
}

// The simulation must find a disk that says it has synced and hasn't: no store
// survives that.
func TestSimulationFindsALie(t *testing.T) {
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		w := newWorld(c)
		if err := w.life([]int64{1}); err != nil {
			return err
		}
		w.Lies = true
		if err := w.life([]int64{1}); err != nil {
			return err
		}
		w.CutPower(false)
		return w.life(nil)
	})
	if err == nil {
		t.Fatalf("not found in %d ways", ways)
	}
	t.Log(err)
}

// Random lives, much longer than what can be tried exhaustively, with tears at
// every byte.
func TestRandomLives(t *testing.T) {
	race.Spare(t)
	seed := *diskSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	lives, cuts := 0, 0
	runs := *diskRuns
	if testing.Short() {
		runs = min(runs, 300)
	}
	for i := range runs {
		w := newWorld(simdisk.NewRandom(seed, uint64(i)))
		for range 1 + w.Choose(12) {
			adds := make([]int64, w.Choose(6))
			for j := range adds {
				adds[j] = int64(1 + w.Choose(1000))
			}
			w.Calm()
			if w.Choose(4) > 0 {
				w.Meet(24)
			}
			if err := w.life(adds); err != nil {
				t.Fatalf("run %d: %v\nreplay with -run TestRandomLives -disk.seed=%d -disk.runs=%d", i, err, seed, i+1)
			}
			lives++
			if w.Choose(2) == 1 {
				w.CutPower(true)
				cuts++
				continue
			}
			w.Pause(true)
		}
	}
	t.Logf("seed %d: %d processes, at least %d power cuts, no violation", seed, lives, cuts)
	if runs >= 100 && (lives < 3*runs || cuts < runs) {
		t.Error("that is too few")
	}
}

// A store after some commits, for rot.
func healthy() ([]byte, record) {
	file := make([]byte, fileSize)
	record{100, 7777}.put(file)
	last := record{101, 7781}
	last.put(file[slotSize:])
	return file, last
}

// Any single flipped bit of the file changes nothing. Any two flipped bits in
// the records change nothing or are found.
func TestBitFlipsExhaustively(t *testing.T) {
	race.Spare(t)
	file, last := healthy()
	flip := func(bit int) { file[bit/8] ^= 1 << (bit % 8) }
	for bit := range fileSize * 8 {
		flip(bit)
		if got, err := parseFile(file); got != last || err != nil {
			t.Fatalf("bit %d: %v, %v", bit, got, err)
		}
		flip(bit)
	}
	var bits []int
	for _, at := range []int{0, sectorSize, slotSize, slotSize + sectorSize} {
		for i := range recordSize * 8 {
			bits = append(bits, at*8+i)
		}
	}
	if testing.Short() {
		bits = bits[len(bits)/2:]
	}
	found := 0
	for i, a := range bits {
		flip(a)
		for _, b := range bits[:i] {
			flip(b)
			got, err := parseFile(file)
			if err == nil && got != last {
				t.Fatalf("bits %d and %d: %v", a, b, got)
			}
			if err != nil {
				found++
			}
			flip(b)
		}
		flip(a)
	}
	pairs := len(bits) * (len(bits) - 1) / 2
	t.Logf("%d single bits, %d pairs (%d of them refused), no violation", fileSize*8, pairs, found)
	if found < 10_000 || found == pairs {
		t.Error("that is too few")
	}
}

// Sectors that come back as something else: zeros, ones, noise, an older
// version of themselves, or another sector of the file. Every combination of
// them over the four sectors that matter gives the right count or an error.
// Only both copies of the newest record replaced by their own older versions,
// with both copies of the other slot replaced likewise, is a lie that no file
// can find by itself.
func TestRottenSectorsExhaustively(t *testing.T) {
	race.Spare(t)
	file, last := healthy()
	sectors := []int{0, sectorSize, slotSize, slotSize + sectorSize}
	older := make([]byte, fileSize)
	record{98, 7000}.put(older)
	record{99, 7001}.put(older[slotSize:])
	noise := make([]byte, sectorSize)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	fillings := func(at int) [][]byte {
		list := [][]byte{file[at : at+sectorSize], make([]byte, sectorSize), bytes.Repeat([]byte{0xff}, sectorSize), noise}
		for _, other := range sectors {
			list = append(list, file[other:other+sectorSize])
		}
		return append(list, older[at:at+sectorSize])
	}
	right, refused, lies := 0, 0, 0
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		rotten := bytes.Clone(file)
		stale := 0
		for i, at := range sectors {
			options := fillings(at)
			pick := c.Choose(len(options))
			copy(rotten[at:], options[pick])
			if i >= 2 && pick == len(options)-1 {
				stale++
			}
		}
		got, err := parseFile(rotten)
		switch {
		case err != nil:
			refused++
		case got == last:
			right++
		case stale > 0 && got.sequence < last.sequence:
			lies++
		default:
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ways: %d right, %d refused, %d where a lost write can't be found", ways, right, refused, lies)
	if min(right, refused, lies) < 100 {
		t.Error("that is too few")
	}
}

// store set, cut short at every operation in every way, on every kind of file
// that it accepts: the count is as it was or as it should be, or what was
// damaged still is.
func TestSetInterrupted(t *testing.T) {
	race.Spare(t)
	good, last := healthy()
	rotten := bytes.Clone(good)
	rotten[slotSize] ^= 1
	rotten[slotSize+sectorSize] ^= 1
	worse := bytes.Clone(rotten)
	worse[5] ^= 1
	worse[sectorSize+20] ^= 1
	files := map[string][]byte{
		"missing": nil, "empty": {}, "healthy": good, "unsaved": good, "rotten": rotten, "worse": worse,
		"cut": good[:slotSize], "cut in a record": good[:slotSize+16], "too long": append(bytes.Clone(good), 1, 2, 3),
	}
	for name, content := range files {
		for _, value := range []int64{5, 1 << 40} {
			ways, err := simdisk.Explore(func(c simdisk.Chooser) error { return interruptedSet(c, name, content, last, value) })
			if err != nil {
				t.Fatalf("%s, set to %d: %v", name, value, err)
			}
			t.Logf("%s, set to %d: %d ways, no violation", name, value, ways)
			if ways < 100 {
				t.Error("that is too few")
			}
		}
	}
}

func interruptedSet(c simdisk.Chooser, name string, content []byte, last record, value int64) error {
	w := newWorld(c)
	if name != "missing" {
		w.Put(simPath, content)
	}
	if name == "unsaved" { // whoever created it was killed before the sync of the directory
		w.Unsave(simPath)
	}
	w.Meet(14)
	done := false
	var err error
	w.Run(func() {
		err = set(w.Disk, simPath, value)
		done = err == nil
	})
	if err != nil && !w.Met {
		return err
	}
	w.Pause(false)
	w.Calm()
	var got int64
	w.Run(func() { got, err = show(w.Disk, simPath) })
	switch {
	case err == nil && got == value:
		return nil
	case done:
		return fmt.Errorf("was set, and then: %d, %v", got, err)
	case err == nil && got == last.value && bytes.HasPrefix(content, []byte(magic)):
		return nil // a write torn at the right byte can even heal a flipped bit
	case (name == "missing" || name == "unsaved") && err != nil && len(w.Cached) <= 1:
		return nil // and whoever opens it next starts at 0
	case name != "healthy" && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrForeign)):
		return nil
	}
	return fmt.Errorf("not set, and then: %d, %v", got, err)
}
