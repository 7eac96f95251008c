package blackbox

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/counterd/counterd/counter"
	"github.com/counterd/counterd/counter/dirstore"
	"github.com/counterd/counterd/counter/filestore"
	"github.com/counterd/counterd/engine"
	"github.com/counterd/counterd/internal/proctest"
)

func TestMain(m *testing.M) {
	if play() {
		return
	}
	flag.Parse()
	// Most tests wait: for a store, for a deadline. So more of them run at a
	// time than there are cores, unless the caller knows better.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		flag.Set("test.parallel", "16")
	}
	goleak.VerifyTestMain(m, append(leaks, goleak.Cleanup(func(code int) {
		proctest.Clean()
		os.Exit(code)
	}))...)
}

// leaks are goroutines that gnet's worker pool starts when it is imported, and
// those of net/http that sleep for half a second after a last answer, also when
// they are cut.
var leaks = []goleak.Option{
	goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"),
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
}

// patience bounds every wait for a condition. It is long: only a failing test
// waits for it.
const patience = time.Minute

var (
	engines = []string{engine.Gnet, engine.Goroutine, engine.Std}
	own     = []string{engine.Gnet, engine.Goroutine} // those with our HTTP
)

// storeKind makes stores. One with a counter for each path counts on "/" before.
type storeKind struct {
	name    string
	perPath bool
	// open makes a counter.Store or InstantStore that already counts from, with
	// at most most counters.
	open func(t *testing.T, from, most int64) any
}

var stores = []storeKind{
	{"mem", false, func(t *testing.T, from, _ int64) any {
		m := counter.NewMem()
		if _, _, err := m.AddNow(nil, from); err != nil {
			t.Fatal(err)
		}
		return m
	}},
	{"file", false, func(t *testing.T, from, _ int64) any { return openFile(t, from, 0) }},
	{"file100ms", false, func(t *testing.T, from, _ int64) any { return openFile(t, from, 100*time.Millisecond) }},
	{"slow", false, func(_ *testing.T, from, _ int64) any { return slow("", from, 0) }},
	{"disk", false, func(_ *testing.T, from, _ int64) any { return disk{slow("", from, 0)} }},
}

// pathStores have a counter for each path.
var pathStores = []storeKind{
	{"memPaths", true, func(t *testing.T, from, most int64) any {
		m := counter.NewMemTable(most)
		if _, _, err := m.AddNow([]byte("/"), from); err != nil {
			t.Fatal(err)
		}
		return m
	}},
	{"dir", true, func(t *testing.T, from, most int64) any { return openDir(t, from, most, 0) }},
	{"dir100ms", true, func(t *testing.T, from, most int64) any { return openDir(t, from, most, 100*time.Millisecond) }},
	{"slowPaths", true, func(_ *testing.T, from, most int64) any { return slow("/", from, most) }},
	{"diskPaths", true, func(_ *testing.T, from, most int64) any { return disk{slow("/", from, most)} }},
}

// manyCounters are more than a test makes.
const manyCounters = 1000

// start runs a server over a new store.
func (k storeKind) start(t *testing.T, name string, from int64, change func(*options)) *server {
	t.Helper()
	return k.limited(t, name, from, manyCounters, change)
}

// limited is start with room for so many counters.
func (k storeKind) limited(t *testing.T, name string, from, most int64, change func(*options)) *server {
	t.Helper()
	return start(t, name, k.open(t, from, most), func(o *options) {
		o.PerPath = k.perPath
		if change != nil {
			change(o)
		}
	})
}

