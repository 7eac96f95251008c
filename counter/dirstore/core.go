package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/internal/disk"
)

const (
	halfSize = 16 << 20 // of a new log

	nameCheck     = time.Second
	snapshotRetry = time.Second
)

var (
	// ErrLocked says that another process has the store open.
	ErrLocked = disk.ErrLocked

	// ErrLogFull says that the log is full, and that no snapshot could be written
	// that would make room. What was asked for in one record of the log (1 MiB: more
	// than ten thousand names) was not counted at all. The next call may succeed.
	ErrLogFull = errors.New("the log is full")

	errLater = errors.New("it wasn't written in time")
)

// core is what both stores have in common: the counters in memory, the log, and
// the snapshots.
type core struct {
	disk disk.Disk
	path string
	opts Options

	// commit is held while a record is made and written, and while the counts are
	// copied for a snapshot, which must be those of one record. Locked before mu.
	commit  sync.Mutex
	log     *log
	logged  int   // how many counters the log knows
	sum     int64 // of the counts that the log knows
	err     error // why nothing more is done
	checked time.Time

	// mu is held, for microseconds, by whoever uses what is in memory.
	mu      sync.Mutex
	table   *counter.Table
	kept    uint64        // the generation of the snapshot that is certainly on disk
	trying  chan struct{} // closed when the snapshot that is wanted is there, or failed; else nil
	failure error         // why there is none, until the next attempt
	full    error         // why nothing more fits into the log; nil: something does

	// naming is held while the snapshot gets its name, and while that is checked.
	naming       sync.Mutex
	snapshotFile disk.File
	snapshotSize int64

	reached atomic.Uint64 // the last record that is on disk
	hurry   atomic.Bool   // the log fills up
	undo    func([]int64) // takes back in copied counts what the log doesn't know; or nil
	counts  []int64       // for the next image
	block   int           // bytes of a block of the snapshot

	wanted  chan struct{}
	closing chan struct{}
	ended   chan struct{} // snapshots returned; nil if it never ran
}

func (c *core) logPath() string      { return filepath.Join(c.path, "log") }
func (c *core) snapshotPath() string { return filepath.Join(c.path, "snapshot") }

// openCore opens the store in the directory, or makes one. When it returns, what
// it has read is durable. half is for a new log.
func openCore(d disk.Disk, path string, half int64, o Options) (*core, error) {
	c := newCore(d, path, o)
	if err := c.openOrMakeLog(half); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		c.closeFiles()
		return nil, err
	}
	return c, nil
}

func newCore(d disk.Disk, path string, o Options) *core {
	return &core{
		disk:    d,
		path:    path,
		opts:    o,
		table:   counter.NewTable(o.MaxCounters),
		checked: time.Now(),
		block:   maxBlock,
		wanted:  make(chan struct{}, 1),
		closing: make(chan struct{}),
	}
}

// openOrMakeLog opens the log and with it locks the store.
func (c *core) openOrMakeLog(half int64) error {
	// Another process may create or remove it between our steps; then they are taken
	// again. That can't happen many times in a row.
	for range 100 {
		f, err := disk.OpenLocked(c.disk, c.logPath())
		if err == nil {
			if c.log, err = openLog(f); err != nil {
				f.Close()
			}
			return err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return notDirectory(err)
		}
		if err := c.makeLog(half); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return errors.New("the log comes and goes")
}

// notDirectory says what is wrong with a path that leads through a file.
func notDirectory(err error) error {
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%w: it is a file, not a directory", ErrForeign)
	}
	return err
}

// makeLog makes a log, and the directory, where there is nothing yet. The error is
// fs.ErrExist if somebody else does.
func (c *core) makeLog(half int64) error {
	err := c.whyNoLog(nil)
	if errors.Is(err, fs.ErrNotExist) {
		return c.makeDir()
	}
	if err != nil {
		return err
	}
	if err := disk.Make(c.disk, c.logPath(), func(f disk.File) error { return makeLog(f, rand.Uint64(), half) }); err != nil {
		return fmt.Errorf("creating it: %w", err)
	}
	return nil
}

// whyNoLog looks at a directory without a log. It returns other if nothing is wrong
// with that, and fs.ErrExist if there is a log by now.
func (c *core) whyNoLog(other error) error {
	names, err := c.disk.Names(c.path)
	if err != nil {
		return err
	}
	for _, name := range names {
		switch {
		case name == "log":
			return fs.ErrExist
		case name == "snapshot":
			return damaged("the log is missing")
		case !strings.HasPrefix(name, ".") && name != "lost+found":
			return fmt.Errorf("%w: the directory holds other things, such as %q", ErrForeign, name)
		}
	}
	return other
}

func (c *core) makeDir() error {
	if err := c.disk.MakeDir(c.path); err != nil {
		return fmt.Errorf("creating it: %w", err)
	}
	return fs.ErrExist // now it does
}

