package dirstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
	"github.com/counterd/counterd/counter/internal/disk/simdisk"
)

var (
	diskSeed = flag.Uint64("disk.seed", 0, "seed of the random disk simulation; 0 picks one")
	diskFull = flag.Bool("disk.full", false, "let two processes in a row meet trouble: minutes")
	diskRuns = flag.Int("disk.runs", 3000, "runs of the random disk simulation")
)

const (
	simPath = "c.d"

	firstOps = 58 // of a process that makes a store and does firstScript
	nextOps  = 27 // of one that opens what that leaves and does nextScript
)

// counts is what a store holds.
type counts map[string]int64

// world is a disk and what clients were told about the counters on it.
type world struct {
	*simdisk.Disk
	half  int64
	block int
	told  counts // what was answered or shown
	tried counts // what may be on the disk instead; or nil
	plant func(*Store)
}

func newWorld(c simdisk.Chooser) *world {
	return &world{Disk: simdisk.New(c), half: 2 * sectorSize, block: maxBlock, told: counts{}}
}

// A step is something that a process does.
type step func(*world, *Store) error

// add counts hits on each of the names.
func add1(hits int64, names ...string) step {
	return func(w *world, s *Store) error { return w.add(s, hits, names) }
}

// snapshot is what the background does.
func snapshot(w *world, s *Store) error {
	if err := s.snapshot(); err != nil && !w.Met && !w.NoRoom {
		return fmt.Errorf("snapshot: %w", err)
	}
	return nil
}

// catchUp is what the background does first.
func catchUp(w *world, s *Store) error {
	if s.log.at.generation == s.kept {
		return nil
	}
	return snapshot(w, s)
}

// snapshotAndAdd lets somebody count between two operations of a snapshot.
func snapshotAndAdd(hits int64, names ...string) step {
	return func(w *world, s *Store) (err error) {
		at := w.Ops + w.Choose(5)
		w.Between = func(op int) {
			if op == at {
				w.Between = nil
				err = w.add(s, hits, names)
			}
		}
		defer func() { w.Between = nil }()
		return errors.Join(snapshot(w, s), err)
	}
}

var long = strings.Repeat("x", 600)

var (
	// With halves of two records: the first is the empty one.
	firstScript = []step{add1(1, "a"), add1(2, "a", "b"), snapshot, add1(4, "b"), add1(8, "c"), snapshot, add1(1, "a")}
	nextScript  = []step{catchUp, add1(16, "a", "d"), snapshot, add1(32, "b")}
)

// life opens the store and does the steps. It returns what no disk may cause.
func (w *world) life(script []step) (err error) {
	w.Run(func() { err = w.live(script) })
	w.Between = nil
	return err
}

func (w *world) live(script []step) error {
	c, err := openCore(w.Disk, simPath, w.half, Options{MaxCounters: 100})
	if err != nil {
		return w.excuse(err)
	}
	c.checked = time.Now().Add(time.Hour) // the clock is none of the choices
	c.block = w.block
	s := newStore(c)
	if w.plant != nil {
		w.plant(s)
	}
	if err := w.shows(c.table); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	for i, step := range script {
		if err := step(w, s); err != nil {
			return fmt.Errorf("step %d: %w", i, err)
		}
		if s.err != nil {
			break
		}
	}
	return s.Close()
}

// contents is what a table holds.
func contents(t *counter.Table) counts {
	all := counts{}
	for i := range t.Len() {
		all[string(t.Name(i))] = t.Count(i)
	}
	return all
}

// shows notes what a process, just started, shows.
func (w *world) shows(t *counter.Table) error {
	got := contents(t)
	if len(got) != t.Len() {
		return fmt.Errorf("%d counters have %d names", t.Len(), len(got))
	}
	if !maps.Equal(got, w.told) && (w.tried == nil || !maps.Equal(got, w.tried)) {
		return fmt.Errorf("it shows %v; %v was answered, %v was tried", got, w.told, w.tried)
	}
	sum := int64(0)
	for _, n := range got {
		sum += n
	}
	if t.Sum() != sum {
		return fmt.Errorf("the sum is %d instead of %d", t.Sum(), sum)
	}
	w.told, w.tried = got, nil
	return nil
}

