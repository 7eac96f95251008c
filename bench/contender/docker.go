package contender

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// dockerImage is a skeleton: the machine's own /usr is mounted into each
// container, so that it can be made without a network, and the same Python and
// PostgreSQL run inside and outside.
const dockerImage = "counterd-bench:local"

// Docker runs contenders in containers as the seed did: default bridge network,
// a published port, no limits, and the database in a container of its own.
type Docker struct {
	started int
}

// NewDocker makes the image. The error says why nothing can be measured in
// containers here.
func NewDocker(ctx context.Context) (*Docker, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errors.New("docker is not installed")
	}
	image, err := skeleton()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "docker", "import", "-", dockerImage)
	cmd.Stdin = image
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("docker import: %w: %s", err, lastLine(out))
	}
	return &Docker{}, nil
}

// skeleton is a root directory whose programs and libraries are links into /usr,
// as on the machine itself.
func skeleton() (*bytes.Buffer, error) {
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, dir := range []string{"tmp", "usr", "etc", "bench", "peers"} {
		if err := w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o1777}); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"bin", "sbin", "lib", "lib64"} {
		target, err := os.Readlink("/" + name)
		if err != nil {
			continue // a machine without /lib64, for one
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}); err != nil {
			return nil, err
		}
	}
	return &image, w.Close()
}

// container is one that runs.
type container struct {
	name string
	pid  int
}

// run starts a container. Paths of the lab are the same inside as outside.
func (d *Docker) run(ctx context.Context, e Env, flags, args []string) (*container, error) {
	d.started++
	c := &container{name: fmt.Sprintf("counterd-bench-%d-%d", os.Getpid(), d.started)}
	all := []string{"run", "--detach", "--name", c.name, "--ulimit", "nofile=20000:20000",
		"--volume", "/usr:/usr:ro", "--volume", "/etc/passwd:/etc/passwd:ro"}
	for _, dir := range []string{e.Bin, e.Peers} {
		if dir != "" {
			all = append(all, "--volume", dir+":"+dir+":ro")
		}
	}
	all = append(all, "--volume", e.Data+":"+e.Data)
	all = append(append(append(all, flags...), dockerImage), args...)
	if _, err := docker(ctx, all...); err != nil {
		c.remove() // it may have been made before we were stopped
		return nil, err
	}
	pid, err := docker(ctx, "inspect", "--format", "{{.State.Pid}}", c.name)
	if err == nil {
		c.pid, err = strconv.Atoi(pid)
	}
	if err == nil && c.pid == 0 {
		err = errors.New("the container ended at once")
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, c.logs())
		c.remove()
		return nil, err
	}
	return c, nil
}

func (c *container) remove() {
	_, _ = docker(context.Background(), "rm", "--force", "--volumes", c.name)
}

func (c *container) logs() string {
	logs, _ := docker(context.Background(), "logs", "--tail", "20", c.name)
	return logs
}

// address of the container on the bridge, as other containers see it.
func (c *container) address(ctx context.Context) (string, error) {
	return docker(ctx, "inspect", "--format", "{{.NetworkSettings.IPAddress}}", c.name)
}

// serve runs a server that listens on port 8080, and publishes it.
func (d *Docker) serve(ctx context.Context, e Env, args []string) (*Instance, error) {
	c, err := d.run(ctx, e, []string{"--publish", "127.0.0.1::8080"}, args)
	if err != nil {
		return nil, err
	}
	addr, err := docker(ctx, "port", c.name, "8080/tcp")
	if err != nil {
		c.remove()
		return nil, err
	}
	in := httpAt(addr, e.Data)
	in.Servers = []int{c.pid}
	in.Stop = c.remove
	if err := untilAnswers(ctx, nil, in.answers); err != nil {
		err = fmt.Errorf("the container: %w\n%s", err, c.logs())
		c.remove()
		return nil, err
	}
	return in, nil
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
