package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/proctest"
)

var million = flag.Bool("million", false, "TestMillionNamesServed: what a server with a million names takes, in a minute or a few")

const (
	millionNames = 1_000_000

	// What a million names may take.
	millionMemory = 200 << 20
	millionOpen   = 3 * time.Second
	millionSpare  = 64 << 20 // on disk, beside four snapshots
)

// TestMillionNamesServed: a server with a million names of 28 bytes is small, and a directory
// of them is small too and soon open again after kill -9, unless others use the machine.
// How much longer hits take while a snapshot is written is for a person to judge.
func TestMillionNamesServed(t *testing.T) {
	if !*million {
		t.Skip("-million takes a million names")
	}
	for _, store := range []string{"mem:", "dir:" + filepath.Join(t.TempDir(), "counterd.d")} {
		t.Run(store[:3], func(t *testing.T) {
			args := []string{"--per=path", "--store=" + store, "--log-level=debug"}
			// Not the binary of the race detector, which keeps memory of its own.
			start := func() *process { return listening(t, proctest.Command(proctest.Counterd(t), args)) }
			p := start()
			begin := time.Now()
			p.hitAll()
			t.Logf("a million hits on new names in %v", time.Since(begin).Round(time.Millisecond))
			p.wantSmall("counted")
			if store == "mem:" {
				return
			}
			most := watchSize(dirPath(store))
			times := p.hitAnew()
			p.wantSmall("hit anew")
			snapshot := fileSize(t, filepath.Join(dirPath(store), "snapshot"))
			if all := most(); all > 4*snapshot+millionSpare {
				t.Errorf("a snapshot of %d bytes, and the directory up to %d", snapshot, all)
			} else {
				t.Logf("a snapshot of %.1f MiB, and the directory up to %.1f", mib(snapshot), mib(all))
			}
			p.compare(times)

			p.Kill()
			begin = time.Now()
			p = start()
			took := time.Since(begin)
			t.Logf("counting %v after the start, of which it used %v of a processor", took.Round(time.Millisecond), p.CPU())
			if took > millionOpen {
				t.Error("that is too long")
			}
			if got, want := p.get("/count"), strconv.Itoa(millionNames+len(times)); got != want {
				t.Errorf("it counted %s of %s", got, want)
			}
			p.wantSmall("opened again")
		})
	}
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

func millionHit(i int) string {
	return fmt.Sprintf("GET /some/where/page-%011d HTTP/1.1\r\nHost: h\r\n\r\n", i)
}

// hitAll hits each name once.
func (p *process) hitAll() {
	const conns, depth = 10, 100
	var wg sync.WaitGroup
	for c := range conns {
		v := p.visit()
		_ = v.SetDeadline(time.Now().Add(time.Minute))
		wg.Go(func() {
			for i := c * depth; i < millionNames; i += conns * depth {
				var out strings.Builder
				for k := range depth {
					out.WriteString(millionHit(i + k))
				}
				if err := v.exchange(out.String(), depth); err != nil {
					p.t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// exchange sends requests and reads their n answers.
func (v *visitor) exchange(requests string, n int) error {
	if _, err := io.WriteString(v, requests); err != nil {
		return err
	}
	for range n {
		res, err := http.ReadResponse(v.r, nil)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s, %v", res.Status, err)
		}
	}
	return nil
}

// timed is a hit that was answered.
type timed struct {
	begin time.Time
	took  time.Duration
}

// hitAnew hits names at random, over 100 connections, until a snapshot was written.
func (p *process) hitAnew() (all []timed) {
	const conns, patience = 100, 5 * time.Minute
	before := len(snapshotLines(p.Log()))
	done := make(chan struct{})
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range conns {
		v := p.visit()
		_ = v.SetDeadline(time.Now().Add(patience + time.Minute))
		wg.Go(func() {
			var mine []timed
			for open := true; open; {
				begin := time.Now()
				if err := v.exchange(millionHit(rand.IntN(millionNames)), 1); err != nil {
					p.t.Error(err)
					return
				}
				mine = append(mine, timed{begin, time.Since(begin)})
				select {
				case <-done:
					open = false
				default:
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	for end := time.Now().Add(patience); len(snapshotLines(p.Log())) == before; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Error("no snapshot")
			break
		}
	}
	close(done)
	wg.Wait()
	return all
}

// snapshotLines are the lines about snapshots, with when they were there and how long
// they took.
func snapshotLines(log string) [][]string {
	return regexp.MustCompile(`time=(\S+) level=DEBUG msg=snapshot bytes=\d+ took=(\S+)\n`).FindAllStringSubmatch(log, -1)
}

// compare logs how long hits took while snapshots were written, and else.
func (p *process) compare(times []timed) {
	var spans []timed
	for _, m := range snapshotLines(p.Log()) {
		end, err := time.Parse(time.RFC3339Nano, m[1])
		took, err2 := time.ParseDuration(m[2])
		if err != nil || err2 != nil {
			p.t.Fatal(err, err2)
		}
		spans = append(spans, timed{end.Add(-took), took})
	}
	var calm, during []time.Duration
	for _, one := range times {
		beside := func(s timed) bool {
			return one.begin.Before(s.begin.Add(s.took)) && one.begin.Add(one.took).After(s.begin)
		}
		if slices.ContainsFunc(spans, beside) {
			during = append(during, one.took)
		} else {
			calm = append(calm, one.took)
		}
	}
	for what, list := range map[string][]time.Duration{"calm": calm, "beside a snapshot": during} {
		slices.Sort(list)
		if n := len(list); n > 0 {
			p.t.Logf("%s: %d hits, p50 %v, p99 %v", what, n, list[n/2], list[n*99/100])
		}
	}
}

func (p *process) wantSmall(when string) {
	p.t.Helper()
	most := p.Status("VmHWM")
	p.t.Logf("%s: %.1f MiB of memory, at most %.1f so far", when, mib(p.Resident()), mib(most))
	if most > millionMemory {
		p.t.Error("that is too much")
	}
}

// watchSize watches how large the files of a directory are, until most is called,
// which returns how much they were at most.
func watchSize(dir string) (most func() int64) {
	stop, result := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		for {
			var now int64
			files, _ := os.ReadDir(dir)
			for _, f := range files {
				if info, err := f.Info(); err == nil { // else it is gone
					now += info.Size()
				}
			}
			most = max(most, now)
			select {
			case <-stop:
				result <- most
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() int64 { close(stop); return <-result }
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
