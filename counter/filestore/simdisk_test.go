package filestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
)

// The disk that lies. It keeps apart what running processes see (the page
// cache) and what a power cut leaves (the disk), and asks a chooser whenever
// the world could go one way or another. So one simulator serves two kinds of
// tests: all ways, one after the other, and random ways by a seed.

// chooser decides what happens: choose returns a number in [0, n).
type chooser interface {
	choose(n int) int
}

// random is a chooser for spaces that are too large.
type random struct{ *rand.Rand }

func (r random) choose(n int) int { return r.IntN(n) }

// everything is a chooser that takes every way once: explore runs f again and
// again, each time with the next sequence of answers.
type everything struct {
	path  []int // answers of this run
	sizes []int
	depth int
}

func (e *everything) choose(n int) int {
	if e.depth == len(e.path) {
		e.path = append(e.path, 0)
		e.sizes = append(e.sizes, n)
	}
	if e.sizes[e.depth] != n {
		panic("the test is not deterministic")
	}
	e.depth++
	return e.path[e.depth-1]
}

// next moves on to the next sequence.
func (e *everything) next() bool {
	e.depth = 0
	for i := len(e.path) - 1; i >= 0; i-- {
		if e.path[i]+1 < e.sizes[i] {
			e.path[i]++
			e.path, e.sizes = e.path[:i+1], e.sizes[:i+1]
			return true
		}
	}
	return false
}

// explore calls f for every way and returns how many there are. It stops at the
// first error, which then names the way.
func explore(f func(c chooser) error) (ways int, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(1000)) // short-lived files only
	e := &everything{}
	for {
		ways++
		if err := f(e); err != nil {
			return ways, fmt.Errorf("way %v: %w", e.path, err)
		}
		if !e.next() {
			return ways, nil
		}
	}
}

// errDied ends a simulated process.
var errDied = errors.New("the process died")

// trouble is what happens to one operation.
type trouble int

const (
	none trouble = iota
	dies         // the process ends before it
	failsEIO
	failsENOSPC
	failsShort // part of it is done
	troubles
)

// simDisk is one directory.
type simDisk struct {
	chooser
	names   map[string]*inode // as processes see it
	onDisk  map[string]*inode // as a power cut leaves it
	unsaved []nameChange
	inodes  []*inode
	created int

	ops     int // of the process that runs
	badOp   int // the operation that meets trouble
	trouble trouble
	met     bool // it did
	lies    bool // a sync does nothing and says that it did
}

type nameChange struct {
	name string
	to   *inode // nil: removed
}

type inode struct {
	cache   []byte
	disk    []byte
	pending []change // in cache, not certainly on disk
	locked  bool
}

// change is one sector's worth of a write, or a change of the size.
type change struct {
	at   int
	data []byte
	size int // -1: a write
}

func newSimDisk(c chooser) *simDisk {
	return &simDisk{chooser: c, names: map[string]*inode{}, onDisk: map[string]*inode{}, badOp: -1}
}

// step is called first by every operation.
func (d *simDisk) step() error {
	d.ops++
	if d.ops-1 != d.badOp {
		return nil
	}
	d.met = true
	switch d.trouble {
	case dies:
		panic(errDied)
	case failsEIO, failsShort:
		return syscall.EIO
	case failsENOSPC:
		return syscall.ENOSPC
	}
	return nil
}

// run is the life of one process. It returns false if the process died.
func (d *simDisk) run(life func()) (ended bool) {
	d.ops, d.met = 0, false
	defer func() {
		for _, f := range d.inodes {
			f.locked = false // the system takes back what a process held
		}
		if r := recover(); r != nil && r != errDied {
			panic(r)
		}
	}()
	life()
	return true
}

// forget drops from the cache what a failed sync left there as clean: memory ran
// short, and the kernel reads it from the disk again.
func (d *simDisk) forget() {
	for _, f := range d.inodes {
		f.cache = append(f.cache[:0], f.disk...)
		for _, w := range f.pending {
			f.cache = w.apply(f.cache)
		}
	}
}

