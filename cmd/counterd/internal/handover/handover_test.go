package handover

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quietLog = slog.New(slog.DiscardHandler)

var errBusy = errors.New("busy")

// store is a file with a lock that one has at a time.
type store struct {
	path string
	mu   sync.Mutex
}

func newStore(t *testing.T) *store {
	t.Helper()
	s := &store{path: filepath.Join(t.TempDir(), "store")}
	if err := os.WriteFile(s.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *store) take() error {
	if s.mu.TryLock() {
		return nil
	}
	return errBusy
}

func listenTCP(t *testing.T) *net.TCPListener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln.(*net.TCPListener)
}

// hold takes the store and offers ln, if it isn't nil.
func (s *store) hold(t *testing.T, ln *net.TCPListener, listen string) *Holder {
	t.Helper()
	if err := s.take(); err != nil {
		t.Fatal(err)
	}
	h := Hold(s.path, listen, quietLog)
	if ln != nil {
		h.Give(ln)
	}
	return h
}

// letGo is how a holder ends.
func (s *store) letGo(h *Holder) {
	h.Close()
	s.mu.Unlock()
	h.Release()
}

// waiting is a waiter in a goroutine.
type waiting struct {
	*Waiter
	cancel context.CancelFunc
	done   chan error
}

func (s *store) wait(t *testing.T, listen string, patience time.Duration) *waiting {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &waiting{&Waiter{Store: s.path, Listen: listen, Patience: patience, Log: quietLog}, cancel, make(chan error, 1)}
	go func() { w.done <- w.Wait(ctx, errBusy, s.take) }()
	t.Cleanup(cancel)
	return w
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func (h *Holder) waiters() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.waiting
}

// TestSocketIsHandedOver: the newcomer has the same socket, with what queues at it,
// and the door is never anybody's but the holder's.
func TestSocketIsHandedOver(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	addr := ln.Addr().String()
	h := s.hold(t, ln, addr)
	for generation := range 3 {
		w := s.wait(t, addr, time.Minute)
		eventually(t, "it waits", func() bool { return h.waiters() == 1 })
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		h.Stopping()
		if !h.Heir() {
			t.Error("nobody is said to wait")
		}
		ln.Close()
		s.letGo(h)
		if err := <-w.done; err != nil {
			t.Fatal(err)
		}
		if ln, err = w.Listener(); err != nil || ln == nil {
			t.Fatalf("generation %d: listener %v, %v", generation, ln, err)
		}
		if got := ln.Addr().String(); got != addr {
			t.Errorf("it listens on %s, want %s", got, addr)
		}
		got, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		got.Close()
		c.Close()
		if err := s.take(); err == nil {
			t.Fatal("the lock is free")
		}
		h = Hold(s.path, addr, quietLog)
		h.Give(ln)
	}
	s.letGo(h)
	ln.Close()
	if left, _ := filepath.Glob(s.path + "*"); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// TestPatienceEndsWhenTheHolderStops: it counts until the holder is told to stop, and then no more.
func TestPatienceEndsWhenTheHolderStops(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	h := s.hold(t, ln, "")
	addr := ln.Addr().String()

	w := s.wait(t, addr, 50*time.Millisecond)
	if err := <-w.done; !errors.Is(err, errBusy) {
		t.Errorf("without patience: %v, want %v", err, errBusy)
	}
	w.Close()
	eventually(t, "it is forgotten", func() bool { return h.waiters() == 0 })

	const patience = 300 * time.Millisecond
	w = s.wait(t, addr, patience)
	eventually(t, "it waits", func() bool { return h.waiters() == 1 })
	h.Stopping()
	select {
	case err := <-w.done:
		t.Fatalf("it gave up while the holder stopped: %v", err)
	case <-time.After(3 * patience):
	}
	s.letGo(h)
	if err := <-w.done; err != nil {
		t.Fatal(err)
	}
	w.Close()
	if !w.Waited() {
		t.Error("it doesn't know that it waited")
	}
}

// TestDeadHolderIsSucceeded: the name is left behind, the successor's is another socket, and
// others who wait ask it.
func TestDeadHolderIsSucceeded(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	h := s.hold(t, ln, ":http")
	a, b := s.wait(t, ":http", time.Minute), s.wait(t, ":http", time.Minute)
	eventually(t, "two wait", func() bool { return h.waiters() == 2 })

	h.mu.Lock()
	h.door.SetUnlinkOnClose(false) // as a process that dies
	h.mu.Unlock()
	ln.Close()
	s.letGo(h)

	var err error
	first, second := a, b
	select {
	case err = <-a.done:
	case err = <-b.done:
		first, second = b, a
	}
	if err != nil {
		t.Fatal(err)
	}
	ln, err = first.Listener()
	if err != nil || ln == nil {
		t.Fatal(ln, err)
	}
	defer ln.Close()
	h = Hold(s.path, ":http", quietLog)
	h.Give(ln)
	eventually(t, "the other asks", func() bool { return h.waiters() == 1 })
	s.letGo(h)
	if err := <-second.done; err != nil {
		t.Fatal(err)
	}
	second.Close()
}

// TestSocketIsBroughtBack: a process gets the lock that never asked for the socket;
// who waits has it, and brings it.
func TestSocketIsBroughtBack(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	addr := ln.Addr().String()
	h := s.hold(t, ln, addr)
	w := s.wait(t, addr, time.Minute)
	eventually(t, "it waits", func() bool { return h.waiters() == 1 })
	// The lock stays taken: it is the third one's now.
	h.Close()
	h.Release()
	ln.Close()
	third := Hold(s.path, addr, quietLog)
	if _, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("the address is not taken: %v", err)
	}
	ln, err := third.Brought(20 * time.Second)
	if err != nil || ln == nil {
		t.Fatal(ln, err)
	}
	defer ln.Close()
	if got := ln.Addr().String(); got != addr {
		t.Errorf("it listens on %s, want %s", got, addr)
	}
	third.Give(ln)
	eventually(t, "it waits again", func() bool { return third.waiters() == 1 })
	s.letGo(third)
	if err := <-w.done; err != nil {
		t.Fatal(err)
	}
	w.Close()
}

