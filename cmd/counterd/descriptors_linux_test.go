package main

import (
	"flag"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/internal/proctest"
)

var manyDescriptors = flag.Bool("descriptors", false, "TestNeverOutOfDescriptors: also with a limit of 20,000 descriptors and 15,000 connections")

// TestNeverOutOfDescriptors: with the --max-conns that the server finds for itself it never runs
// out of descriptors. A burst that fits is answered to the last connection; beyond it
// each gets 503 or is closed; and the admin listener has its own share.
func TestNeverOutOfDescriptors(t *testing.T) {
	t.Parallel()
	// fits is 0: as many as there may be. Loops take descriptors, too.
	type size struct{ limit, processors, fits, beyond int }
	sizes := []size{{64, 2, 0, 160}, {64, 4, 0, 160}, {256, 2, 0, 640}, {256, 32, 0, 640}}
	if *manyDescriptors {
		sizes = append(sizes, size{20_000, 2, 15_000, 0})
	}
	for _, s := range sizes {
		for _, name := range allEngines {
			t.Run(fmt.Sprintf("%s/%d of %d processors", name, s.limit, s.processors), func(t *testing.T) {
				if s.limit < 1000 {
					t.Parallel()
				}
				var own unix.Rlimit
				if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil || own.Cur < uint64(max(s.limit, 1000)) {
					t.Skipf("only %d files may be open", own.Cur)
				}
				cmd := proctest.Command(binary, []string{"--engine=" + name, "--per=path"},
					"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, s.limit))
				cmd.Env = append(cmd.Env, "GOMAXPROCS="+strconv.Itoa(s.processors))
				p := listening(t, cmd)
				most := p.metric("counterd_connections_max")
				fits := s.fits
				if fits == 0 {
					fits = most
				}
				if fits > most || most < 4 {
					t.Fatalf("at most %d connections", most)
				}
				for round := range 4 {
					in := p.crowd(fits)
					if n := in.got["200"]; n != fits {
						t.Fatalf("round %d: %d of %d that fit are answered: %v", round, n, fits, in.got)
					}
					if s.beyond > 0 {
						more := p.crowd(s.beyond)
						if n := more.got["503"] + more.got["closed"]; n != s.beyond {
							t.Errorf("beyond what fits: %v", more.got)
						}
						more.leave()
					}
					if code, _ := get(t, "http://"+p.admin+"/healthz"); code != http.StatusOK {
						t.Errorf("the admin listener answers %d", code)
					}
					in.leave()
					eventually(t, "all have left", func() bool { return p.metric("counterd_connections_open") == 0 })
				}
				if strings.Contains(p.Log(), "too many open files") {
					t.Errorf("it ran out of descriptors:\n%s", p.Log())
				}
				p.Stop()
			})
		}
	}
}

// metric asks for a value of the admin listener's.
func (p *process) metric(name string) int {
	p.t.Helper()
	_, body := get(p.t, "http://"+p.admin+"/metrics")
	m := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		p.t.Fatalf("no %s in %s", name, body)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return int(v)
}

// crowd are clients that came all at once, and stay.
type crowd struct {
	visitors []*visitor
	got      map[string]int // status, or what else became of the request
}

func (p *process) crowd(n int) *crowd {
	p.t.Helper()
	c := &crowd{visitors: make([]*visitor, n), got: make(map[string]int)}
	var mu sync.Mutex
	var all sync.WaitGroup
	places := make(chan struct{}, 1000) // what queues at a listener is bounded, too
	for i := range n {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			v, err := reach(p.listen)
			got := ""
			if err != nil {
				got = err.Error()
			} else {
				got = v.ask()
			}
			mu.Lock()
			defer mu.Unlock()
			c.visitors[i] = v
			c.got[got]++
		})
	}
	all.Wait()
	return c
}

func (c *crowd) leave() {
	for _, v := range c.visitors {
		if v != nil {
			v.Close()
		}
	}
}

// ask sends a hit, and says what became of it.
func (v *visitor) ask() string {
	_ = v.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := v.Write([]byte(aHit)); err != nil {
		return "closed"
	}
	status, _, _, err := v.hear()
	switch {
	case err == nil:
		return strconv.Itoa(status)
	case isTimeout(err):
		return "nothing"
	default:
		return "closed"
	}
}