// cutPower leaves of everything that isn't synced an arbitrary part, in an
// arbitrary order, and of at most one sector a mix of old and new.
func (d *simDisk) cutPower(byteLevel bool) {
	d.cutNames()
	for _, f := range d.inodes {
		if d.reachable(f) {
			f.cut(d, byteLevel)
		}
	}
	d.names = maps.Clone(d.onDisk)
}

// cutNames leaves of the changes of each name the first few.
func (d *simDisk) cutNames() {
	byName := map[string][]nameChange{}
	for _, w := range d.unsaved {
		byName[w.name] = append(byName[w.name], w)
	}
	d.unsaved = nil
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list := byName[name]
		for _, w := range list[:d.choose(len(list)+1)] {
			setName(d.onDisk, w)
		}
	}
}

func (d *simDisk) reachable(f *inode) bool {
	for _, g := range d.onDisk {
		if f == g {
			return true
		}
	}
	return false
}

func setName(names map[string]*inode, w nameChange) {
	if w.to == nil {
		delete(names, w.name)
		return
	}
	names[w.name] = w.to
}

func (f *inode) cut(d *simDisk, byteLevel bool) {
	f.pending = f.real()
	torn := -1
	if byteLevel && len(f.pending) > 0 {
		torn = d.choose(len(f.pending)+1) - 1
	}
	for i := 0; len(f.pending) > 0; i++ {
		next := 0
		if f.overlap() { // else the order makes no difference
			next = d.choose(len(f.pending))
		}
		w := f.pending[next]
		f.pending = slices.Delete(f.pending, next, next+1)
		if i == torn && w.size < 0 {
			w = w.tear(d, f.disk)
		} else if d.choose(2) == 0 {
			continue
		}
		f.disk = w.apply(f.disk)
	}
	f.cache = append(f.cache[:0], f.disk...)
}

// real returns those pending changes that make a difference: not those that
// repeat the one before in the same place, or that write what is there, or zeros
// behind the end of the file, but the last one of these, which makes the file
// longer.
func (f *inode) real() []change {
	end := len(f.disk)
	for _, w := range f.pending {
		if w.size >= 0 {
			return f.pending
		}
		end = max(end, w.at+len(w.data))
	}
	before := resize(bytes.Clone(f.disk), end)
	changed := map[int]bool{}
	for _, w := range f.pending {
		if !bytes.Equal(before[w.at:w.at+len(w.data)], w.data) {
			changed[w.at] = true
		}
	}
	latest := map[int][]byte{}
	return slices.DeleteFunc(slices.Clone(f.pending), func(w change) bool {
		again := bytes.Equal(latest[w.at], w.data)
		latest[w.at] = w.data
		longer := w.at+len(w.data) == end && end > len(f.disk)
		return again || !longer && !changed[w.at]
	})
}

func (f *inode) overlap() bool {
	seen := map[int]bool{}
	for _, w := range f.pending {
		if seen[w.at] || w.size >= 0 {
			return true
		}
		seen[w.at] = true
	}
	return false
}

// tear returns w with a part of its bytes still old.
func (w change) tear(d *simDisk, old []byte) change {
	before := make([]byte, len(w.data))
	if w.at < len(old) {
		copy(before, old[w.at:])
	}
	at := 1 + d.choose(len(w.data)-1)
	data := append(bytes.Clone(w.data[:at]), before[at:]...)
	if d.choose(2) == 1 {
		data = append(bytes.Clone(before[:at]), w.data[at:]...)
	}
	return change{at: w.at, data: data, size: -1}
}

func (w change) apply(content []byte) []byte {
	if w.size >= 0 {
		return resize(content, w.size)
	}
	content = resize(content, max(len(content), w.at+len(w.data)))
	copy(content[w.at:], w.data)
	return content
}

func resize(content []byte, size int) []byte {
	if size <= len(content) {
		return content[:size]
	}
	return append(content, make([]byte, size-len(content))...)
}

// simFile is an open inode.
type simFile struct {
	d *simDisk
	*inode
	closed bool
}

func (d *simDisk) open(path string, _ bool) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	f, ok := d.names[path]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return &simFile{d: d, inode: f}, nil
}

