// Package deploy tests what is shipped for running counterd: the image and the
// compose file, built and run on a real Docker engine.
package deploy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// images are the base images to build on: by environment variable, the ones of
// offline-images.sh, or the defaults of Dockerfile and compose.yaml.
type images struct{ golang, postgres, haproxy string }

// engine skips the test, loudly, where there is nothing to test with.
func engine(t *testing.T) images {
	t.Helper()
	if testing.Short() {
		t.Skip("NOT TESTED, -short: Dockerfile and compose.yaml")
	}
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED, no Docker engine answers: Dockerfile and compose.yaml (%v: %s)", err, firstLine(out))
	}
	base := images{
		golang:   image("GO_IMAGE", "counterd-offline/golang", "golang:1.26"),
		postgres: image("POSTGRES_IMAGE", "counterd-offline/postgres", "postgres:17"),
		haproxy:  image("HAPROXY_IMAGE", "counterd-offline/haproxy", "haproxy:3.2"),
	}
	for _, name := range []string{base.golang, base.postgres, base.haproxy} {
		if present(name) {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if out, err := exec.CommandContext(ctx, "docker", "pull", "-q", name).CombinedOutput(); err != nil {
			t.Skipf("NOT TESTED, base image %s is neither here nor to be had (deploy/offline-images.sh makes it): Dockerfile and compose.yaml (%v: %s)", name, err, firstLine(out))
		}
	}
	return base
}

func image(env, offline, def string) string {
	if v := os.Getenv(env); v != "" {
		return v
	}
	if present(offline) {
		return offline
	}
	return def
}

func present(image string) bool {
	return exec.Command("docker", "image", "inspect", image).Run() == nil
}

func firstLine(out []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return line
}

// run runs a program in the repository's root and returns what it printed.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := try(env, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 9*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, _ = filepath.Abs("..")
	cmd.Env = append(os.Environ(), env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out) + stderr.String(), err
	}
	return strings.TrimSpace(string(out)), nil
}

var built struct {
	once sync.Once
	err  error
	out  string
}

// server returns the image of counterd, built once.
func server(t *testing.T, base images) string {
	t.Helper()
	tag := "counterd-test:" + strconv.Itoa(os.Getpid())
	built.once.Do(func() {
		args := []string{"build", "--build-arg", "GO_IMAGE=" + base.golang, "--build-arg", "VERSION=v0-test", "-t", tag}
		if p := os.Getenv("GOPROXY"); p != "" {
			args = append(args, "--build-arg", "GOPROXY="+p)
		}
		built.out, built.err = try(nil, "docker", append(args, ".")...)
	})
	if built.err != nil {
		t.Fatalf("docker build: %v\n%s", built.err, built.out)
	}
	return tag
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = exec.Command("docker", "rmi", "-f", "counterd-test:"+strconv.Itoa(os.Getpid())).Run()
	os.Exit(code)
}

func ask(addr, path string) (int64, error) {
	c := http.Client{Timeout: 10 * time.Second}
	// A POST is never repeated by net/http.
	method := http.MethodPost
	if path == "/count" {
		method = http.MethodGet
	}
	req, err := http.NewRequest(method, "http://"+addr+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", resp.Status, body)
	}
	return strconv.ParseInt(strings.TrimSpace(string(body)), 10, 64)
}

func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > 90*time.Second {
			t.Fatalf("not in 90 s: %s", what)
		}
	}
}

// port is the loopback address of a container's published port 8080.
func port(published string) string {
	_, p, _ := strings.Cut(firstLine([]byte(published)), ":")
	return "127.0.0.1:" + p[strings.LastIndexByte(p, ':')+1:]
}

