package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const repository = "../.."

// TestRelease builds a release of this platform twice, from two directories,
// and compares every byte.
func TestRelease(t *testing.T) {
	t.Parallel()
	target := runtime.GOOS + "/" + runtime.GOARCH
	source := filepath.Join(t.TempDir(), "source")
	for _, part := range []string{"go.mod", "go.sum", "cmd", "admin", "engine", "counter", "httpparse", "scripts"} {
		copyTree(t, filepath.Join(repository, part), filepath.Join(source, part))
	}
	var first map[string]string
	for i, dir := range []string{"a", "a-longer/path"} {
		dir = filepath.Join(t.TempDir(), dir)
		copyTree(t, source, dir)
		cmd := exec.Command("scripts/release.sh", "out")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RELEASE_TARGETS="+target, "SOURCE_DATE_EPOCH=1700000000", "GOFLAGS=-buildvcs=false", fmt.Sprint("GODEBUG=x=", i))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		files := readTree(t, filepath.Join(dir, "out"))
		if first == nil {
			first = files
			continue
		}
		for name := range first {
			if files[name] != first[name] {
				t.Errorf("%s differs between two builds", name)
			}
		}
		if len(files) != len(first) {
			t.Errorf("%d files, then %d", len(first), len(files))
		}
	}

	name := "counterd-" + strings.ReplaceAll(target, "/", "-")
	want := []string{"SHA256SUMS", name, "completions/counterd.bash", "completions/_counterd", "completions/counterd.fish", "man/counterd.1", "man/counterd-health.1"}
	for _, name := range want {
		if first[name] == "" {
			t.Errorf("no %s in %v", name, slices.Sorted(maps.Keys(first)))
		}
	}
	if strings.Count(first["SHA256SUMS"], "\n") != len(first)-1 {
		t.Errorf("not all files have a checksum:\n%s", first["SHA256SUMS"])
	}
	var c config
	for _, o := range options(&c) {
		if !strings.Contains(first["man/counterd.1"], o.name) || !strings.Contains(first["man/counterd.1"], o.env()) {
			t.Errorf("the man page lacks --%s", o.name)
		}
	}
	release := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(release, []byte(first[name]), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(release, "--version").Output(); err != nil || !bytes.HasPrefix(out, []byte("counterd ")) {
		t.Errorf("the released binary: %s, %v", out, err)
	}
	if runtime.GOOS == "linux" {
		// A static binary has no interpreter.
		if bytes.Contains([]byte(first[name]), []byte("ld-linux")) {
			t.Error("the binary is not static")
		}
	}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-R", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// readTree returns the content of every file below dir.
func readTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	root := os.DirFS(dir)
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		files[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestUnits lets systemd judge the units.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") != "" && runtime.GOOS == "linux" {
			t.Fatal("no systemd-analyze, and CI must check the units")
		}
		t.Skip("no systemd-analyze")
	}
	dir := t.TempDir()
	var units []string
	for _, name := range []string{"counterd.service", "counterd.socket"} {
		// verify wants to find the program.
		unit := strings.ReplaceAll(readFile(t, "deploy/systemd/"+name), "/usr/bin/counterd", binary)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		units = append(units, path)
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=20", "--no-pager", units[0]).CombinedOutput()
	if err != nil {
		t.Errorf("more exposed than 2.0 of 10: %v\n%s", err, out)
	}
}

// TestDashboardsKnowTheMetrics: every name in the dashboard, the alerts and the
// manual is one that counterd has, and the manual has them all.
func TestDashboardsKnowTheMetrics(t *testing.T) {
	t.Parallel()
	p := begin(t)
	c := dial(t, p.listen)
	fmt.Fprint(c, "no request\r\n\r\n")
	if _, err := io.ReadAll(c); err != nil { // so that there is a refused request
		t.Fatal(err)
	}
	_, body := get(t, "http://"+p.admin+"/metrics")
	known := map[string]bool{ // PostgreSQL's and those of many counters, not in this process
		"counterd_store_retries_total": true, "counterd_store_ambiguous_total": true,
		"counterd_counters": true, "counterd_counters_max": true, "counterd_counters_refused_total": true,
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (counterd_\w+) `).FindAllStringSubmatch(body, -1) {
		known[m[1]] = true
	}
	family := regexp.MustCompile(`_(bucket|sum|count)$`)
	named := func(path string) map[string]bool {
		names := map[string]bool{}
		for _, name := range regexp.MustCompile(`\bcounterd_[a-z_]+`).FindAllString(readFile(t, path), -1) {
			if base := family.ReplaceAllString(name, ""); known[base] {
				name = base
			}
			names[name] = true
			if !known[name] {
				t.Errorf("%s names %s, which doesn't exist", path, name)
			}
		}
		return names
	}
	dashboard := "deploy/grafana/counterd.json"
	if !json.Valid([]byte(readFile(t, dashboard))) {
		t.Errorf("%s is no JSON", dashboard)
	}
	named(dashboard)
	named("deploy/prometheus/counterd.rules.yml")
	manual := named("docs/operations.md")
	for name := range known {
		if !manual[name] {
			t.Errorf("docs/operations.md doesn't explain %s", name)
		}
	}
}
