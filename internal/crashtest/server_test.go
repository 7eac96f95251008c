package crashtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/counterd/counterd/counter/dirstore"
	"github.com/counterd/counterd/counter/filestore"
)

// binaries are built once per test run, with and without planted bugs.
var binaries struct {
	sync.Mutex
	dir   string
	built map[string]string
}

func build(t testing.TB, tags string) string {
	t.Helper()
	b := &binaries
	b.Lock()
	defer b.Unlock()
	if path, ok := b.built[tags]; ok {
		return path
	}
	path := filepath.Join(b.dir, "counterd-"+tags)
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", path, "github.com/counterd/counterd/cmd/counterd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is released
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building counterd: %v\n%s", err, out)
	}
	b.built[tags] = path
	return path
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "crashtest")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binaries.dir, binaries.built = dir, map[string]string{}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// mode is what is run.
type mode struct{ engine, per string }

func (m mode) String() string { return m.engine + ", per=" + m.per }

// site is where servers live one after the other: the same port, the same store.
type site struct {
	mode
	binary string
	addr   string
	admin  string // empty: off
	path   string // of the store
	args   []string
	env    []string
}

func newSite(t testing.TB, binary string, m mode) *site {
	t.Helper()
	return &site{
		mode:   m,
		binary: binary,
		addr:   freeAddr(t),
		path:   filepath.Join(t.TempDir(), "counts"),
	}
}

// store is the value of --store.
func (s *site) store() string {
	if s.per == "path" {
		return "dir:" + s.path
	}
	return "file:" + s.path
}

// shown is what the store holds when no server runs.
func (s *site) shown(names []string) (counts []int64, sum int64, err error) {
	if s.per != "path" {
		n, err := filestore.Show(s.path)
		return []int64{n}, n, err
	}
	table, err := dirstore.Read(s.path)
	if err != nil {
		return nil, 0, err
	}
	for _, name := range names {
		n, _ := table.Add([]byte(name), 0) // reads
		counts = append(counts, n)
	}
	return counts, table.Sum(), nil
}

// names are those of the counters.
func (s *site) names() []string {
	if s.per != "path" {
		return []string{""}
	}
	names := []string{"/", "//", "/counter", "/%63ount", "/a[]=1{|}^`\"<>\\", "/\x80\xff/", "/" + strings.Repeat("x", 1023)}
	for i := len(names); i < manyNames; i++ {
		names = append(names, fmt.Sprintf("/pages/%d.html", i))
	}
	return names
}

const manyNames = 1000

// taken are the ports that sites have, with or without a server.
var taken sync.Map

// freeAddr finds a port outside the range that the kernel gives to outgoing
// connections: a client that dials a port of that range while the server is
// down may meet itself.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000))
		if _, had := taken.LoadOrStore(addr, true); had {
			continue
		}
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			ln.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// server is one process.
type server struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed after err is set
	err    error
	mu     sync.Mutex
	log    strings.Builder
}

const patience = 20 * time.Second

// launch starts a process.
func (s *site) launch() (*server, <-chan struct{}, error) {
	args := append([]string{"--listen=" + s.addr, "--admin=" + s.admin, "--store=" + s.store(), "--engine=" + s.engine, "--per=" + s.per}, s.args...)
	p := &server{cmd: exec.Command(s.binary, args...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), s.env...)
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, nil, err
	}
	listening := make(chan struct{})
	go p.watch(stderr, listening)
	return p, listening, nil
}

// serve starts a process and waits until it listens.
func (s *site) serve() (*server, error) {
	p, listening, err := s.launch()
	if err != nil {
		return nil, err
	}
	select {
	case <-listening:
		return p, nil
	case <-p.exited:
		return nil, fmt.Errorf("counterd ended at the start: %v\n%s", p.err, p.output())
	case <-time.After(patience):
		p.kill()
		return nil, fmt.Errorf("counterd doesn't listen\n%s", p.output())
	}
}

func (p *server) watch(stderr io.Reader, listening chan struct{}) {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
		if listening != nil && strings.Contains(lines.Text(), "msg=listening") {
			close(listening)
			listening = nil
		}
	}
	p.err = p.cmd.Wait()
	close(p.exited)
}

func (p *server) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// kill is SIGKILL.
func (p *server) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// signal sends sig.
func (p *server) signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// wait waits for the exit and returns its code.
func (p *server) wait() (int, error) {
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.kill()
		return 0, fmt.Errorf("counterd doesn't end\n%s", p.output())
	}
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) {
		return 0, p.err
	}
	return p.cmd.ProcessState.ExitCode(), nil
}
