package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/counterd/counterd/internal/proctest"
	"github.com/counterd/counterd/internal/race"
)

// crashes are the ways in which Go's runtime ends a process.
var crashes = map[string]func(){
	"panic":              func() { panic("on purpose") },
	"panic elsewhere":    func() { go panic("on purpose"); select {} },
	"nil pointer":        func() { var p *int; *p = 1 },
	"fatal error":        func() { new(sync.Mutex).Unlock() },
	"stack overflow":     func() { var f func(int) int; f = func(n int) int { return f(n+1) + 1 }; f(0) },
	"out of memory":      func() { grow() },
	"watchdog (SIGABRT)": func() { _ = syscall.Kill(os.Getpid(), syscall.SIGABRT); select {} },
}

var memory [][]byte

// grow takes memory until there is none.
func grow() {
	for {
		block := make([]byte, 64<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		memory = append(memory, block)
	}
}

// TestCrashIsNoWrongConfiguration: however the process crashes, its end is none for
// which the unit forbids another try. Only a wrong configuration's is.
func TestCrashIsNoWrongConfiguration(t *testing.T) {
	t.Parallel()
	unit, err := os.ReadFile("../../deploy/systemd/counterd.service")
	if err != nil {
		t.Fatal(err)
	}
	setting := func(name string) string {
		m := regexp.MustCompile(`(?m)^` + name + `=(.*)$`).FindSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", name)
		}
		return string(m[1])
	}
	if got := setting("Restart"); got != "on-failure" {
		t.Errorf("Restart=%s: would it be tried again after a signal?", got)
	}
	if got := setting("RestartPreventExitStatus"); got != "2" {
		t.Errorf("RestartPreventExitStatus=%s, want the code of a wrong configuration", got)
	}
	if got := setting("StartLimitIntervalSec"); got != "0" {
		t.Errorf("StartLimitIntervalSec=%s: a few crashes in a row would be the end", got)
	}
	if r := run(t, nil, "--no-such-flag"); r.code != 2 {
		t.Errorf("a wrong configuration ends with %d", r.code)
	}

	wantAbort := func(t *testing.T, cmd *exec.Cmd) {
		t.Helper()
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Fatal("it didn't crash")
		}
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if !status.Signaled() || status.Signal() != syscall.SIGABRT {
			t.Errorf("it ended with %v, want SIGABRT:\n%.2000s", cmd.ProcessState, out)
		}
		if !strings.Contains(string(out), "goroutine ") {
			t.Errorf("it doesn't say where it was:\n%.2000s", out)
		}
	}
	for name := range crashes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "out of memory" && race.Enabled {
				t.Skip("the race detector needs more address space than a limit leaves")
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c 0; ulimit -v 2000000; exec "$0"`, os.Args[0])
			if race.Enabled {
				cmd = exec.CommandContext(t.Context(), "sh", "-c", `ulimit -c 0; exec "$0"`, os.Args[0])
			}
			cmd.Env = proctest.Env("COUNTERD_TEST_CRASH=" + name)
			wantAbort(t, cmd)
		})
	}
	t.Run("counterd itself", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sh", "-c", `ulimit -c 0; "$0" --store=mem: --listen=127.0.0.1:0 --admin= 2>"$1" & until grep -q listening "$1"; do sleep 0.01; done; kill -ABRT $!; wait $!; test $? = 134; echo $? >>"$1"; cat "$1"; exit 1`,
			binary, filepath.Join(t.TempDir(), "log"))
		cmd.Env = proctest.Env()
		out, _ := cmd.CombinedOutput() // it says how it went
		if !strings.HasSuffix(string(out), "\n0\n") || !strings.Contains(string(out), "SIGABRT") {
			t.Errorf("it didn't end by SIGABRT:\n%.2000s", out)
		}
	})
}