// excuse accepts an error only if an operation was made to fail.
func (w *world) excuse(err error) error {
	if w.Met && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
		return nil
	}
	return fmt.Errorf("without reason: %w", err)
}

// impatient lets a full log be full.
var impatient = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

func (w *world) add(s *Store, hits int64, names []string) error {
	var deltas []counter.Delta
	w.tried = maps.Clone(w.told)
	for _, name := range names {
		deltas = append(deltas, counter.Delta{Name: []byte(name), Hits: hits})
		w.tried[name] += hits
	}
	sum, err := s.Add(impatient, deltas)
	switch {
	case errors.Is(err, ErrLogFull) && (w.Met || w.NoRoom):
		w.tried = nil // and so nothing was added
		return nil
	case err != nil && w.Met:
		return w.checkLost(s, err)
	case err != nil:
		return fmt.Errorf("without reason: %w", err)
	}
	want := int64(0)
	for _, n := range w.tried {
		want += n
	}
	if sum != want {
		return fmt.Errorf("the sum is %d instead of %d", sum, want)
	}
	for _, d := range deltas {
		if d.Refused || d.Total != w.tried[string(d.Name)] {
			return fmt.Errorf("%q is answered %d (refused: %v) instead of %d", d.Name, d.Total, d.Refused, w.tried[string(d.Name)])
		}
	}
	w.told, w.tried = w.tried, nil
	return nil
}

// checkLost checks that after an error nothing is answered any more.
func (w *world) checkLost(s *Store, err error) error {
	for _, deltas := range [][]counter.Delta{nil, {{Name: []byte("a"), Hits: 1}}} {
		if _, again := s.Add(impatient, deltas); !errors.Is(err, counter.ErrLost) || again != err {
			return fmt.Errorf("after %w another Add gave %w", err, again)
		}
	}
	return nil
}

// small says that a large space is to be cut: the race detector makes it slow, and
// finds nothing in one goroutine.
func small() bool { return raceEnabled || testing.Short() }

// tidy checks that nothing but the store is left in the directory.
func (w *world) tidy() error {
	if len(w.Cached) != 3 {
		return fmt.Errorf("%v are left", w.Cached)
	}
	return nil
}

// Every operation of a process that makes a store, counts, begins the other half of
// the log and writes snapshots fails in every way, or the process dies there; then
// the machine runs on, runs short of memory or loses power in every way; with
// -disk.full then the same with the next process.
func TestEveryOperationFails(t *testing.T) {
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		w := newWorld(c)
		w.Meet(firstOps)
		if err := w.life(firstScript); err != nil {
			return fmt.Errorf("first process: %w", err)
		}
		w.Pause(false)
		if *diskFull {
			w.Meet(nextOps)
			if err := w.life(nextScript); err != nil {
				return fmt.Errorf("second process: %w", err)
			}
			w.CutPower(false)
		}
		return w.lastLives()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d ways, no violation", ways)
}

// lastLives are two processes that meet no trouble. The first may only show the
// counts: what it shows must be durable, too.
func (w *world) lastLives() error {
	w.Calm()
	if err := w.life([][]step{nil, nextScript}[w.Choose(2)]); err != nil {
		return fmt.Errorf("last process: %w", err)
	}
	w.CutPower(false)
	if err := w.life(nil); err != nil {
		return fmt.Errorf("after the last process: %w", err)
	}
	return w.tidy()
}

// The numbers of operations must be all there are.
func TestOperationsAreCovered(t *testing.T) {
	w := newWorld(simdisk.First{})
	for _, test := range []struct {
		script  []step
		covered int
	}{{firstScript, firstOps}, {nextScript, nextOps}} {
		w.Calm()
		if err := w.life(test.script); err != nil {
			t.Fatal(err)
		}
		if w.Ops != test.covered {
			t.Errorf("%d operations, %d are covered", w.Ops, test.covered)
		}
	}
}

var _ disk.Disk = (*simdisk.Disk)(nil)
