package crashtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/counter/dirstore"
	"github.com/counterd/counterd/counter/filestore"
	"github.com/counterd/counterd/internal/proctest"
)

func TestMain(m *testing.M) {
	code := m.Run()
	proctest.Clean()
	os.Exit(code)
}

// withBugs builds counterd with planted bugs, one of which a variable chooses.
const withBugs = "-tags=plantedbugs"

// mode is what is run.
type mode struct{ engine, per string }

func (m mode) String() string { return m.engine + ", per=" + m.per }

// site is where servers live one after the other: the same port, the same store.
type site struct {
	mode
	t      testing.TB
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
		t:      t,
		binary: binary,
		addr:   proctest.FreeAddr(t),
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

const patience = 20 * time.Second

// launch starts a process.
func (s *site) launch() *proctest.Process {
	args := append([]string{"--listen=" + s.addr, "--admin=" + s.admin, "--store=" + s.store(), "--engine=" + s.engine, "--per=" + s.per}, s.args...)
	cmd := proctest.Command(s.binary, args)
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Dir = filepath.Dir(s.path) // not a new one for each of many
	return proctest.Start(s.t, cmd)
}

// serve starts a process and waits until it listens.
func (s *site) serve() *proctest.Process {
	s.t.Helper()
	p := s.launch()
	p.Listening()
	return p
}
