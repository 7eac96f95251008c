package proctest

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// proc is the path of a file in the process's directory of /proc, which Linux has.
func (p *Process) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", p.Pid(), name) }

func (p *Process) read(name string) []byte {
	p.tb.Helper()
	b, err := os.ReadFile(p.proc(name))
	if err != nil {
		p.tb.Fatalf("it has ended: %v\n%s", err, p.Log())
	}
	return b
}

// Status is a size in /proc/PID/status, in bytes: VmRSS, VmHWM.
func (p *Process) Status(field string) int64 {
	p.tb.Helper()
	_, rest, _ := strings.Cut(string(p.read("status")), "\n"+field+":")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		p.tb.Fatalf("%s: %v", field, err)
	}
	return kib << 10
}

// Resident is how much memory the process has, in bytes.
func (p *Process) Resident() int64 {
	p.tb.Helper()
	return p.Status("VmRSS")
}

// CPU is the processor time that the process has used.
func (p *Process) CPU() time.Duration {
	p.tb.Helper()
	stat := p.read("stat")
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):]))
	user, _ := strconv.Atoi(fields[12])
	system, _ := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond // of USER_HZ
}

// Descriptors is how many files and sockets the process has open.
func (p *Process) Descriptors() int {
	p.tb.Helper()
	d, err := os.ReadDir(p.proc("fd"))
	if err != nil {
		p.tb.Fatalf("it has ended: %v\n%s", err, p.Log())
	}
	return len(d)
}
