package pgstore_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/pgtest"
	"github.com/counterd/counterd/internal/proctest"
)

var faultRun = flag.Duration("faultrun", 6*time.Second, "how long each fault run does harm")

const (
	replicas  = 4
	clients   = 100
	faultRate = 0.06 // of the batches
)

// TestFaultRun: four servers on one PostgreSQL, 100 clients, and random faults
// of every kind: connections that die or stand still at each stage of a batch,
// terminated and killed backends, a killed and a frozen database, killed and
// frozen servers. The answers must be those of one counter.
func TestFaultRun(t *testing.T) { testFaultRun(t, 0) }

// TestFaultRunPaths: the same on 200 paths. The answers for each must be those of
// one counter, and each sum within what had been answered and what was under way.
func TestFaultRunPaths(t *testing.T) { testFaultRun(t, manyNames) }

// testFaultRun is for one counter with 0 paths.
func testFaultRun(t *testing.T, paths int) {
	if testing.Short() {
		t.Skip("long")
	}
	t.Parallel()
	bin := proctest.Counterd(t)
	c := pgtest.New(t)
	servers := make([]*server, replicas)
	for i := range servers {
		servers[i] = newServer(t, bin, c, []string{"gnet", "goroutine", "std", "gnet"}[i], paths > 0)
	}
	for _, s := range servers {
		s.ready(t)
	}

	began := time.Now()
	ctx, cancel := context.WithCancel(context.Background())
	histories := make([][]op, clients)
	var wg sync.WaitGroup
	for i := range histories {
		wg.Go(func() { histories[i] = ask(ctx, i, began, servers, paths) })
	}
	harm(t, c, servers, *faultRun)
	// On a slow machine it takes longer to do as much harm.
	want := int(50 * *faultRun / time.Minute)
	for more := 0; more < 6 && ambiguous(t, servers) < want; more++ {
		harm(t, c, servers, *faultRun/2)
	}
	for _, s := range servers {
		s.ready(t)
	}
	cancel()
	wg.Wait()

	var history []op
	for _, h := range histories {
		history = append(history, h...)
	}
	var count int64
	for _, s := range servers {
		for n := range paths {
			history = append(history, finalRead(t, s, began, pathOf(n)))
		}
		final := finalRead(t, s, began, "")
		history = append(history, final)
		count = final.value
	}
	v := checkAll(t, history, paths)
	if count < v.hits || count > v.hits+v.unknown {
		t.Errorf("count %d, answered %d, received at most %d", count, v.hits, v.hits+v.unknown)
	}
	if got := c.Query("SELECT value FROM counterd_counter"); got != fmt.Sprint(count) {
		t.Errorf("the database has %s, the servers answer %d", got, count)
	}
	var resolved, found int
	for _, s := range servers {
		s.Stop()
		r, f := s.resolved()
		resolved, found = resolved+r, found+f
	}
	t.Logf("%d hits answered, %d reads, %d hits without an answer of which %d were counted; %d windows checked",
		v.hits, v.reads, v.unknown, v.counted, v.windows)
	t.Logf("%d ambiguous batches resolved, %d of them found applied (killed servers' not included)", resolved, found)
	if resolved < want {
		t.Errorf("only %d ambiguous batches were resolved, want %d: too little harm was done", resolved, want)
	}
}

