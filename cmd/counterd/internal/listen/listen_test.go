package listen

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

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

func linuxOnly(t *testing.T) {
	if !ReusePortWorks {
		t.Skip("sharing a port works on Linux only, not on " + runtime.GOOS)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
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

func TestFamiliesOfAnAddress(t *testing.T) {
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

func TestSocketIsInherited(t *testing.T) {
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
