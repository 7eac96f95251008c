package contender

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// dockerImage holds the lab's static programs and nothing else, so that it can
// be made without a network.
const dockerImage = "counterd-bench:local"

// Docker runs contenders in containers as the seed did: default bridge
// network, a published port, no limits.
type Docker struct {
	started int
}

// NewDocker makes the image out of the programs in bin. The error says why
// nothing can be measured in containers here.
func NewDocker(ctx context.Context, bin string) (*Docker, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("docker is not installed")
	}
	var image bytes.Buffer
	if err := archive(&image, bin, "counterd", "fasthttp"); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "docker", "import", "-", dockerImage)
	cmd.Stdin = &image
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("docker import: %w: %s", err, lastLine(out))
	}
	return &Docker{}, nil
}

func archive(to io.Writer, bin string, programs ...string) error {
	w := tar.NewWriter(to)
	// A container without /tmp and /data would have nowhere to write.
	for _, dir := range []string{"tmp/", "data/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return err
		}
	}
	for _, name := range programs {
		b, err := os.ReadFile(filepath.Join(bin, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Close()
}

// inContainer rewrites paths below the data directory to where it is mounted.
func inContainer(e Env, args []string) []string {
	inside := make([]string, len(args))
	for i, a := range args {
		inside[i] = strings.ReplaceAll(a, e.Data, "/data")
	}
	return inside
}

func (d *Docker) start(ctx context.Context, e Env, args []string) (*Instance, error) {
	d.started++
	name := fmt.Sprintf("counterd-bench-%d-%d", os.Getpid(), d.started)
	run := append([]string{"run", "--detach", "--name", name, "--publish", "127.0.0.1::8080",
		"--volume", e.Data + ":/data", "--ulimit", "nofile=20000:20000", dockerImage}, args...)
	stop := func() { _, _ = docker(context.Background(), "rm", "--force", "--volumes", name) }
	if _, err := docker(ctx, run...); err != nil {
		stop() // it may have been made before we were stopped
		return nil, err
	}
	in, err := d.inspect(ctx, name, e.Data)
	if err != nil {
		logs, _ := docker(ctx, "logs", name)
		stop()
		return nil, fmt.Errorf("%w\n%s", err, logs)
	}
	in.Stop = stop
	return in, nil
}

func (d *Docker) inspect(ctx context.Context, name, dir string) (*Instance, error) {
	pid, err := docker(ctx, "inspect", "--format", "{{.State.Pid}}", name)
	if err != nil {
		return nil, err
	}
	root, err := strconv.Atoi(pid)
	if err != nil || root == 0 {
		return nil, fmt.Errorf("the container has no process (pid %q)", pid)
	}
	addr, err := docker(ctx, "port", name, "8080/tcp")
	if err != nil {
		return nil, err
	}
	in := httpAt(addr, dir)
	in.Servers = []int{root}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := in.Count(ctx)
		if err == nil {
			return in, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("the container does not answer: %w", err)
		}
	}
}

func docker(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("docker %s: %w: %s", args[0], err, lastLine(out))
	}
	return text, nil
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
