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

// TestReleaseIsReproducible builds the archive of this platform twice, from two directories,
// and compares every byte. scripts/release-test.sh does so with packages.
func TestReleaseIsReproducible(t *testing.T) {
	t.Parallel()
	linuxOnly(t) // it takes GNU tar
	target := runtime.GOOS + "/" + runtime.GOARCH
	var first map[string]string
	for i, dir := range []string{"a", "a-longer/path"} {
		dir = filepath.Join(t.TempDir(), dir)
		for _, part := range []string{"go.mod", "go.sum", "cmd", "admin", "engine", "counter", "httpparse", "internal", "scripts", "deploy", "docs", "LICENSE", "README.md", "CHANGELOG.md"} {
			copyTree(t, filepath.Join(repository, part), filepath.Join(dir, part))
		}
		cmd := exec.Command("scripts/release.sh", "out")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "RELEASE_TARGETS="+target, "RELEASE_PACKAGES=no", "VERSION=v1.2.3",
			"SOURCE_DATE_EPOCH=1700000000", "GOFLAGS=-buildvcs=false", fmt.Sprint("GODEBUG=x=", i))
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

	name := "counterd-1.2.3-" + strings.ReplaceAll(target, "/", "-")
	if strings.Count(first["SHA256SUMS"], "\n") != len(first)-1 {
		t.Errorf("not all files have a checksum:\n%s", first["SHA256SUMS"])
	}
	released := t.TempDir()
	tar := exec.Command("tar", "-xz", "--strip-components=1", "-C", released)
	tar.Stdin = strings.NewReader(first[name+".tar.gz"])
	if out, err := tar.CombinedOutput(); err != nil {
		t.Fatalf("%s.tar.gz among %v: %v %s", name, slices.Sorted(maps.Keys(first)), err, out)
	}
	files := readTree(t, released)
	for _, want := range []string{"counterd", "LICENSE", "LICENSES-OF-LIBRARIES", "README.md", "CHANGELOG.md", "docs/operations.md",
		"completions/counterd.bash", "completions/_counterd", "completions/counterd.fish",
		"man/counterd.1", "man/counterd-health.1", "systemd/counterd.service"} {
		if files[want] == "" {
			t.Errorf("no %s in %v", want, slices.Sorted(maps.Keys(files)))
		}
	}
	checkManual(t, files["man/counterd.1"])
	binary := filepath.Join(released, "counterd")
	if out, err := exec.Command(binary, "--version").Output(); err != nil || !bytes.HasPrefix(out, []byte("counterd v1.2.3, ")) {
		t.Errorf("the released binary: %s, %v", out, err)
	}
	// A static binary has no interpreter.
	if strings.Contains(files["counterd"], "ld-linux") {
		t.Error("the binary is not static")
	}
}

// checkManual: the man page has every flag, with its variable and a value that
// can be typed, and what a manual page of a server should tell.
func checkManual(t *testing.T, page string) {
	t.Helper()
	page = strings.NewReplacer(`\fB`, "", `\fI`, "", `\fP`, "", `\-`, "-", `\_`, "_").Replace(page)
	var c config
	for _, o := range options(&c) {
		want := "--" + o.name
		if o.value.kind != "" {
			want += "=" + o.value.kind + "\n"
		}
		if !strings.Contains(page, want) || !strings.Contains(page, o.env()) {
			t.Errorf("the man page lacks %q with %s", want, o.env())
		}
	}
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLE", "EXIT STATUS", "ENVIRONMENT", "FILES", "SIGNALS", "SEE ALSO"} {
		if strings.Count(page, "\n.SH "+section+"\n") != 1 {
			t.Errorf("the man page hasn't one section %s", section)
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

// TestSystemdAcceptsTheUnits lets systemd judge the units.
func TestSystemdAcceptsTheUnits(t *testing.T) {
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
	out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", units[0]).CombinedOutput()
	if err != nil {
		t.Errorf("more exposed than 1.5 of 10: %v\n%s", err, out)
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