// TestImageKeepsItsCount runs the image as it is: file store in the volume, unprivileged,
// healthy, stopped in order, and started again with its count.
func TestImageKeepsItsCount(t *testing.T) {
	tag := server(t, engine(t))
	size, err := strconv.Atoi(run(t, nil, "docker", "image", "inspect", "-f", "{{.Size}}", tag))
	if err != nil || size > 40<<20 {
		t.Errorf("the image has %d bytes (%v); it should be small", size, err)
	}
	if got := run(t, nil, "docker", "run", "--rm", tag, "--version"); !strings.HasPrefix(got, "counterd v0-test, ") {
		t.Errorf("--version in the image: %s", got)
	}
	if got := run(t, nil, "docker", "image", "inspect", "-f", `{{index .Config.Labels "org.opencontainers.image.version"}} {{.Config.Volumes}}`, tag); got != "v0-test map[]" {
		t.Errorf("label of the version and volumes: %s", got)
	}
	id := run(t, nil, "docker", "run", "-d", "-p", "127.0.0.1::8080", tag)
	t.Cleanup(func() { _, _ = try(nil, "docker", "rm", "-fv", id) })
	inspect := func(format string) string { return run(t, nil, "docker", "inspect", "-f", format, id) }

	await(t, "healthy", func() bool { return inspect("{{.State.Health.Status}}") == "healthy" })
	if user := inspect("{{.Config.User}}"); user == "" || strings.HasPrefix(user, "0") {
		t.Errorf("it runs as %q", user)
	}
	addr := port(run(t, nil, "docker", "port", id, "8080"))
	for want := int64(1); want <= 3; want++ {
		if got, err := ask(addr, "/"); got != want || err != nil {
			t.Fatalf("hit %d: %d, %v", want, got, err)
		}
	}
	run(t, nil, "docker", "stop", "-t", "30", id)
	if code := inspect("{{.State.ExitCode}}"); code != "0" {
		t.Errorf("docker stop: exit code %s", code)
	}
	run(t, nil, "docker", "start", id)
	addr = port(run(t, nil, "docker", "port", id, "8080"))
	await(t, "the count is there after a restart", func() bool { got, err := ask(addr, "/count"); return err == nil && got == 3 })
}

// hitters are clients that hit as fast as they are answered.
type hitters struct {
	wg   sync.WaitGroup
	stop context.CancelFunc

	mu      sync.Mutex
	seen    map[int64]bool
	failed  int
	lastErr error
}

const clients = 10

func hit(t *testing.T, addr string) *hitters {
	ctx, cancel := context.WithCancel(t.Context())
	h := &hitters{stop: cancel, seen: map[int64]bool{}}
	for range clients {
		h.wg.Go(func() {
			for ctx.Err() == nil {
				n, err := ask(addr, "/")
				if err != nil {
					time.Sleep(20 * time.Millisecond) // the balancer refuses fast
				}
				h.mu.Lock()
				switch {
				case err != nil:
					h.failed++
					h.lastErr = err
				case h.seen[n]:
					t.Errorf("number %d was answered twice", n)
				default:
					h.seen[n] = true
				}
				h.mu.Unlock()
			}
		})
	}
	return h
}

func (h *hitters) answered() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return int64(len(h.seen))
}

// more waits until hits are answered.
func (h *hitters) more(t *testing.T) {
	t.Helper()
	before := h.answered()
	await(t, "more answers", func() bool { return h.answered() > before+200 })
}

// end stops the clients and returns how many hits were answered, and failed.
func (h *hitters) end() (answered, failed int64) {
	h.stop()
	h.wg.Wait()
	return int64(len(h.seen)), int64(h.failed)
}

// composed is a project of docker compose.
type composed struct {
	t       *testing.T
	command []string
	env     []string
	name    string
	before  map[string]bool // volumes
}

// project prepares the compose file of the image; at the end of the test nothing
// is left of it.
func project(t *testing.T, base images, file string) *composed {
	t.Helper()
	p := &composed{t: t, command: []string{"docker", "compose"}, name: fmt.Sprintf("counterd-test-%d-%s", os.Getpid(), strings.ToLower(t.Name()))}
	if _, err := try(nil, "docker", "compose", "version"); err != nil {
		p.command = []string{"docker-compose"}
		if _, err := exec.LookPath(p.command[0]); err != nil {
			t.Skipf("NOT TESTED, neither docker compose nor docker-compose is installed: %s", file)
		}
	}
	p.command = append(p.command, "-f", file)
	p.env = []string{
		"COUNTERD_IMAGE=" + server(t, base), "GO_IMAGE=" + base.golang,
		"POSTGRES_IMAGE=" + base.postgres, "HAPROXY_IMAGE=" + base.haproxy,
		"PORT=0", "ADMIN_PORT=0", "COMPOSE_PROJECT_NAME=" + p.name,
	}
	p.before = volumes(t)
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := try(p.env, p.command[0], p.args("logs", "--tail", "30")...)
			t.Log(out)
		}
		p.do("down", "-v", "-t", "5")
		p.left()
	})
	return p
}