func (d *simDisk) create(path string) (file, string, error) {
	if err := d.step(); err != nil {
		return nil, "", err
	}
	d.created++
	name := fmt.Sprintf("%s%s%d", path, leftoverMark, d.created)
	f := &inode{}
	d.inodes = append(d.inodes, f)
	d.change(name, f)
	return &simFile{d: d, inode: f}, name, nil
}

func (d *simDisk) change(name string, to *inode) {
	w := nameChange{name, to}
	setName(d.names, w)
	d.unsaved = append(d.unsaved, w)
}

func (d *simDisk) link(name, path string) error {
	if err := d.step(); err != nil {
		return err
	}
	f, ok := d.names[name]
	if !ok {
		return fs.ErrNotExist
	}
	if _, ok := d.names[path]; ok {
		return fs.ErrExist
	}
	d.change(path, f)
	return nil
}

func (d *simDisk) remove(name string) error {
	if err := d.step(); err != nil {
		return err
	}
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	d.change(name, nil)
	return nil
}

func (d *simDisk) leftovers(path string) (list []string, err error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	for name := range d.names {
		if strings.HasPrefix(name, path+leftoverMark) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list, nil
}

func (d *simDisk) syncDir(string) error {
	if err := d.step(); err != nil {
		return err
	}
	for _, w := range d.unsaved {
		setName(d.onDisk, w)
	}
	d.unsaved = nil
	return nil
}

func (f *simFile) check() {
	if f.closed {
		panic("a closed file is used")
	}
}

func (f *simFile) ReadAt(b []byte, at int64) (int, error) {
	f.check()
	if err := f.d.step(); err != nil {
		if f.d.trouble == failsShort {
			return copy(b[:len(b)/2], f.cache[at:]), io.EOF
		}
		return 0, err
	}
	n := copy(b, f.cache[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(b []byte, at int64) (int, error) {
	f.check()
	if err := f.d.step(); err != nil {
		if f.d.trouble != failsShort {
			return 0, err
		}
		n := []int{20, sectorSize, len(b) - 1}[f.d.choose(3)]
		f.write(b[:n], int(at))
		return n, err
	}
	f.write(b, int(at))
	return len(b), nil
}

func (f *inode) write(b []byte, at int) {
	for len(b) > 0 {
		n := min(len(b), sectorSize-at%sectorSize)
		w := change{at: at, data: bytes.Clone(b[:n]), size: -1}
		f.cache = w.apply(f.cache)
		f.pending = append(f.pending, w)
		b, at = b[n:], at+n
	}
}

func (f *simFile) truncate(size int64) error {
	f.check()
	if err := f.d.step(); err != nil {
		return err
	}
	w := change{size: int(size)}
	f.cache = w.apply(f.cache)
	f.pending = append(f.pending, w)
	return nil
}

// datasync that fails may have done a part, and what it didn't do is forgotten:
// the cache still shows it, but no later sync will write it.
func (f *simFile) datasync() error {
	f.check()
	err := f.d.step()
	if f.d.lies {
		return err
	}
	pending := f.inode.pending
	if err != nil {
		pending = f.real()
	}
	for _, w := range pending {
		if err == nil || f.d.trouble == failsShort && f.d.choose(2) == 1 {
			f.disk = w.apply(f.disk)
		}
	}
	f.inode.pending = nil
	return err
}

func (f *simFile) sync() error { return f.datasync() }

func (f *simFile) size() (int64, error) {
	f.check()
	if err := f.d.step(); err != nil {
		return 0, err
	}
	return int64(len(f.cache)), nil
}

func (f *simFile) lock(bool) (bool, error) {
	f.check()
	if err := f.d.step(); err != nil {
		return false, err
	}
	if f.locked {
		return false, nil
	}
	f.locked = true
	return true, nil
}

func (f *simFile) named(path string, size int64) bool {
	return f.d.names[path] == f.inode && (size == anySize || int64(len(f.cache)) == size)
}

func (f *simFile) Close() error {
	f.check()
	f.closed = true
	return nil
}