func TestOtherAddressIsRefused(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	h := s.hold(t, ln, ":8080")
	w := s.wait(t, ":9090", time.Minute)
	var refused *RefusedError
	if err := <-w.done; !errors.As(err, &refused) || !strings.Contains(err.Error(), "listens on :8080, not on :9090") {
		t.Errorf("another address: %v", err)
	}
	s.letGo(h)
	h = s.hold(t, nil, ":8080")
	defer s.letGo(h)
	h.network = "net:[1]"
	h.Give(ln)
	w = s.wait(t, ":8080", time.Minute)
	if err := <-w.done; !errors.As(err, &refused) || !strings.Contains(err.Error(), "network namespace") {
		t.Errorf("another network: %v", err)
	}
}

// TestNobodyWaitsAnyMore: the one that would take over dies while the holder still
// answers, and the holder learns of it.
func TestNobodyWaitsAnyMore(t *testing.T) {
	s := newStore(t)
	ln := listenTCP(t)
	h := s.hold(t, ln, "a")
	w := s.wait(t, "a", time.Minute)
	eventually(t, "it waits", func() bool { return h.waiters() == 1 })
	h.Stopping()
	if !h.Heir() {
		t.Fatal("nobody is said to wait")
	}
	select {
	case <-h.Alone():
		t.Fatal("it is alone while somebody waits")
	default:
	}
	w.cancel()
	<-w.done
	w.Close()
	select {
	case <-h.Alone():
	case <-time.After(20 * time.Second):
		t.Fatal("it doesn't notice that nobody waits")
	}
	// Who comes now gets no socket that is about to be closed, and waits as long as
	// the holder answers, however short its patience is.
	w = s.wait(t, "a", 100*time.Millisecond)
	select {
	case err := <-w.done:
		t.Errorf("it gave up: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	s.letGo(h)
	if err := <-w.done; err != nil {
		t.Error(err)
	}
	if w.socket.ok() {
		t.Error("it got the socket of one that stops")
	}
	s.mu.Unlock()
}

// TestHeldUpByNobody: one that connects and is silent, and one that says rubbish,
// don't keep the holder from its end.
func TestHeldUpByNobody(t *testing.T) {
	s := newStore(t)
	h := s.hold(t, listenTCP(t), "a")
	name, err := Name(s.path)
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"", "rubbish\n", strings.Repeat("x", 2*maxMessage)} {
		c, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, says) // it may be sent away before
	}
	begin := time.Now()
	s.letGo(h)
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// TestForeignFileIsNoDoor: something that isn't a socket is not removed, and the store is used
// without a door.
func TestForeignFileIsNoDoor(t *testing.T) {
	s := newStore(t)
	name, err := Name(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := s.hold(t, listenTCP(t), "a")
	if h.Heir() {
		t.Error("somebody waits")
	}
	s.letGo(h)
	if b, err := os.ReadFile(name); err != nil || string(b) != "precious" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestStoreHasOneDoor: however a store is named, it has one door.
func TestStoreHasOneDoor(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "counterd.db")
	link := filepath.Join(dir, "link")
	long := filepath.Join(dir, strings.Repeat("x", longest))
	for _, p := range []string{path, long} {
		if err := os.WriteFile(p, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for given, want := range map[string]string{
		path:             path + ".sock",
		link:             path + ".sock",
		"counterd.db":    path + ".sock",
		"./link":         path + ".sock",
		dir + "/.//link": path + ".sock",
	} {
		if got, err := Name(given); err != nil || got != want {
			t.Errorf("Name(%s) = %s, %v; want %s", given, got, err, want)
		}
	}
	short, err := Name(long)
	if err != nil || len(short) > longest || !strings.HasPrefix(short, "/tmp/counterd-") {
		t.Errorf("Name(%s) = %s, %v", long, short, err)
	}
	if _, err := Name("nowhere"); err == nil {
		t.Error("a store that doesn't exist has a name")
	}
	s := &store{path: long}
	ln := listenTCP(t)
	h := s.hold(t, ln, "a")
	w := s.wait(t, "a", time.Minute)
	eventually(t, "it waits at the short name", func() bool { return h.waiters() == 1 })
	s.letGo(h)
	<-w.done
	w.Close()
	if _, err := os.Lstat(short); err == nil {
		t.Errorf("%s is left behind", short)
	}
}