func (p *composed) args(args ...string) []string { return slices.Concat(p.command[1:], args) }

func (p *composed) do(args ...string) string {
	p.t.Helper()
	return run(p.t, p.env, p.command[0], p.args(args...)...)
}

// volumes are the names of all volumes.
func volumes(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, name := range strings.Fields(run(t, nil, "docker", "volume", "ls", "-q")) {
		names[name] = true
	}
	return names
}

// left reports what the project left behind, but for the volumes of its own
// that are expected.
func (p *composed) left(expected ...string) {
	p.t.Helper()
	nameless := regexp.MustCompile(`^[0-9a-f]{64}$`)
	for name := range volumes(p.t) {
		if !strings.HasPrefix(name, p.name+"_") && !nameless.MatchString(name) {
			continue // another project's
		}
		if !p.before[name] && !slices.Contains(expected, strings.TrimPrefix(name, p.name+"_")) {
			p.t.Errorf("the volume %s is left", name)
		}
	}
	label := "label=com.docker.compose.project=" + p.name
	for _, args := range [][]string{{"container", "ls", "-aq"}, {"network", "ls", "-q"}} {
		if out := run(p.t, nil, "docker", append(args, "--filter", label)...); out != "" {
			p.t.Errorf("a %s is left: %s", args[0], out)
		}
	}
}

// TestOneServerComesAndGoes: the compose file of one server comes up and goes twice, keeps
// its count, and leaves nothing else.
func TestOneServerComesAndGoes(t *testing.T) {
	p := project(t, engine(t), "deploy/docker/embedded.yaml")
	for want := int64(1); want <= 2; want++ {
		p.do("up", "-d")
		await(t, "healthy", func() bool { return strings.Contains(p.do("ps"), "(healthy)") })
		if got, err := ask(port(p.do("port", "counterd", "8080")), "/"); got != want || err != nil {
			t.Errorf("the hit in life %d: %d, %v", want, got, err)
		}
		p.do("down", "-t", "30")
		p.left("count")
	}
}

// TestReplicasBehindABalancer runs the whole: database, two replicas, load balancer. Under load
// the replicas are stopped in order, one after the other: no hit that was
// counted goes unanswered. Then the database crashes, and counting resumes. Taken
// down and up again it goes on from where it was.
func TestReplicasBehindABalancer(t *testing.T) {
	p := project(t, engine(t), "compose.yaml")
	do := p.do
	do("up", "-d")
	addr := port(do("port", "balancer", "8080"))
	await(t, "a first answer", func() bool { _, err := ask(addr, "/count"); return err == nil })
	count := func() int64 {
		t.Helper()
		n, err := ask(addr, "/count")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// Both replicas must be in use before one of them goes.
	ready := func() bool { return strings.Count(do("ps"), "(healthy)") >= 3 }
	await(t, "both replicas healthy", ready)

	h := hit(t, addr)
	h.more(t)
	do("stop", "-t", "30", "counterd-1")
	h.more(t)
	do("start", "counterd-1")
	await(t, "both replicas healthy again", ready)
	h.more(t)
	do("stop", "-t", "30", "counterd-2")
	h.more(t)
	answered, failed := h.end()
	first := count()
	if first != answered {
		t.Errorf("count %d, answered %d: a counted hit went unanswered in a stop in order", first, answered)
	}
	// A request may be on its way into a connection that is just being closed.
	if failed > 2*clients {
		t.Errorf("%d requests failed in two stops in order, the last with: %v", failed, h.lastErr)
	}
	t.Logf("stops in order: %d hits answered, %d requests came into a closing connection", answered, failed)

	h = hit(t, addr)
	h.more(t)
	do("kill", "-s", "KILL", "postgres")
	do("up", "-d", "--no-deps", "postgres")
	h.more(t)
	answered, failed = h.end()
	if n := count() - first; n < answered || n > answered+failed {
		t.Errorf("%d hits counted, %d answered, %d failed in the crash", n, answered, failed)
	}
	t.Logf("crash of the database: %d hits answered, %d failed", answered, failed)

	want := count()
	do("down", "-t", "30")
	p.left("count")
	do("up", "-d")
	addr = port(do("port", "balancer", "8080"))
	await(t, "a first answer in the second life", func() bool { _, err := ask(addr, "/count"); return err == nil })
	if got := count(); got != want {
		t.Errorf("after down and up the count is %d, was %d", got, want)
	}
}
