package dirstore

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
	"github.com/counterd/counterd/counter/internal/disk/simdisk"
	"github.com/counterd/counterd/internal/race"
)

var (
	diskSeed = flag.Uint64("disk.seed", 0, "seed of the random disk simulation; 0 picks one")
	diskFull = flag.Bool("disk.full", false, "the whole of each space: minutes")
	diskRuns = flag.Int("disk.runs", 3000, "runs of the random disk simulation")
)

const (
	simPath = "c.d"

	firstOps = 59 // of a process that makes a store and does firstScript
	nextOps  = 28 // of one that opens what that leaves and does nextScript
)

// counts is what a store holds.
type counts map[string]int64

// world is a disk and what clients were told about the counters on it.
type world struct {
	*simdisk.Disk
	half  int64
	block int
	told  counts       // what was answered or shown
	tried counts       // what may be on the disk instead; or nil
	plant func(*Store) // called after opening; or nil
	bug   string       // a planted one
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
	c, err := openCore(planted{w.Disk, w.bug}, simPath, w.half, Options{MaxCounters: 100})
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
	if (w.Met || w.NoRoom) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) {
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
	_, size := portion(deltas)
	_, room := s.log.fits(size, s.kept)
	sum, err := s.Add(impatient, deltas)
	switch {
	case errors.Is(err, ErrLogFull) && !room:
		w.tried = nil
		if got := contents(s.table); !maps.Equal(got, w.told) {
			return fmt.Errorf("%w, and then it shows %v instead of %v", err, got, w.told)
		}
		return nil
	case !room:
		return fmt.Errorf("a full log: %w", err)
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
	race.Spare(t)
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
	if ways < 1000 {
		t.Error("that is too few")
	}
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

// made returns the files of a store that has done a script, durable.
func made(script []step) *world {
	w := newWorld(simdisk.First{})
	if err := w.life(script); err != nil {
		panic(err)
	}
	return w
}

// again returns a world with the files and the knowledge of another.
func (w *world) again(c simdisk.Chooser) *world {
	n := newWorld(c)
	n.half, n.block, n.told, n.tried = w.half, w.block, w.told, w.tried
	n.PutDir(simPath)
	for _, name := range []string{"log", "snapshot"} {
		if f := w.Cached[simPath+"/"+name]; f != nil {
			n.Put(simPath+"/"+name, f.Cache)
		}
	}
	return n
}

// Every way in which one record can be torn, of one sector and of several, in the
// middle of a half, at its beginning, and over what an older record left there. Then
// again for the write by which the next process makes durable what it found.
func TestTornRecordsExhaustively(t *testing.T) {
	race.Spare(t)
	befores := map[string][]step{
		"first":            {},
		"second":           {add1(1, "a")},
		"other half":       {add1(1, "a"), add1(1, "b")},
		"over older ones":  {add1(1, "a", long), add1(1, "b"), snapshot, add1(3, "a", "c"), add1(1, "c"), snapshot},
		"behind older one": {add1(1, "a"), add1(1, "b"), snapshot, add1(3, "a"), add1(1, "c"), snapshot, add1(7, "a")},
	}
	records := map[string]step{
		"one sector":  add1(5, "a"),
		"two sectors": add1(5, "a", long),
		"more":        add1(5, long+"1", "b", long+"2"),
	}
	total := 0
	for before, script := range befores {
		for record, add := range records {
			if record == "more" && !*diskFull || record != "one sector" && testing.Short() {
				continue
			}
			w := newWorld(simdisk.First{})
			w.half = 4 * sectorSize
			if before == "over older ones" || before == "behind older one" {
				w.half = 3 * sectorSize
			}
			if err := w.life(script); err != nil {
				t.Fatalf("%s: %v", before, err)
			}
			w.Calm()
			ways, err := simdisk.Explore(func(c simdisk.Chooser) error { return torn(w.again(c), add) })
			if err != nil {
				t.Fatalf("%s, %s: %v", before, record, err)
			}
			t.Logf("%s, %s: %d ways", before, record, ways)
			total += ways
		}
	}
	t.Logf("%d ways to tear a record and the repair after it, no violation", total)
	if total < 1000 {
		t.Error("that is too few")
	}
}

// torn cuts the power while a record is written, and again while the next process
// opens.
func torn(w *world, add step) error {
	done := false
	w.plant = func(s *Store) {
		w.BadOp, w.Trouble = w.Ops+1, simdisk.Dies // before the sync
	}
	if err := w.life([]step{add, func(*world, *Store) error { done = true; return nil }}); err != nil {
		return err
	}
	if done {
		return errors.New("it didn't die")
	}
	w.plant = nil
	w.CutPower(true)
	w.Trouble, w.BadOp = simdisk.Dies, w.Ops-1 // before the last sync
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
	return w.life([]step{catchUp, add1(1, "a", "z")})
}

// A snapshot of several pieces fails or dies at every operation, while others count
// between two of them; in the end everything is there, and the log's space can be
// used again.
func TestSnapshotInterrupted(t *testing.T) {
	race.Spare(t)
	before := []step{add1(1, "a"), add1(2, long, "b"), add1(1, long+"2")}
	w := newWorld(simdisk.First{})
	w.half, w.block = 4*sectorSize, maxEntry+650
	if err := w.life(before); err != nil {
		t.Fatal(err)
	}
	script := []step{snapshotAndAdd(4, "a", "n"), catchUp, add1(1, "b"), add1(1, "b"), add1(1, "b"), add1(1, "b"), catchUp}
	ops := 0
	ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
		w := w.again(c)
		w.Meet(53)
		if err := w.life(script); err != nil {
			return err
		}
		ops = max(ops, w.Ops)
		w.Pause(false)
		return w.lastLives()
	})
	if err != nil {
		t.Fatal(err)
	}
	if ops != 53 {
		t.Errorf("%d operations, 53 are covered", ops)
	}
	t.Logf("%d ways, no violation", ways)
	if ways < 1000 {
		t.Error("that is too few")
	}
}

