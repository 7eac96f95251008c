// Package simdisk is a disk that lies, for tests. It keeps apart what running
// processes see (the page cache) and what a power cut leaves (the disk), and asks a
// chooser whenever the world could go one way or another. So one simulator serves
// two kinds of tests: all ways, one after the other, and random ways by a seed.
package simdisk

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/counterd/counterd/counter/internal/disk"
)

// Chooser decides what happens: Choose returns a number in [0, n).
type Chooser interface {
	Choose(n int) int
}

// Random is a Chooser for spaces that are too large.
type Random struct{ *rand.Rand }

// NewRandom returns a Chooser that repeats itself for the same seeds.
func NewRandom(seed1, seed2 uint64) Random { return Random{rand.New(rand.NewPCG(seed1, seed2))} }

func (r Random) Choose(n int) int { return r.IntN(n) }

// First is a Chooser that always takes the first way.
type First struct{}

func (First) Choose(int) int { return 0 }

// everything is a Chooser that takes every way once: Explore runs f again and
// again, each time with the next sequence of answers.
type everything struct {
	path  []int // answers of this run
	sizes []int
	depth int
}

func (e *everything) Choose(n int) int {
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

// Explore calls f for every way and returns how many there are. It stops at the
// first error, which then names the way.
func Explore(f func(c Chooser) error) (ways int, err error) {
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

// SectorSize is what a disk writes whole.
const SectorSize = 512

// Trouble is what happens to one operation.
type Trouble int

const (
	None Trouble = iota
	Dies         // the process ends before it
	FailsEIO
	FailsENOSPC
	FailsShort // part of it is done
	Troubles   // how many there are
)

// Disk is a disk with directories. The working directory exists.
type Disk struct {
	Chooser
	Cached map[string]*Inode // the names as processes see them
	OnDisk map[string]*Inode // as a power cut leaves them
	Inodes []*Inode
	Ops    int // of the process that runs

	BadOp   int // the operation that meets trouble; -1: none
	Trouble Trouble
	Met     bool // it did
	Lies    bool // a sync does nothing and says that it did
	NoRoom  bool // nothing can be created or made longer

	// Between, if not nil, is called before each operation with its number: what
	// others do meanwhile.
	Between func(op int)

	unsaved []nameChange
	created int
}

type nameChange struct {
	name string
	to   *Inode // nil: removed
}

// Inode is a file or a directory.
type Inode struct {
	Cache   []byte // as processes see it
	Saved   []byte // as a power cut leaves it, whatever else it leaves
	pending []change
	locked  bool
	dir     bool
}

// change is one sector's worth of a write, or a change of the size.
type change struct {
	at   int
	data []byte
	size int // -1: a write
}

// New returns an empty disk.
func New(c Chooser) *Disk {
	return &Disk{Chooser: c, Cached: map[string]*Inode{}, OnDisk: map[string]*Inode{}, BadOp: -1}
}

// Put makes a file with that content, durable.
func (d *Disk) Put(path string, content []byte) *Inode {
	f := &Inode{Cache: bytes.Clone(content), Saved: bytes.Clone(content)}
	d.Inodes = append(d.Inodes, f)
	d.Cached[path], d.OnDisk[path] = f, f
	return f
}

// PutDir makes a directory, durable.
func (d *Disk) PutDir(path string) {
	f := &Inode{dir: true}
	d.Cached[path], d.OnDisk[path] = f, f
}

// Unsave makes the name one that a power cut may take back.
func (d *Disk) Unsave(path string) {
	delete(d.OnDisk, path)
	d.unsaved = []nameChange{{path, d.Cached[path]}}
}

// Meet lets the next process meet trouble at one of its first n operations, or none.
func (d *Disk) Meet(n int) {
	d.Calm()
	d.BadOp = d.Choose(n+1) - 1
	if d.BadOp >= 0 {
		d.Trouble = 1 + Trouble(d.Choose(int(Troubles)-1))
	}
}

// Calm lets the next process meet no trouble.
func (d *Disk) Calm() { d.BadOp, d.Trouble = -1, None }

// Pause is what happens between two processes.
func (d *Disk) Pause(byteLevel bool) {
	switch d.Choose(3) {
	case 0: // the process was killed, the machine runs on
	case 1:
		d.Forget()
	case 2:
		d.CutPower(byteLevel)
	}
}

// step is called first by every operation.
func (d *Disk) step() error {
	if d.Between != nil {
		d.Between(d.Ops)
	}
	d.Ops++
	if d.Ops-1 != d.BadOp {
		return nil
	}
	d.Met = true
	switch d.Trouble {
	case Dies:
		panic(errDied)
	case FailsEIO, FailsShort:
		return syscall.EIO
	case FailsENOSPC:
		return syscall.ENOSPC
	}
	return nil
}

// Run is the life of one process. It returns false if the process died.
func (d *Disk) Run(life func()) (ended bool) {
	d.Ops, d.Met = 0, false
	defer func() {
		for _, f := range d.Inodes {
			f.locked = false // the system takes back what a process held
		}
		if r := recover(); r != nil && r != errDied {
			panic(r)
		}
	}()
	life()
	return true
}

// Forget drops from the cache what a failed sync left there as clean: memory ran
// short, and the kernel reads it from the disk again.
func (d *Disk) Forget() {
	for _, f := range d.Inodes {
		f.Cache = append(f.Cache[:0], f.Saved...)
		for _, w := range f.pending {
			f.Cache = w.apply(f.Cache)
		}
	}
}

// CutPower leaves of everything that isn't synced an arbitrary part, in an
// arbitrary order, and of at most one sector a mix of old and new.
func (d *Disk) CutPower(byteLevel bool) {
	d.cutNames()
	for _, f := range d.Inodes {
		if d.reachable(f) {
			f.cut(d, byteLevel)
		}
	}
	d.Cached = maps.Clone(d.OnDisk)
}

// cutNames leaves of the changes of each name the first few.
func (d *Disk) cutNames() {
	byName := map[string][]nameChange{}
	for _, w := range d.unsaved {
		byName[w.name] = append(byName[w.name], w)
	}
	d.unsaved = nil
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list := byName[name]
		for _, w := range list[:d.Choose(len(list)+1)] {
			setName(d.OnDisk, w)
		}
	}
	for name := range d.OnDisk { // what was in a directory that is gone
		if dir := filepath.Dir(name); dir != "." && d.OnDisk[dir] == nil {
			delete(d.OnDisk, name)
		}
	}
}

// reachable reports whether anybody can see the file's content: of one that was
// never given its name nobody does.
func (d *Disk) reachable(f *Inode) bool {
	for name, g := range d.OnDisk {
		if f == g && !leftover(name) {
			return true
		}
	}
	return false
}

func setName(names map[string]*Inode, w nameChange) {
	if w.to == nil {
		delete(names, w.name)
		return
	}
	names[w.name] = w.to
}

func (f *Inode) cut(d *Disk, byteLevel bool) {
	f.pending = f.real()
	torn := -1
	if byteLevel && len(f.pending) > 0 {
		torn = d.Choose(len(f.pending)+1) - 1
	}
	for i := 0; len(f.pending) > 0; i++ {
		next := 0
		if f.overlap() { // else the order makes no difference
			next = d.Choose(len(f.pending))
		}
		w := f.pending[next]
		f.pending = slices.Delete(f.pending, next, next+1)
		if i == torn && w.size < 0 {
			w = w.tear(d, f.Saved)
		} else if d.Choose(2) == 0 {
			continue
		}
		f.Saved = w.apply(f.Saved)
	}
	f.Cache = append(f.Cache[:0], f.Saved...)
}

// real returns those pending changes that make a difference: not those that
// repeat the one before in the same place, or that write what is there, or zeros
// behind the end of the file, but the last one of these, which makes the file
// longer.
func (f *Inode) real() []change {
	end := len(f.Saved)
	for _, w := range f.pending {
		if w.size >= 0 {
			return f.pending
		}
		end = max(end, w.at+len(w.data))
	}
	before := resize(bytes.Clone(f.Saved), end)
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
		longer := w.at+len(w.data) == end && end > len(f.Saved)
		return again || !longer && !changed[w.at]
	})
}

