package listen

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("LISTEN_TEST_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// open listens until the test ends.
func open(t *testing.T, addr string, reusePort bool) *net.TCPListener {
	t.Helper()
	ln, err := Open(addr, reusePort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// dial makes n connections to addr that stay open until the test ends.
func dial(t *testing.T, addr string, n int) {
	t.Helper()
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
}

// queued takes what is queued at ln and says how much it was. On loopback a
// connection is in the queue before Dial returns.
func queued(t *testing.T, ln *net.TCPListener) int {
	t.Helper()
	for n := 0; ; n++ {
		if err := ln.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			if e, ok := err.(net.Error); !ok || !e.Timeout() {
				t.Fatal(err)
			}
			return n
		}
		t.Cleanup(func() { c.Close() })
	}
}

func linuxOnly(t *testing.T) {
	if !ReusePortWorks {
		t.Skip("sharing a port works on Linux only, not on " + runtime.GOOS)
	}
}

// TestSteering follows three generations of a service through two restarts.
func TestSteering(t *testing.T) {
	linuxOnly(t)
	want := func(what string, ln *net.TCPListener, n int) {
		t.Helper()
		if got := queued(t, ln); got != n {
			t.Errorf("%s: %d connections queued, want %d", what, got, n)
		}
	}
	old := open(t, "127.0.0.1:0", true)
	addr := old.Addr().String()
	for range 2 {
		dial(t, addr, 50)
		newcomer := open(t, addr, true)
		if err := Yield(old); err != nil {
			t.Fatal(err)
		}
		dial(t, addr, 50)
		want("the one that yields", old, 50)
		dial(t, addr, 50)
		want("after it has yielded", old, 0)
		old.Close()
		dial(t, addr, 50)
		want("newcomer", newcomer, 150)
		old = newcomer
	}
	// Without a newcomer a stop still takes what arrives.
	if err := Yield(old); err != nil {
		t.Fatal(err)
	}
	dial(t, addr, 50)
	want("nobody else", old, 50)
}

// turn opens a turn on file until the test ends.
func turn(t *testing.T, file string) *Turn {
	t.Helper()
	tu, err := NewTurn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tu.Close() })
	return tu
}

func TestTurns(t *testing.T) {
	linuxOnly(t)
	file := filepath.Join(t.TempDir(), "store")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pass := func(from *Turn, want bool) {
		t.Helper()
		if ok, err := from.Pass(t.Context()); err != nil || ok != want {
			t.Errorf("Pass: %t, %v; want %t", ok, err, want)
		}
	}
	refused := func(by *Turn) {
		t.Helper()
		if err := by.Claim(); !errors.Is(err, ErrNotNow) {
			t.Errorf("a second turn: %v, want ErrNotNow", err)
		}
	}
	a, b, c := turn(t, file), turn(t, file), turn(t, file)
	must(a.Claim())
	must(a.Listening())
	refused(b)
	pass(a, false) // nobody wants it
	must(a.Claim())
	must(a.Listening())

	// One of those that wait takes it, and the other goes on waiting.
	var wg sync.WaitGroup
	wg.Go(func() {
		for errors.Is(b.Claim(), ErrNotNow) {
		}
		refused(c)
		must(b.Listening())
	})
	pass(a, true)
	wg.Wait()
	refused(a)
	refused(c)

	// One that takes the turn and ends before it listens is no successor.
	wg.Go(func() {
		for errors.Is(c.Claim(), ErrNotNow) {
		}
		c.Close()
	})
	pass(b, false)
	wg.Wait()

	// The turn of a process that has died is free, and the file is as it was.
	a.Close()
	b.Close()
	d := turn(t, file)
	must(d.Claim())
	if content, err := os.ReadFile(file); err != nil || string(content) != "content" {
		t.Errorf("%q, %v", content, err)
	}
}

func TestTakenPort(t *testing.T) {
	for _, reusePort := range []bool{false, true} {
		if reusePort {
			linuxOnly(t)
		}
		ln := open(t, "127.0.0.1:0", false)
		if second, err := Open(ln.Addr().String(), reusePort); err == nil {
			second.Close()
			t.Errorf("reusePort=%t: a port that is not shared was taken", reusePort)
		}
	}
}

func TestFamilies(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		ln.Close()
	}
	for _, c := range []struct {
		listen string
		v4, v6 bool
	}{
		{":0", true, true},
		{"[::]:0", true, true},
		{"0.0.0.0:0", true, false},
		{"[::1]:0", false, true},
		{"127.0.0.1:0", true, false},
	} {
		ln := open(t, c.listen, false)
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		for host, want := range map[string]bool{"127.0.0.1": c.v4, "::1": c.v6} {
			conn, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if (err == nil) != want {
				t.Errorf("%s: dial %s: %v", c.listen, host, err)
			}
			if err == nil {
				conn.Close()
			}
		}
	}
}

// child reports what it inherits.
func child() {
	ln, err := Inherited()
	switch {
	case err != nil:
		os.Stdout.WriteString(err.Error())
	case ln == nil:
		os.Stdout.WriteString("none")
	default:
		os.Stdout.WriteString(ln.Addr().String())
	}
}

func TestInherited(t *testing.T) {
	tcp := open(t, "127.0.0.1:0", false)
	tcpFile, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer tcpFile.Close()
	unix, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	unixFile, err := unix.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer unixFile.Close()
	plain, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()

	for _, c := range []struct {
		files []*os.File
		pid   string // shell expression
		want  string
	}{
		{nil, "$$", "none"},
		{[]*os.File{tcpFile}, "$$", tcp.Addr().String()},
		{[]*os.File{tcpFile}, "1", "none"}, // meant for another process
		{[]*os.File{tcpFile, unixFile}, "$$", "2 sockets"},
		{[]*os.File{unixFile}, "$$", "UNIX"},
		{[]*os.File{plain}, "$$", "descriptor"},
	} {
		cmd := exec.Command("sh", "-c", `LISTEN_PID=`+c.pid+` LISTEN_FDS=$1 exec "$0"`, os.Args[0], string(rune('0'+len(c.files))))
		cmd.Env = append(os.Environ(), "LISTEN_TEST_CHILD=1")
		cmd.ExtraFiles = c.files
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), c.want) {
			t.Errorf("%d files: %q, want %q", len(c.files), out, c.want)
		}
	}
}