// ambiguous is how many batches had an attempt of unknown outcome, of the servers
// as they run now.
func ambiguous(t *testing.T, servers []*server) (n int) {
	t.Helper()
	for _, s := range servers {
		s.ready(t)
		resp, err := client.Get("http://" + s.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		m := ambiguousTotal.FindSubmatch(b)
		if err != nil || m == nil {
			t.Fatalf("no count of ambiguous batches: %v\n%s", err, b)
		}
		one, _ := strconv.Atoi(string(m[1]))
		n += one
	}
	return n
}

var ambiguousTotal = regexp.MustCompile(`(?m)^counterd_store_ambiguous_total (\d+)$`)

// ask is a client: hits and reads at random servers, one after the other.
func ask(ctx context.Context, id int, began time.Time, servers []*server, paths int) (history []op) {
	for ctx.Err() == nil {
		s := servers[rand.IntN(len(servers))]
		o := op{client: id, start: time.Since(began), read: rand.IntN(5) == 0}
		if paths > 0 && (!o.read || rand.IntN(4) > 0) {
			o.name = pathOf(rand.IntN(paths))
		}
		path := cmp.Or(o.name, "/")
		if o.read {
			path = "/count" + o.name
		}
		var err error
		o.value, err = get(s.listen, path)
		o.end = time.Since(began)
		o.unknown = err != nil
		if err == nil || !o.read {
			history = append(history, o)
		}
		if err != nil {
			time.Sleep(20 * time.Millisecond) // a server that is down refuses fast
		}
		time.Sleep(rand.N(10 * time.Millisecond))
	}
	return history
}

func pathOf(n int) string { return fmt.Sprintf("/%d", n) }

// finalRead reads a counter, or the sum, when all is over.
func finalRead(t *testing.T, s *server, began time.Time, name string) op {
	t.Helper()
	o := op{client: -1, name: name, start: time.Since(began), read: true}
	var err error
	if o.value, err = get(s.listen, "/count"+name); err != nil {
		t.Fatal(err)
	}
	o.end = time.Since(began)
	return o
}

// checkAll checks the history of each counter, and of the sum.
func checkAll(t *testing.T, history []op, paths int) (all verdict) {
	t.Helper()
	of := map[string][]op{}
	for _, o := range history {
		of[o.name] = append(of[o.name], o)
	}
	if paths > 0 {
		checkSums(t, history, of[""])
		delete(of, "")
	}
	for name, h := range of {
		v, err := check(h)
		if err != nil {
			t.Errorf("%s: %v", cmp.Or(name, "the counter"), err)
		}
		all.add(v)
	}
	return all
}

// checkSums checks reads of the sum of all counters: each is at least what had been
// answered when it began, and what earlier reads had shown, and at most what had
// been sent when it ended.
func checkSums(t *testing.T, history, sums []op) {
	t.Helper()
	var sent, answered []time.Duration
	for _, o := range history {
		if o.read {
			continue
		}
		sent = append(sent, o.start)
		if !o.unknown {
			answered = append(answered, o.end)
		}
	}
	slices.Sort(sent)
	slices.Sort(answered)
	slices.SortFunc(sums, func(a, b op) int { return cmp.Compare(a.end, b.end) })
	shown := make([]int64, len(sums)+1) // the highest of the first so many
	for i, o := range sums {
		shown[i+1] = max(shown[i], o.value)
		least, _ := slices.BinarySearch(answered, o.start)
		most, _ := slices.BinarySearch(sent, o.end)
		before, _ := slices.BinarySearchFunc(sums, o.start, func(a op, at time.Duration) int { return cmp.Compare(a.end, at) })
		if o.value < int64(least) || o.value > int64(most) || o.value < shown[min(before, i)] {
			t.Errorf("a sum of %d; answered %d, sent %d, shown before %d", o.value, least, most, shown[min(before, i)])
		}
	}
	t.Logf("%d sums read", len(sums))
	if len(sums) < 10 {
		t.Error("that is too few")
	}
}

// get does one request. A hit is a POST, which http.Transport doesn't repeat
// once it may have been sent.
func get(addr, path string) (int64, error) {
	method := http.MethodPost
	if strings.HasPrefix(path, "/count") {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, "http://"+addr+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(body))
	}
	return strconv.ParseInt(strings.TrimSuffix(string(body), "\n"), 10, 64)
}

var client = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: clients},
	Timeout:   20 * time.Second,
}

