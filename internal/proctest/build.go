package proctest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var built struct {
	sync.Mutex
	dir   string
	paths map[string]string // by flags
}

// Build builds counterd as it is released but for flags, once for all tests of a
// package, and returns its path. It is there until Clean.
func Build(flags ...string) (string, error) {
	built.Lock()
	defer built.Unlock()
	key := strings.Join(flags, " ")
	if path, ok := built.paths[key]; ok {
		return path, nil
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "counterd-test")
		if err != nil {
			return "", err
		}
		built.dir, built.paths = dir, make(map[string]string)
	}
	path := filepath.Join(built.dir, fmt.Sprint(len(built.paths)), "counterd")
	args := append([]string{"build", "-trimpath", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "github.com/counterd/counterd/cmd/counterd")...)
	if !slices.Contains(flags, "-race") { // which needs cgo
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build counterd: %w\n%s", err, out)
	}
	built.paths[key] = path
	return path, nil
}

// Counterd is Build for a test that fails if it can't.
func Counterd(tb testing.TB, flags ...string) string {
	tb.Helper()
	path, err := Build(flags...)
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Clean removes what was built. It is for TestMain, after the tests.
func Clean() {
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	built.dir, built.paths = "", nil
}