// random says with which seed to begin, and how many runs to try.
func random() (seed uint64, runs int) {
	seed, runs = *diskSeed, *diskRuns
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	if testing.Short() {
		runs = min(runs, 300)
	}
	return seed, runs
}

// Random lives, much longer than what can be tried exhaustively, with tears at every
// byte.
func TestRandomLives(t *testing.T) {
	race.Spare(t)
	seed, runs := random()
	lives := 0
	for i := range runs {
		n, err := newWorld(simdisk.NewRandom(seed, uint64(i))).randomLives()
		if err != nil {
			t.Fatalf("run %d: %v\nreplay with -run TestRandomLives -disk.seed=%d -disk.runs=%d", i, err, seed, i+1)
		}
		lives += n
	}
	t.Logf("seed %d: %d processes, a power cut after most of them, no violation", seed, lives)
	if runs >= 100 && lives < 3*runs {
		t.Error("that is too few")
	}
}

func (w *world) randomLives() (lives int, err error) {
	w.half = int64(1+w.Choose(6)) * sectorSize
	w.block = maxEntry + w.Choose(2000)
	for range 1 + w.Choose(12) {
		w.Calm()
		if w.Choose(4) > 0 {
			w.Meet(60)
		}
		w.NoRoom = w.Choose(8) == 0
		if err := w.life(w.randomScript()); err != nil {
			return lives, err
		}
		w.NoRoom = false
		lives++
		if w.Choose(2) == 1 {
			w.CutPower(true)
		} else {
			w.Pause(true)
		}
	}
	return lives, nil
}