// harm does something bad every now and then, for a time.
func harm(t *testing.T, c *pgtest.Cluster, servers []*server, d time.Duration) {
	t.Helper()
	for _, s := range servers {
		s.faulty.Store(true)
	}
	began := time.Now()
	done := map[string]int{}
	for time.Since(began) < d {
		time.Sleep(50*time.Millisecond + rand.N(300*time.Millisecond))
		s := servers[rand.IntN(len(servers))]
		bad := rand.IntN(20)
		switch {
		case bad < 8:
			done["terminate backends"]++
			c.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'counterd'")
		case bad < 10:
			done["cut a replica's connections"]++
			s.proxy.CutAll()
		case bad < 12:
			done["freeze a server"]++
			s.Signal(syscall.SIGSTOP)
			time.Sleep(rand.N(300 * time.Millisecond))
			s.Signal(syscall.SIGCONT)
		case bad < 14:
			done["kill a server"]++
			s.Kill()
			s.start(t)
		case bad < 16:
			done["freeze the database"]++
			c.Pause()
			time.Sleep(rand.N(300 * time.Millisecond))
			c.Resume()
		case bad < 18:
			done["kill a backend"]++
			c.KillBackend("application_name = 'counterd' ORDER BY random() LIMIT 1")
			c.Await("SELECT 1")
		case bad < 19:
			done["kill the database"]++
			c.Kill()
			c.Start()
		default:
			done["stop the database at once"]++
			c.Stop()
			c.Start()
		}
	}
	for _, s := range servers {
		s.faulty.Store(false)
	}
	t.Logf("in %v: %v", d, done)
}

// server is a counterd process that reaches the database through a proxy of
// its own.
type server struct {
	*proctest.Process
	bin           string
	args          []string
	listen, admin string
	proxy         *pgtest.Proxy
	faulty        atomic.Bool
}

// faultyProxy does harm to some batches while faulty is true.
func faultyProxy(t *testing.T, c *pgtest.Cluster, faulty *atomic.Bool) *pgtest.Proxy {
	t.Helper()
	return pgtest.NewProxy(t, c.Addr, func(sql string) pgtest.Fault {
		if !faulty.Load() || !strings.HasPrefix(sql, "BEGIN ISOLATION") || rand.Float64() > faultRate {
			return pgtest.Pass
		}
		f := pgtest.Fault(rand.IntN(int(pgtest.Stages)))
		if (f == pgtest.LoseQuery || f == pgtest.LoseAnswer) && rand.IntN(10) > 0 {
			f = pgtest.CutUnanswered // standing still takes long, and nothing else is tested meanwhile
		}
		return f
	})
}

func newServer(t *testing.T, bin string, c *pgtest.Cluster, engine string, perPath bool) *server {
	t.Helper()
	s := &server{bin: bin, listen: proctest.FreeAddr(t), admin: proctest.FreeAddr(t)}
	s.proxy = faultyProxy(t, c, &s.faulty)
	// The timeout at start covers a database that is just being killed.
	s.args = []string{"--engine=" + engine, "--listen=" + s.listen, "--admin=" + s.admin, "--log-level=debug",
		"--store-timeout=10s", "--store=" + pgtest.URL([]string{s.proxy.Addr()}, pgtest.Superuser)}
	if perPath {
		s.args = append(s.args, "--per=path")
	}
	s.start(t)
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.Process = proctest.Start(t, proctest.Command(s.bin, s.args))
}

func (s *server) ready(t *testing.T) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		resp, err := client.Get("http://" + s.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Since(began) > 30*time.Second {
			log := s.Log()
			t.Fatalf("%v is not ready: %v\n%s", s.args, err, log[max(0, len(log)-2000):])
		}
	}
}

var closing = regexp.MustCompile(`the store closes.* resolved=(\d+) found_applied=(\d+)`)

// resolved reads what the store logged when it was closed.
func (s *server) resolved() (resolved, found int) {
	if m := closing.FindStringSubmatch(s.Log()); m != nil {
		resolved, _ = strconv.Atoi(m[1])
		found, _ = strconv.Atoi(m[2])
	}
	return resolved, found
}