func (f *Inode) overlap() bool {
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
func (w change) tear(d *Disk, old []byte) change {
	before := make([]byte, len(w.data))
	if w.at < len(old) {
		copy(before, old[w.at:])
	}
	at := 1 + d.Choose(len(w.data)-1)
	data := append(bytes.Clone(w.data[:at]), before[at:]...)
	if d.Choose(2) == 1 {
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

// file is an open inode.
type file struct {
	d *Disk
	*Inode
	closed bool
	holds  bool // the lock
}

var _ disk.Disk = (*Disk)(nil)

func leftover(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") && path != "." }

func (d *Disk) Open(path string, _ bool) (disk.File, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	if leftover(path) {
		panic("a file that was never finished is opened")
	}
	f, ok := d.Cached[path]
	switch {
	case !ok:
		return nil, fs.ErrNotExist
	case f.dir:
		return nil, syscall.EISDIR
	}
	return &file{d: d, Inode: f}, nil
}

func (d *Disk) Create(path string) (disk.File, string, error) {
	if err := d.step(); err != nil {
		return nil, "", err
	}
	if err := d.inDirectory(path); err != nil {
		return nil, "", err
	}
	if d.NoRoom {
		return nil, "", syscall.ENOSPC
	}
	d.created++
	name := filepath.Join(filepath.Dir(path), fmt.Sprint(disk.LeftoverPrefix(path), d.created))
	f := &Inode{}
	d.Inodes = append(d.Inodes, f)
	d.change(name, f)
	return &file{d: d, Inode: f}, name, nil
}

// inDirectory checks that the path's directory exists.
func (d *Disk) inDirectory(path string) error {
	dir := filepath.Dir(path)
	if dir == "." {
		return nil
	}
	f, ok := d.Cached[dir]
	switch {
	case !ok:
		return fs.ErrNotExist
	case !f.dir:
		return syscall.ENOTDIR
	}
	return nil
}

func (d *Disk) change(name string, to *Inode) {
	w := nameChange{name, to}
	setName(d.Cached, w)
	d.unsaved = append(d.unsaved, w)
}

func (d *Disk) Link(name, path string) error {
	if err := d.step(); err != nil {
		return err
	}
	f, ok := d.Cached[name]
	if !ok {
		return fs.ErrNotExist
	}
	if _, ok := d.Cached[path]; ok {
		return fs.ErrExist
	}
	d.change(path, f)
	return nil
}

// Rename is done whole or not at all, as any filesystem has it; that a power cut
// may also leave the old name is more than it does.
func (d *Disk) Rename(name, path string) error {
	if err := d.step(); err != nil {
		return err
	}
	f, ok := d.Cached[name]
	if !ok {
		return fs.ErrNotExist
	}
	d.change(path, f)
	d.change(name, nil)
	return nil
}

func (d *Disk) Remove(name string) error {
	if err := d.step(); err != nil {
		return err
	}
	if _, ok := d.Cached[name]; !ok {
		return fs.ErrNotExist
	}
	d.change(name, nil)
	return nil
}

func (d *Disk) MakeDir(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	if _, ok := d.Cached[path]; ok {
		return fs.ErrExist
	}
	d.change(path, &Inode{dir: true})
	return nil
}

func (d *Disk) Names(dir string) (list []string, err error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	if f, ok := d.Cached[dir]; dir != "." && !ok {
		return nil, fs.ErrNotExist
	} else if ok && !f.dir {
		return nil, syscall.ENOTDIR
	}
	for name := range d.Cached {
		if filepath.Dir(name) == dir {
			list = append(list, filepath.Base(name))
		}
	}
	slices.Sort(list)
	return list, nil
}

func (d *Disk) SyncDir(path string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.unsaved = slices.DeleteFunc(d.unsaved, func(w nameChange) bool {
		if filepath.Dir(w.name) != filepath.Dir(path) {
			return false
		}
		setName(d.OnDisk, w)
		return true
	})
	return nil
}

func (f *file) check() {
	if f.closed {
		panic("a closed file is used")
	}
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.check()
	rest := f.Cache[min(int(at), len(f.Cache)):]
	if err := f.d.step(); err != nil {
		if f.d.Trouble == FailsShort {
			return copy(b[:len(b)/2], rest), io.EOF
		}
		return 0, err
	}
	n := copy(b, rest)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.check()
	if err := f.d.step(); err != nil {
		if f.d.Trouble != FailsShort {
			return 0, err
		}
		n := min(len(b), []int{20, SectorSize, len(b) - 1}[f.d.Choose(3)])
		f.Write(b[:n], int(at))
		return n, err
	}
	if f.d.NoRoom && int(at)+len(b) > len(f.Cache) {
		return 0, syscall.ENOSPC
	}
	f.Write(b, int(at))
	return len(b), nil
}

// Write is what a process writes and doesn't sync.
func (f *Inode) Write(b []byte, at int) {
	for len(b) > 0 {
		n := min(len(b), SectorSize-at%SectorSize)
		w := change{at: at, data: bytes.Clone(b[:n]), size: -1}
		f.Cache = w.apply(f.Cache)
		f.pending = append(f.pending, w)
		b, at = b[n:], at+n
	}
}

func (f *file) Truncate(size int64) error {
	f.check()
	if err := f.d.step(); err != nil {
		return err
	}
	if f.d.NoRoom && int(size) > len(f.Cache) {
		return syscall.ENOSPC
	}
	w := change{size: int(size)}
	f.Cache = w.apply(f.Cache)
	f.pending = append(f.pending, w)
	return nil
}

// Datasync that fails may have done a part, and what it didn't do is forgotten:
// the cache still shows it, but no later sync will write it.
func (f *file) Datasync() error {
	f.check()
	err := f.d.step()
	if f.d.Lies {
		return err
	}
	pending := f.Inode.pending
	if err != nil {
		pending = f.real()
	}
	for _, w := range pending {
		if err == nil || f.d.Trouble == FailsShort && f.d.Choose(2) == 1 {
			f.Saved = w.apply(f.Saved)
		}
	}
	f.Inode.pending = nil
	return err
}

func (f *file) Sync() error { return f.Datasync() }

func (f *file) Size() (int64, error) {
	f.check()
	if err := f.d.step(); err != nil {
		return 0, err
	}
	return int64(len(f.Cache)), nil
}

func (f *file) Lock(bool) (bool, error) {
	f.check()
	if err := f.d.step(); err != nil {
		return false, err
	}
	if f.locked {
		return false, nil
	}
	f.locked, f.holds = true, true
	return true, nil
}

func (f *file) Named(path string, size int64) bool {
	return f.d.Cached[path] == f.Inode && (size == disk.AnySize || int64(len(f.Cache)) == size)
}

func (f *file) Close() error {
	f.check()
	f.closed = true
	if f.holds {
		f.locked = false
	}
	return nil
}
