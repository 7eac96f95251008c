package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/counterd/counterd/bench/proc"
	"github.com/counterd/counterd/bench/stat"
)

// Environment is what the figures depend on.
type Environment struct {
	OS        string `json:"os"`
	Kernel    string `json:"kernel"`
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	MemoryMiB int64  `json:"memory_mib"`
	Virtual   bool   `json:"virtual_machine"`
	// DataFS is the file system below the durable stores.
	DataFS string `json:"data_filesystem"`
	// Limits and kernel settings that change what is measured.
	Limits map[string]string `json:"limits"`
	// Versions of the programs taking part.
	Versions map[string]string `json:"versions"`
	Commit   string            `json:"commit"`
	Modified bool              `json:"modified,omitempty"` // not just the commit's files
	// Busy is the share of the machine that others used before the start and
	// after the end.
	Busy      float64 `json:"busy_before"`
	BusyAfter float64 `json:"busy_after"`
}

// DescribeEnvironment looks at the machine. It takes a second, to see whether
// the machine is quiet.
func DescribeEnvironment(ctx context.Context, root, data string) Environment {
	e := Environment{
		OS:       osName(),
		Kernel:   output(ctx, "uname", "-sr"),
		CPU:      cpuName(),
		Cores:    len(proc.AllCores()),
		Virtual:  strings.Contains(readFile("/proc/cpuinfo"), " hypervisor"),
		DataFS:   fileSystem(ctx, data),
		Commit:   output(ctx, "git", "-C", root, "rev-parse", "HEAD"),
		Modified: output(ctx, "git", "-C", root, "status", "--porcelain", "--untracked-files=no") != "",
		Limits: map[string]string{
			"open files":           output(ctx, "sh", "-c", "ulimit -n"),
			"somaxconn":            readFile("/proc/sys/net/core/somaxconn"),
			"tcp_tw_reuse":         readFile("/proc/sys/net/ipv4/tcp_tw_reuse"),
			"local ports":          strings.Join(strings.Fields(readFile("/proc/sys/net/ipv4/ip_local_port_range")), "–"),
			"connections tracked":  readFile("/proc/sys/net/netfilter/nf_conntrack_max"),
			"transparent hugepage": readFile("/sys/kernel/mm/transparent_hugepage/enabled"),
			"cpu governor":         readFile("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
		},
		Versions: versions(ctx),
	}
	var kib int64
	for line := range strings.Lines(readFile("/proc/meminfo")) {
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			e.MemoryMiB = kib >> 10
		}
	}
	for name, value := range e.Limits {
		if value == "" {
			delete(e.Limits, name)
		}
	}
	e.Busy = BusyShare(ctx, time.Second)
	return e
}

// BusyShare is the share of the machine that is used while the lab looks on.
func BusyShare(ctx context.Context, over time.Duration) float64 {
	m, err := lookFor(ctx, over)
	if err != nil {
		return 0
	}
	return stat.Round(busyShareOf([]machine{m}), 3)
}

// versions asks each program in the words it understands.
func versions(ctx context.Context) map[string]string {
	v := map[string]string{"go": runtime.Version()}
	for name, cmd := range map[string][]string{
		"wrk":    {"sh", "-c", "wrk -v 2>&1 | head -1 | cut -d' ' -f1-2"},
		"redis":  {"redis-server", "--version"},
		"nginx":  {"sh", "-c", "nginx -v 2>&1"},
		"gcc":    {"sh", "-c", "gcc --version | head -1"},
		"docker": {"docker", "--version"},
		"python": {"/usr/bin/python3", "--version"},
		"aiohttp, asyncpg, uvloop": {"/usr/bin/python3", "-c",
			"import aiohttp, asyncpg, uvloop; print(aiohttp.__version__, asyncpg.__version__, uvloop.__version__)"},
		"pgbench": {"pgbench", "--version"},
	} {
		if _, err := exec.LookPath(cmd[0]); err != nil {
			continue
		}
		if out := output(ctx, cmd[0], cmd[1:]...); out != "" && !strings.Contains(out, "not found") {
			v[name] = out
		}
	}
	return v
}

func output(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func readFile(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}

// fileSystem names the type of the file system that dir lies on.
func fileSystem(ctx context.Context, dir string) string {
	out := output(ctx, "df", "--output=fstype", dir)
	return strings.TrimSpace(out[strings.LastIndexByte(out, '\n')+1:])
}

func osName() string {
	for line := range strings.Lines(readFile("/etc/os-release")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return runtime.GOOS
}

func cpuName() string {
	for line := range strings.Lines(readFile("/proc/cpuinfo")) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// DataDir makes a directory on a real disk for the durable stores: the
// system's temporary directory, or fallback when that lives in memory.
func DataDir(ctx context.Context, fallback string) (string, error) {
	parent := os.TempDir()
	if fs := fileSystem(ctx, parent); fs == "tmpfs" || fs == "ramfs" {
		parent = fallback
	}
	dir, err := os.MkdirTemp(parent, "counterd-bench-")
	if err != nil {
		return "", fmt.Errorf("make a directory for the stores: %w", err)
	}
	// PostgreSQL runs as another user below it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	return filepath.Clean(dir), nil
}