// Random lives of a Periodic, which counts beside its writes and snapshots.
func TestPeriodicRandomLives(t *testing.T) {
	race.Spare(t)
	seed, runs := random()
	lives := 0
	for i := range runs {
		w := newWorld(simdisk.NewRandom(seed, uint64(i)))
		w.half = int64(2+w.Choose(4)) * sectorSize
		w.block = maxEntry + w.Choose(500)
		for range 1 + w.Choose(12) {
			w.Calm()
			if w.Choose(4) > 0 {
				w.Meet(60)
			}
			var err error
			w.Run(func() { err = w.livePeriodic() })
			w.Between = nil
			if err != nil {
				t.Fatalf("run %d: %v\nreplay with -run TestPeriodicRandomLives -disk.seed=%d -disk.runs=%d", i, err, seed, i+1)
			}
			lives++
			w.Pause(true)
		}
	}
	t.Logf("seed %d: %d processes, no violation", seed, lives)
	if runs >= 100 && lives < 3*runs {
		t.Error("that is too few")
	}
}

func (w *world) livePeriodic() error {
	c, err := openCore(w.Disk, simPath, w.half, Options{MaxCounters: 100, Sync: time.Hour})
	if err != nil {
		return w.excuse(err)
	}
	c.checked = time.Now().Add(time.Hour)
	c.block = w.block
	p := makePeriodic(c)
	if err := w.shows(c.table); err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	memory := maps.Clone(w.told)
	var failed error
	count := func() {
		for range w.Choose(4) {
			name, hits := fmt.Sprintf("%c", 'a'+w.Choose(8)), int64(1+w.Choose(100))
			p.Lock()
			total, _, err := p.AddNow([]byte(name), hits)
			p.Unlock()
			if memory[name] += hits; err != nil || total != memory[name] {
				failed = fmt.Errorf("%s is %d, %v; want %d", name, total, err, memory[name])
			}
		}
	}
	save := func() {
		if p.err != nil || p.left() == 0 {
			return
		}
		if _, size := p.portion(p.left()); !fits(p.core, size) {
			return // nobody would make room
		}
		w.tried = maps.Clone(memory)
		if err := p.save(); err == nil {
			w.told, w.tried = w.tried, nil
		} else if !w.Met || !errors.Is(err, counter.ErrLost) {
			failed = fmt.Errorf("without reason: %w", err)
		}
	}
	for range w.Choose(12) {
		count()
		switch w.Choose(3) {
		case 0:
			save()
		case 1:
			at := w.Ops + w.Choose(5)
			w.Between = func(op int) {
				if op == at {
					w.Between = nil
					count()
					save()
					count()
				}
			}
			err := p.snapshot()
			w.Between = nil
			if err != nil && !w.Met && p.err == nil {
				failed = fmt.Errorf("snapshot: %w", err)
			}
		}
		if failed != nil {
			return failed
		}
	}
	if p.watched != nil {
		p.watched.Stop()
	}
	return p.close()
}

func fits(c *core, size int64) bool {
	_, ok := c.log.fits(size, c.kept)
	return ok
}

