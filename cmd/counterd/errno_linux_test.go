package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/counterd/counterd/engine"
)

var errnos = flag.Bool("errnos", false, "TestFailingSystemCalls: every errno, once and for 2 s, takes minutes; else one of each kind")

var allEngines = []string{engine.Gnet, engine.Goroutine, engine.Std}

// fate is what a failing system call leads to.
type fate int

const (
	answered fate = iota // every client gets its answer, if need be when the trouble is over
	closed               // clients may be closed without an answer; later ones get theirs
	lost                 // the store is lost: exit 1, one line
)

// failures are the errnos of the manual pages, and for accept those of the network
// that Linux passes through, and of filters.
var failures = []struct {
	call   string
	fate   fate
	typing []string // one of each kind, for every run
	errnos []string
}{
	{"accept4", answered,
		[]string{"EPROTO", "EMFILE", "EINVAL"},
		[]string{"EAGAIN", "EBADF", "ECONNABORTED", "EFAULT", "EINTR", "EINVAL", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM",
			"ENOTSOCK", "EOPNOTSUPP", "EPERM", "EPROTO", "EACCES", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH",
			"ENONET", "ENOPROTOOPT", "ENOSR", "ENOSYS", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ETIMEDOUT", "EIO"}},
	// The first of each thread: Go's own registration and, on the loop's thread, gnet's.
	{"epoll_ctl", closed,
		[]string{"ENOSPC"},
		[]string{"EBADF", "EEXIST", "EINVAL", "ELOOP", "ENOENT", "ENOMEM", "ENOSPC", "EPERM"}},
	{"fdatasync", answered, []string{"EINTR"}, []string{"EINTR"}},
	{"fdatasync", lost,
		[]string{"EIO"},
		[]string{"EBADF", "EDQUOT", "EINVAL", "EIO", "ENOMEM", "ENOSPC", "EROFS", "EOPNOTSUPP"}},
}

// TestFailingSystemCalls has system calls of a running server fail, once on every thread and for
// a while, and sees what becomes of it, on both of its listeners. With -errnos it is
// every errno and 2 s; that takes minutes.
func TestFailingSystemCalls(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	for _, name := range allEngines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "counterd.db")
			v := &victim{t: t, start: func() *process { return begin(t, "--engine="+name, "--store=file:"+file) }}
			for _, f := range failures {
				list, d := f.typing, 300*time.Millisecond
				if *errnos {
					list, d = f.errnos, 2*time.Second
				}
				for i, errno := range list {
					v.suffers(f.call, errno, f.fate, 0)
					if *errnos || i == 0 {
						v.suffers(f.call, errno, f.fate, d)
					}
				}
			}
			v.running()
			v.p.Stop()
		})
	}
}

// victim is a server whose system calls fail. It is started again when it has ended
// as it should.
type victim struct {
	t     *testing.T
	start func() *process
	p     *process
}

func (v *victim) running() {
	if v.p == nil {
		v.p = v.start()
	}
	v.p.get("/")
}

// suffers has a system call fail, for d or, if that is 0, the first time on each
// thread.
func (v *victim) suffers(call, errno string, f fate, d time.Duration) {
	v.t.Helper()
	v.running()
	when, what := ":when=1", fmt.Sprintf("%s: %s once", call, errno)
	switch {
	case d > 0 && call == "fdatasync" && f == answered:
		// It is tried again at once. strace that lets go within a call has it end with
		// ENOSYS, so this must be over by then.
		when, what = ":when=1..2000", fmt.Sprintf("%s: %s many times", call, errno)
	case d > 0:
		when, what = "", fmt.Sprintf("%s: %s for %v", call, errno, d)
	}
	s := trace(v.t, v.p, call, errno+when)
	const clients = 4
	var asking sync.WaitGroup
	outcomes := make(chan string, 3*clients)
	ask := func(n int, addr string) {
		for range n {
			asking.Go(func() { outcomes <- request(addr) })
		}
	}
	ask(clients, v.p.listen)
	ask(clients, v.p.admin)
	time.Sleep(max(d, 50*time.Millisecond))
	// A connection that comes now has the acceptor look again, also after EAGAIN:
	// then the kernel says nothing more of those that queue.
	injected := func() bool { return strings.Contains(s.output(), "(INJECTED)") }
	eventually(v.t, what+": nothing has failed", injected)
	if call == "fdatasync" {
		asking.Wait()
	}
	s.detach()
	if f != lost {
		ask(1, v.p.listen)
		ask(1, v.p.admin)
	}
	asking.Wait()
	close(outcomes)
	for got := range outcomes {
		switch {
		case got == "200":
		case f == closed && got == "closed":
		case f == lost: // they get 503 if they come in time, or the end
		default:
			v.t.Errorf("%s: a client got %q", what, got)
		}
	}
	if f == lost {
		v.p.Wait(1)
		if n := strings.Count(v.p.Log(), "level=ERROR"); n != 1 {
			v.t.Errorf("%s: %d errors in the log, want one line:\n%s", what, n, v.p.Log())
		}
		v.p = nil
		return
	}
	select {
	case <-v.p.Ended():
		v.t.Fatalf("%s: it has ended:\n%s", what, v.p.Log())
	default:
	}
	if got := request(v.p.admin); got != "200" {
		v.t.Errorf("%s: afterwards the admin listener answers %q", what, got)
	}
}

// request asks on a connection of its own. It returns the status, or what else
// became of it.
func request(addr string) string {
	v, err := reach(addr)
	if err != nil {
		return err.Error()
	}
	defer v.Close()
	return v.ask()
}

// strace is one that has attached itself to a server.
type strace struct {
	cmd  *exec.Cmd
	file string
	done chan struct{}
}

// trace attaches strace, which lets a system call fail.
func trace(t *testing.T, p *process, call, inject string) *strace {
	t.Helper()
	s := &strace{file: filepath.Join(t.TempDir(), "strace"), done: make(chan struct{})}
	s.cmd = exec.Command("strace", "-f", "-o", s.file, "-e", "signal=none", "-e", "trace="+call,
		"-e", fmt.Sprintf("inject=%s:error=%s", call, inject), "-p", strconv.Itoa(p.Pid()))
	// It must not outlive a test that is killed: what it traces would stand still.
	s.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGTERM}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	attached := make(chan string, 1)
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			select {
			case attached <- lines.Text():
			default:
			}
		}
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.detach)
	select {
	case line := <-attached:
		if !strings.Contains(line, "attached") {
			t.Skipf("strace: %s", line)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("strace doesn't attach")
	}
	return s
}

func (s *strace) output() string {
	b, _ := os.ReadFile(s.file)
	return string(b)
}

// detach has strace let go. The server may have ended before, without strace's
// noticing: it then waits for ever for a thread that began as the process ended.
func (s *strace) detach() {
	_ = s.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(5 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}
