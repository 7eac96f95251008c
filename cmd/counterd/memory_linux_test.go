package main

import (
	"bytes"
	"flag"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/engine"
	"github.com/counterd/counterd/internal/proctest"
)

var slowReaders = flag.Int("slow-readers", 3000, "connections of the attack after which memory is given back")

// askAndDontRead makes n connections that ask for more than they let be sent.
func askAndDontRead(t *testing.T, addr string, n int) (hangUp func()) {
	t.Helper()
	requests := bytes.Repeat([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), 20_000)
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	const parts = 20
	for part := range parts {
		wg.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+part))}}
			for i := part; i < n; i += parts {
				c, err := d.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = c
				_ = c.(*net.TCPConn).SetReadBuffer(4 << 10) // or it takes more
				_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
				_, _ = c.Write(requests) // as far as they are taken
			}
		})
	}
	wg.Wait()
	return func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}
}

// TestMemoryComesBack: clients that ask for much and read nothing have gone, and soon
// so has the memory that they needed.
func TestMemoryComesBack(t *testing.T) {
	const patience = time.Minute
	everyEngine(t, func(t *testing.T, e string) {
		slack := int64(20 << 20)
		if e != engine.Gnet {
			slack += int64(*slowReaders) << 10 // of a goroutine that waits for a socket Go gives back about 1 KB never
		}
		// Not the binary of the race detector, which keeps memory of its own.
		cmd := proctest.Command(proctest.Counterd(t), []string{"--engine=" + e, "--store=mem:", "--write-timeout=2m", "--admin="})
		p := listening(t, cmd)
		askAndDontRead(t, p.listen, 100)() // so that all code is in memory
		eventually(t, "it answers", func() bool { return p.get("/count") != "" })
		before := p.Resident()
		hangUp := askAndDontRead(t, p.listen, *slowReaders)
		peak := p.Resident()
		for end := time.Now().Add(10 * time.Second); peak < before+slack && time.Now().Before(end); peak = max(peak, p.Resident()) {
			time.Sleep(100 * time.Millisecond) // it may not have taken yet all that it can
		}
		hangUp()
		gone := time.Now()
		now := p.Resident()
		for now > before+slack && time.Since(gone) < patience {
			time.Sleep(100 * time.Millisecond)
			now = p.Resident()
		}
		t.Logf("%d MiB before, %d MiB under attack, %d MiB after %v", before>>20, peak>>20, now>>20, time.Since(gone).Round(time.Millisecond))
		if now > before+slack {
			t.Errorf("it doesn't come back")
		}
		// net/http stops at the first answer that isn't taken.
		if e != engine.Std && peak < before+slack {
			t.Errorf("the attack was none: raise -slow-readers")
		}
		p.Stop()
	})
}

// TestGarbageIsCollectedWhenManyHaveGone: collecting garbage is worth it when many have gone, and otherwise
// never done.
func TestGarbageIsCollectedWhenManyHaveGone(t *testing.T) {
	var a attack
	for i, step := range []struct {
		open int64
		over bool
	}{
		{0, false}, {150, false}, {0, false}, // few
		{10_000, false}, {9_000, false}, {6_000, false}, // they come and go
		{4_900, true}, {4_900, false}, {3_000, false},
		{0, true}, {0, false},
		{1_000, false}, {0, true},
		{5_000, false}, {250, true}, {100, false}, {100, true}, {100, false}, // the last of them
	} {
		if got := a.over(step.open); got != step.over {
			t.Errorf("step %d: over(%d) = %t", i, step.open, got)
		}
	}
}