// The simulation must find bugs.
func TestPlantedBugs(t *testing.T) {
	race.Spare(t)
	for _, bug := range []string{"commit not synced", "tail not synced", "log reused early", "snapshot not synced", "directory not synced"} {
		t.Run(bug, func(t *testing.T) {
			for i := range uint64(100_000) {
				w := newWorld(simdisk.NewRandom(7, i))
				w.bug = bug
				if bug == "log reused early" {
					w.plant = func(s *Store) { s.undo = func([]int64) { s.kept = s.log.at.generation } }
				}
				if _, err := w.randomLives(); err != nil {
					t.Logf("found in run %d: %v", i, err)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// planted is a disk with a bug.
type planted struct {
	*simdisk.Disk
	bug string
}

type plantedFile struct {
	disk.File
	lies int // the number of the sync that does nothing
	all  bool
}

func (d planted) Open(path string, readOnly bool) (disk.File, error) {
	f, err := d.Disk.Open(path, readOnly)
	if err != nil || !strings.HasSuffix(path, "log") {
		return f, err
	}
	switch d.bug {
	case "commit not synced":
		f = &plantedFile{File: f, lies: 2}
	case "tail not synced":
		f = &plantedFile{File: f, lies: 1}
	}
	return f, nil
}

func (d planted) Create(path string) (disk.File, string, error) {
	f, name, err := d.Disk.Create(path)
	if err == nil && d.bug == "snapshot not synced" && strings.HasSuffix(path, "snapshot") {
		f = &plantedFile{File: f, all: true}
	}
	return f, name, err
}

func (d planted) SyncDir(path string) error {
	if d.bug == "directory not synced" && strings.HasSuffix(path, "snapshot") {
		return nil
	}
	return d.Disk.SyncDir(path)
}

func (f *plantedFile) Sync() error {
	if f.all {
		return nil
	}
	return f.File.Sync()
}

func (f *plantedFile) Datasync() error {
	f.lies--
	if f.lies == 0 || f.all {
		return nil
	}
	return f.File.Datasync()
}

// Setting and dropping by hand, cut short at every operation in every way, in a
// store that was left in any state: what there is then is what was or what should
// be, of all counters.
func TestSetInterrupted(t *testing.T) {
	race.Spare(t)
	stores := map[string]*world{
		"missing":  newWorld(simdisk.First{}),
		"fresh":    made(nil),
		"one half": made([]step{add1(1, "a", "b")}),
		"both":     made([]step{add1(1, "a", "b"), add1(1, "b", "c")}),
		"later":    made([]step{add1(1, "a", "b"), add1(1, "b"), snapshot, add1(1, "c", "b")}),
	}
	total := 0
	for name, store := range stores {
		for _, drops := range []bool{false, true} {
			if drops && store.told["b"] == 0 || testing.Short() && name != "missing" && name != "later" {
				continue
			}
			ways, err := simdisk.Explore(func(c simdisk.Chooser) error {
				w := newWorld(c)
				if name != "missing" {
					w = store.again(c)
				}
				return w.byHand(drops)
			})
			if err != nil {
				t.Fatalf("%s, drop %v: %v", name, drops, err)
			}
			total += ways
		}
	}
	t.Logf("%d ways, no violation", total)
	if total < 1000 {
		t.Error("that is too few")
	}
}

func (w *world) byHand(drops bool) (err error) {
	w.Meet(45)
	w.tried = maps.Clone(w.told)
	do := func() error {
		return set(w.Disk, simPath, w.half, []counter.Named{{Name: "b", Count: 0}, {Name: "n", Count: 9}})
	}
	if drops {
		do = func() error { return drop(w.Disk, simPath, []string{"b"}) }
		delete(w.tried, "b")
	} else {
		w.tried["b"], w.tried["n"] = 0, 9
	}
	w.Run(func() {
		if err = do(); err != nil {
			err = w.excuse(err)
			return
		}
		w.told, w.tried = w.tried, nil
		if w.Ops > 45 {
			err = fmt.Errorf("%d operations, 45 are covered", w.Ops)
		}
	})
	if err != nil {
		return err
	}
	w.Pause(false)
	return w.lastLives()
}

func (w *world) randomScript() (script []step) {
	names := func() (list []string) {
		for range 1 + w.Choose(3) {
			name := fmt.Sprintf("%c", 'a'+w.Choose(6))
			if w.half > sectorSize && w.Choose(6) == 0 {
				name += long[:w.Choose(300)]
			}
			list = append(list, name)
		}
		slices.Sort(list)
		return slices.Compact(list)
	}
	for range w.Choose(12) {
		hits := int64(1 + w.Choose(1000))
		if w.half == sectorSize || w.Choose(3) == 0 {
			script = append(script, catchUp)
		}
		switch w.Choose(5) {
		case 0:
			script = append(script, snapshot)
		case 1:
			script = append(script, snapshotAndAdd(hits, names()...))
		default:
			script = append(script, add1(hits, names()...))
		}
	}
	return script
}