// start reads a locked store and makes what it says durable.
func (c *core) start() error {
	// Names first: what they lead to may be built upon. Whoever made or renamed a
	// file may have ended before it synced the name.
	for _, path := range []string{c.path, c.logPath()} {
		if err := c.disk.SyncDir(path); err != nil {
			return fmt.Errorf("syncing the directory: %w", err)
		}
	}
	f, err := c.disk.Open(c.snapshotPath(), false)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = c.firstSnapshot()
	}
	if err != nil {
		return err
	}
	c.snapshotFile = f
	last, err := c.read()
	if err != nil {
		return err
	}
	disk.RemoveLeftovers(c.disk, c.logPath())
	disk.RemoveLeftovers(c.disk, c.snapshotPath())
	return c.secure(last)
}

// firstSnapshot finishes a store of which only the log was made.
func (c *core) firstSnapshot() (disk.File, error) {
	if err := c.whyNoSnapshot(nil); err != nil {
		return nil, err
	}
	first := image{id: c.log.id, at: position{generation: 1}, block: c.block}
	err := disk.Make(c.disk, c.snapshotPath(), func(f disk.File) error {
		_, err := first.write(f, func() uint64 { return 0 }, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("creating it: %w", err)
	}
	return c.disk.Open(c.snapshotPath(), false)
}

// whyNoSnapshot looks at a log without a snapshot. It returns other if nothing was
// ever written to it, so that whoever made it was interrupted.
func (c *core) whyNoSnapshot(other error) error {
	blank, err := c.log.search()
	if errors.Is(err, ErrDamaged) || err == nil && !blank {
		return damaged("the snapshot is missing")
	}
	if err != nil {
		return err
	}
	return other
}

// read reads the snapshot and the log. It changes nothing on disk.
func (c *core) read() (last tail, err error) {
	if c.snapshotSize, err = c.snapshotFile.Size(); err != nil {
		return last, err
	}
	reached, err := readSnapshot(c.snapshotFile, c.log, c.table)
	if err != nil {
		return last, err
	}
	c.kept = c.log.at.generation
	if ok, err := c.log.holds(); err != nil {
		return last, err
	} else if !ok {
		return last, damaged("the log doesn't hold record %d, after which the snapshot was made", c.log.at.sequence)
	}
	if last, err = c.log.replay(c.table); err != nil {
		return last, err
	}
	if _, err := c.log.search(); err != nil {
		return last, err
	}
	if at := c.log.at.sequence; at < reached {
		return last, damaged("the log ends with record %d, and the snapshot was made when there were %d", at, reached)
	}
	c.logged, c.sum = c.table.Len(), c.table.Sum()
	c.reached.Store(c.log.at.sequence)
	return last, nil
}

// secure makes the last record durable, which may be in the page cache only, if
// whoever wrote it was killed before the sync. Into a log that is still blank it
// writes an empty record: a log without a snapshot is from now on no store that was
// never finished.
func (c *core) secure(last tail) error {
	if c.log.at.sequence == 0 {
		c.log.begin()
		if err := c.log.append(c.log.at, c.sum); err != nil {
			return err
		}
		c.reached.Store(c.log.at.sequence)
		return nil
	}
	if last.bytes == nil {
		return nil
	}
	if _, err := c.log.file.WriteAt(last.bytes, last.at); err != nil {
		return err
	}
	return c.log.file.Datasync()
}

// begin starts to write snapshots in the background.
func (c *core) begin() {
	c.ended = make(chan struct{})
	go c.snapshots()
	if c.log.at.generation > c.kept {
		c.want()
	}
}

// fail ends the counting for ever: after a failed write or sync nobody knows what
// is on disk.
func (c *core) fail(err error) error {
	c.err = &counter.LostError{Err: fmt.Errorf("store %s: %w", c.path, err)}
	return c.err
}

// room waits until a record of so many bytes fits, and returns where. The caller
// holds commit, which is free while it waits.
func (c *core) room(ctx context.Context, size int64) (position, error) {
	for {
		c.mu.Lock()
		to, ok := c.log.fits(size, c.kept)
		trying, failure := c.trying, c.failure
		switch {
		case ok:
			c.full = nil
		case trying == nil && failure != nil:
			c.full = c.noRoom(failure)
		}
		full := c.full
		c.mu.Unlock()
		if ok || full != nil && trying == nil {
			return to, full
		}
		if trying == nil {
			c.want()
			continue
		}
		c.commit.Unlock()
		select {
		case <-trying:
		case <-ctx.Done():
		}
		c.commit.Lock()
		if c.err != nil {
			return to, c.err
		}
		if ctx.Err() != nil {
			return to, c.noRoom(errLater)
		}
	}
}

func (c *core) noRoom(failure error) error {
	return fmt.Errorf("store %s: %w, and no snapshot makes room: %w", c.path, ErrLogFull, failure)
}

// append writes the record that was made, and asks for a snapshot where that has
// begun the second half of the log.
func (c *core) append(to position, hits int64) error {
	turn := to.generation > c.log.at.generation
	err := c.log.append(to, c.sum+hits)
	if err == nil {
		err = c.checkNames()
	}
	if err != nil {
		return c.fail(err)
	}
	c.sum += hits
	c.reached.Store(c.log.at.sequence)
	c.hurry.Store(c.log.at.offset > c.log.half/2)
	if turn {
		c.want()
	}
	return nil
}

// put adds to the record that counter i has that count now.
func (c *core) put(i int, count int64) {
	if i < c.logged {
		c.log.buf = appendKnown(c.log.buf, i, count)
		return
	}
	c.log.buf = appendNew(c.log.buf, c.table.Name(i), count)
	c.logged++
}

// checkNames notices, within a second of counting, that the store was removed,
// replaced or truncated under the running process: what is counted then would be
// gone with it.
func (c *core) checkNames() error {
	now := time.Now()
	if now.Sub(c.checked) < nameCheck {
		return nil
	}
	c.checked = now
	if !c.log.file.Named(c.logPath(), c.log.size()) {
		return errors.New("the log was removed, replaced or truncated")
	}
	c.naming.Lock()
	defer c.naming.Unlock()
	if !c.snapshotFile.Named(c.snapshotPath(), c.snapshotSize) {
		return errors.New("the snapshot was removed, replaced or truncated")
	}
	return nil
}

// want asks for a snapshot.
func (c *core) want() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trying != nil {
		return
	}
	c.trying, c.failure = make(chan struct{}), nil
	select {
	case c.wanted <- struct{}{}:
	default: // it tries again by itself
	}
}

// snapshots writes those that are wanted, each until it succeeds.
func (c *core) snapshots() {
	defer close(c.ended)
	for {
		select {
		case <-c.wanted:
		case <-c.closing:
			return
		}
		for c.snapshot() != nil {
			select {
			case <-time.After(snapshotRetry):
			case <-c.closing:
				return
			}
		}
	}
}

// snapshot writes one and lets those know who wait for it.
func (c *core) snapshot() error {
	c.mu.Lock()
	if c.trying == nil {
		c.trying = make(chan struct{})
	}
	done := c.trying
	c.mu.Unlock()

	start := time.Now()
	m, err := c.image()
	var size int64
	if err == nil {
		size, err = c.replaceSnapshot(m, c.pace())
	}
	if c.opts.ObserveSnapshot != nil && !errors.Is(err, errClosing) {
		c.opts.ObserveSnapshot(size, time.Since(start), err)
	}

	c.mu.Lock()
	if err == nil {
		c.kept, c.full = m.at.generation, nil
	}
	c.trying, c.failure = nil, err
	c.mu.Unlock()
	close(done)
	return err
}

var errClosing = errors.New("the store is being closed")

// image copies the counts that the log knows.
func (c *core) image() (*image, error) {
	const piece = 4096
	c.commit.Lock()
	defer c.commit.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	if cap(c.counts) < c.logged {
		c.counts = make([]int64, c.logged, c.logged+c.logged/8)
	}
	c.counts = c.counts[:c.logged]
	m := &image{id: c.log.id, at: c.log.at, counts: c.counts, sum: c.sum, block: c.block}
	for from := 0; from < c.logged; from += piece {
		c.mu.Lock()
		for i := from; i < min(from+piece, c.logged); i++ {
			c.counts[i] = c.table.Count(i)
		}
		c.mu.Unlock()
	}
	if c.undo != nil {
		c.undo(c.counts)
	}
	c.mu.Lock()
	m.names = c.table.View
	c.mu.Unlock()
	return m, nil
}

// replaceSnapshot writes the image to a new file, which then takes over. After an
// error the one before or the new one is on disk, and no space of the log may be
// used that either of them needs.
func (c *core) replaceSnapshot(m *image, pause func() error) (int64, error) {
	f, name, err := c.disk.Create(c.snapshotPath())
	if err != nil {
		return 0, err
	}
	size, err := m.write(f, c.reached.Load, pause)
	if err == nil {
		err = c.name(f, name, size)
	}
	if err != nil {
		f.Close()
		_ = c.disk.Remove(name)
		return 0, err
	}
	if err := c.disk.SyncDir(c.snapshotPath()); err != nil {
		return 0, fmt.Errorf("syncing the directory: %w", err)
	}
	return size, nil
}

// name lets the file take over.
func (c *core) name(f disk.File, name string, size int64) error {
	c.naming.Lock()
	defer c.naming.Unlock()
	if err := c.disk.Rename(name, c.snapshotPath()); err != nil {
		return err
	}
	c.snapshotFile.Close()
	c.snapshotFile, c.snapshotSize = f, size
	return nil
}

// pace returns the pause between two pieces of a snapshot: as long as the piece
// took, so that those who count have the disk and the processor for half of the
// time; none when the log fills up meanwhile.
func (c *core) pace() func() error {
	last := time.Now()
	return func() error {
		took := time.Since(last)
		if c.hurry.Load() {
			took = 0
		}
		select {
		case <-time.After(took):
		case <-c.closing:
			return errClosing
		}
		last = time.Now()
		return nil
	}
}

// close ends what runs in the background and closes the files.
func (c *core) close() error {
	close(c.closing)
	if c.ended != nil {
		<-c.ended
	}
	return c.closeFiles()
}

func (c *core) closeFiles() error {
	if c.snapshotFile != nil {
		c.snapshotFile.Close()
	}
	return c.log.file.Close()
}