func openDir(t *testing.T, from, most int64, sync time.Duration) any {
	path := filepath.Join(t.TempDir(), "counters")
	if from > 0 {
		if err := dirstore.Set(path, []counter.Named{{Name: "/", Count: from}}); err != nil {
			t.Fatal(err)
		}
	}
	if sync == 0 {
		s, err := dirstore.Open(path, dirstore.Options{MaxCounters: most})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, err := dirstore.OpenPeriodic(path, dirstore.Options{MaxCounters: most, Sync: sync})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openFile(t *testing.T, start int64, sync time.Duration) any {
	path := filepath.Join(t.TempDir(), "counter.db")
	if start > 0 {
		if err := filestore.Set(path, start); err != nil {
			t.Fatal(err)
		}
	}
	if sync == 0 {
		s, err := filestore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s, err := filestore.OpenPeriodic(path, filestore.Options{Sync: sync})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// disk is a store before which event loops commit themselves.
type disk struct{ *scripted }

// scripted is a store that does as the test says.
type scripted struct {
	delay time.Duration
	most  int64 // how many counters there may be; 0: any number

	mu     sync.Mutex
	counts map[string]int64
	sum    int64
	calls  int           // of Add, begun
	err    error         // what Add answers
	held   chan struct{} // not nil: Add waits until it is closed
}

var errAway = errors.New("the store is away")

// slow is a scripted store that takes a while, with a counter that counts from.
func slow(name string, from, most int64) *scripted {
	s := &scripted{delay: time.Millisecond, most: most, sum: from}
	if from > 0 {
		s.counts = map[string]int64{name: from}
	}
	return s
}

func (s *scripted) Add(ctx context.Context, deltas []counter.Delta) (int64, error) {
	s.mu.Lock()
	s.calls++
	held := s.held
	s.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	time.Sleep(s.delay)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	return s.add(deltas)
}

func (s *scripted) add(deltas []counter.Delta) (int64, error) {
	rest := math.MaxInt64 - s.sum
	for _, d := range deltas {
		if d.Hits > rest {
			return 0, counter.ErrFull
		}
		rest -= d.Hits
	}
	if s.counts == nil {
		s.counts = make(map[string]int64)
	}
	for i := range deltas {
		d := &deltas[i]
		name := string(d.Name)
		_, exists := s.counts[name]
		d.Refused = d.Hits > 0 && !exists && s.most > 0 && int64(len(s.counts)) >= s.most
		if d.Hits > 0 && !d.Refused {
			s.counts[name] += d.Hits
			s.sum += d.Hits
		}
		d.Total = s.counts[name]
	}
	return s.sum, nil
}

func (s *scripted) Close() error { return nil }

// hold makes Add wait from now on, until release is called.
func (s *scripted) hold() (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	held := make(chan struct{})
	s.held = held
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.held = nil
		close(held)
	})
}

func (s *scripted) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *scripted) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// server is an engine.Server that listens on a port of its own.
type server struct {
	*engine.Server
	t       testing.TB
	name    string
	addr    string
	store   any
	counter *counter.Counter
	served  chan error

	drain, close sync.Once
	drained      error
}

// options is what a test may change of a server's configuration.
type options struct {
	engine.Config
	storeTimeout time.Duration
	listen       func(net.Listener) net.Listener
}

// start runs a server until the test ends. The store is closed with it.
func start(t testing.TB, name string, store any, change func(*options)) *server {
	t.Helper()
	o := options{Config: engine.Config{
		Engine:         name,
		Loops:          2,
		ReadTimeout:    patience,
		WriteTimeout:   patience,
		IdleTimeout:    75 * time.Second,
		MaxHeaderBytes: 16384,
		MaxBodyBytes:   1 << 20,
		MaxConns:       10000,
		Log:            slog.New(slog.DiscardHandler),
	}}
	if change != nil {
		change(&o)
	}
	var c *counter.Counter
	switch store := store.(type) {
	case counter.InstantStore:
		c = counter.NewInstant(store, counter.Options{})
	case counter.Store:
		switch store.(type) {
		case disk, *filestore.Store, *dirstore.Store:
			o.Disk = true
		}
		c = counter.New(store, counter.Options{Timeout: o.storeTimeout})
	}
	e, err := engine.New(o.Config, c)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: e, t: t, name: name, addr: ln.Addr().String(), store: store, counter: c, served: make(chan error, 1)}
	if o.listen != nil {
		ln = o.listen(ln)
	}
	go func() { s.served <- e.Serve(ln) }()
	t.Cleanup(func() {
		// Connections that the test has left open are cut: it has seen what it
		// wanted to.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.stop(ctx)
	})
	return s
}

// Shutdown may be called again, and says the same again.
func (s *server) Shutdown(ctx context.Context) error {
	s.drain.Do(func() {
		s.drained = s.Server.Shutdown(ctx)
		s.Server.Close(ctx)
	})
	return s.drained
}

// stop shuts the server down and closes its counter.
func (s *server) stop(ctx context.Context) error {
	err := s.Shutdown(ctx)
	s.close.Do(func() {
		if e := <-s.served; e != nil {
			s.t.Errorf("serve: %v", e)
		}
		closing, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if e := s.counter.Close(closing); e != nil {
			s.t.Errorf("close the counter: %v", e)
		}
	})
	return err
}

// shutdown stops the server as SIGTERM does, and must succeed.
func (s *server) shutdown() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.stop(ctx); err != nil {
		s.t.Errorf("shutdown: %v", err)
	}
}

// count is the server's count.
func (s *server) count() int64 {
	s.t.Helper()
	n, err := s.counter.ReadSum(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// wait waits until cond holds.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// matrix runs f with every engine and every store, with one counter and with one
// for each path.
func matrix(t *testing.T, names []string, f func(t *testing.T, name string, kind storeKind)) {
	over(t, names, slices.Concat(stores, pathStores), f)
}

// over runs f with every engine and these stores.
func over(t *testing.T, names []string, kinds []storeKind, f func(t *testing.T, name string, kind storeKind)) {
	t.Parallel()
	for _, name := range names {
		for _, kind := range kinds {
			t.Run(fmt.Sprintf("%s/%s", name, kind.name), func(t *testing.T) {
				t.Parallel()
				f(t, name, kind)
			})
		}
	}
}

// each runs f with each of the engines.
func each(t *testing.T, names []string, f func(t *testing.T, name string)) {
	t.Parallel()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, name)
		})
	}
}

// oneByOne runs f with each of the engines, one after the other and beside no other test:
// it judges how long things take.
func oneByOne(t *testing.T, names []string, f func(t *testing.T, name string)) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}
