package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/counterd/counterd/internal/pgtest"
	"github.com/counterd/counterd/internal/proctest"
)

// block is a fenced block of a document: console, with commands after "$ " and
// what they print, or sh, with commands alone.
type block struct {
	lang string
	text string
}

func blocks(text string) []block {
	var found []block
	for _, m := range regexp.MustCompile("(?ms)^```(sh|console)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		found = append(found, block{m[1], m[2]})
	}
	return found
}

// script turns blocks into one bash script that fails where a command fails or
// prints something else than the document says.
func script(blocks []block) string {
	var b strings.Builder
	for _, block := range blocks {
		if block.lang == "sh" {
			for _, line := range strings.Split(strings.TrimSpace(block.text), "\n") {
				fmt.Fprintf(&b, "run %s ''\n", quote(line))
			}
			continue
		}
		for _, command := range strings.Split("\n"+block.text, "\n$ ")[1:] {
			command, prints, _ := strings.Cut(command, "\n")
			fmt.Fprintf(&b, "run %s %s\n", quote(command), quote(strings.TrimSpace(prints)))
		}
	}
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// session runs commands in one shell. After one that stays in the background
// it waits until that listens, or waits for another to go.
const session = `
set -u
run() {
	printf '$ %s\n' "$1"
	: >"$LOGS/log"
	if [[ $1 == *'&' ]]; then
		eval "$1" 2>>"$LOGS/log"
		until grep -q -e 'msg=listening' -e 'msg="waiting for another process' "$LOGS/log"; do
			kill -0 $! || { cat "$LOGS/log"; exit 1; }
			sleep 0.02
		done
		return
	fi
	eval "$1" >"$LOGS/out" 2>>"$LOGS/log" || { echo "it failed:"; cat "$LOGS/out" "$LOGS/log"; exit 1; }
	[[ -z $2 || $(<"$LOGS/out") == "$2" ]] || { echo "it printed $(<"$LOGS/out"), want $2"; exit 1; }
}
trap 'kill $(jobs -p) $(cat "$LOGS"/service.pid 2>/dev/null) 2>/dev/null; wait' EXIT
`

// systemctl plays systemd: it runs the unit's program with the unit's
// environment.
const systemctl = `#!/bin/bash
set -eu
pid=$LOGS/service.pid
unit=$ROOT/etc/systemd/system/counterd.service
start() {
	set -a
	eval "$(sed -n 's/^Environment=//p' "$unit")"
	. "$(sed -n 's/^EnvironmentFile=-//p' "$unit")"
	set +a
	mkdir -p "$ROOT/var/lib/counterd"
	: >"$LOGS/service.log"
	setsid $(sed -n 's/^ExecStart=//p' "$unit") 2>>"$LOGS/service.log" >/dev/null </dev/null &
	echo $! >"$pid"
	until grep -q listening "$LOGS/service.log"; do kill -0 $!; sleep 0.02; done
}
stop() {
	kill "$(cat "$pid")"
	while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.02; done
	rm "$pid"
}
case "$*" in
daemon-reload) ;;
"enable --now counterd.socket counterd.service") start ;;
"restart counterd") stop; start ;;
"stop counterd.socket counterd.service") stop ;;
*) echo "systemctl $*: not played here" >&2; exit 1 ;;
esac
`

// TestOperationsManualWorks follows docs/operations.md from top to bottom, as a new
// user would, with paths below a directory of its own and free ports.
func TestOperationsManualWorks(t *testing.T) {
	linuxOnly(t)
	root, work, logs, bin := t.TempDir(), t.TempDir(), t.TempDir(), t.TempDir()
	units := filepath.Join(t.TempDir(), "systemd")
	copyTree(t, filepath.Join(repository, "deploy/systemd"), units)
	if err := os.WriteFile(filepath.Join(bin, "systemctl"), []byte(systemctl), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(bin, "counterd")); err != nil {
		t.Fatal(err)
	}
	// Units name absolute paths; so do commands.
	absolute := regexp.MustCompile(`(^|[\s=:>"-])(/(?:usr|etc|var)/)`)
	rooted := func(text string) string {
		for range 2 { // neighbours share a separator
			text = absolute.ReplaceAllString(text, "${1}"+root+"${2}")
		}
		return text
	}
	for _, name := range []string{"counterd.service", "counterd.default"} {
		path := filepath.Join(units, name)
		if err := os.WriteFile(path, []byte(rooted(readFile(t, "deploy/systemd/"+name))), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	release(t, work, units)

	text := script(blocks(readFile(t, "docs/operations.md")))
	text = strings.ReplaceAll(text, "postgres://counterd@db.example/counts", pgtest.New(t).URL())
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		lines = append(lines, rooted(strings.ReplaceAll(line, "run '", "run ' ")))
	}
	out := follow(t, strings.Join(lines, "\n"), work, []string{"ROOT=" + root, "LOGS=" + logs}, bin)
	if n := strings.Count(out, "\n$ ") + 1; n < 30 {
		t.Errorf("only %d commands were run:\n%s", n, out)
	}
}

// TestReadmeWorks follows what the first screen shows, once the server runs. Its
// other commands are this test and a build.
func TestReadmeWorks(t *testing.T) {
	linuxOnly(t)
	shown := []block{{"console", "$ counterd &\n"}}
	for _, b := range blocks(readFile(t, "README.md")) {
		if b.lang != "console" {
			continue
		}
		if strings.HasPrefix(b.text, "$ counterd ") { // instead of the one that runs
			shown = append(shown, block{"console", "$ kill %% && wait %%\n"})
		}
		shown = append(shown, b)
	}
	if len(shown) < 2 {
		t.Error("the README shows nothing to try")
	}
	bin := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(bin, "counterd")); err != nil {
		t.Fatal(err)
	}
	follow(t, script(shown), t.TempDir(), []string{"LOGS=" + t.TempDir()}, bin)
}

// follow runs a script of a document in dir, with free ports for 8080 and 8081
// and programs from bin, and returns what it printed.
func follow(t *testing.T, text, dir string, env []string, bin string) string {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("no curl: scripts/test.sh installs it")
	}
	listen, admin := fmt.Sprint(proctest.FreePort(t)), fmt.Sprint(proctest.FreePort(t))
	// Not where the digits are a part of a temporary directory's name.
	ports := strings.NewReplacer("8080", listen, "8081", admin)
	text = regexp.MustCompile(`\b808[01]\b`).ReplaceAllStringFunc(text, ports.Replace)
	cmd := exec.Command("bash", "-c", session+text)
	cmd.Dir = dir
	cmd.Env = proctest.Env(append(env, "COUNTERD_LISTEN=127.0.0.1:"+listen, "COUNTERD_ADMIN=127.0.0.1:"+admin)...)
	cmd.Env[0] = "PATH=" + bin + ":" + os.Getenv("PATH")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() }) // its output says where it stood
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// release packs an archive as scripts/release.sh does, without building it
// again, of the units in deploy/systemd.
func release(t *testing.T, dir, units string) {
	t.Helper()
	const name = "counterd-1.2.3-linux-amd64"
	tree := filepath.Join(t.TempDir(), name)
	for _, d := range []string{"man", "completions"} {
		if err := os.MkdirAll(filepath.Join(tree, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyTree(t, binary, filepath.Join(tree, "counterd"))
	copyTree(t, units, filepath.Join(tree, "systemd"))
	for _, name := range []string{"man/counterd.1", "completions/counterd.bash"} {
		if err := os.WriteFile(filepath.Join(tree, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("tar", "-C", filepath.Dir(tree), "-czf", filepath.Join(dir, name+".tar.gz"), name).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestLinksLeadSomewhere: what the documents link to in this repository exists.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md", "*/README.md", "deploy/*/README.md"} {
		found, err := filepath.Glob(filepath.Join(repository, pattern))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	if len(documents) < 5 {
		t.Errorf("only %q are documents", documents)
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]+))?\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			} else if m[2] != "" && !hasAnchor(t, target, m[2]) {
				t.Errorf("%s links to #%s, which %s doesn't have", path, m[2], target)
			}
		}
	}
}

// hasAnchor reports whether a document has a heading of which GitHub makes the
// anchor.
func hasAnchor(t *testing.T, path, anchor string) bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		words := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(words, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// TestEachAlertHasARunbook: each alert links to a paragraph that says what to do, and each of
// these is an alert's.
func TestEachAlertHasARunbook(t *testing.T) {
	t.Parallel()
	const manual = "docs/operations.md"
	_, runbook, _ := strings.Cut(readFile(t, manual), "\n## Alerts\n")
	runbook, _, _ = strings.Cut(runbook, "\n## ")
	rules := readFile(t, "deploy/prometheus/counterd.rules.yml")
	alerts := regexp.MustCompile(`(?s)- alert: (\w+)\n.*?annotations:\n +runbook_url: (\S+)\n`).FindAllStringSubmatch(rules, -1)
	if len(alerts) != strings.Count(rules, "- alert: ") || len(alerts) != strings.Count(runbook, "\n### ") {
		t.Errorf("%d alerts with a link, of %d; %d paragraphs", len(alerts), strings.Count(rules, "- alert: "), strings.Count(runbook, "\n### "))
	}
	for _, a := range alerts {
		if !strings.HasSuffix(a[2], "/"+manual+"#"+strings.ToLower(a[1])) || !strings.Contains(runbook, "\n### "+a[1]+"\n") {
			t.Errorf("%s links to %s, where it isn't explained", a[1], a[2])
		}
	}
}
