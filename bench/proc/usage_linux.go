package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ticks per second of the times in /proc/PID/stat; Linux fixes it for users.
const ticks = 100

type stat struct {
	parent               int
	user, kernel         int64 // ticks
	childUser, childKern int64 // ticks of children that ended and were waited for
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	// The name in the second field may hold spaces and parentheses.
	_, rest, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')'):], []byte(" "))
	f := strings.Fields(string(rest))
	if !ok || len(f) < 15 {
		return stat{}, fmt.Errorf("/proc/%d/stat: not understood", pid)
	}
	number := func(i int) int64 { // proc(5) counts fields from 1; f begins with the third
		n, _ := strconv.ParseInt(f[i-3], 10, 64)
		return n
	}
	return stat{
		parent: int(number(4)),
		user:   number(14), kernel: number(15),
		childUser: number(16), childKern: number(17),
	}, nil
}

// Tree returns the roots and all their living descendants.
func Tree(roots ...int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	tree := append([]int(nil), roots...)
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree
}

// ReadUsage sums over the process trees of the roots, children that ended included.
func ReadUsage(roots ...int) Usage {
	var u Usage
	for _, pid := range Tree(roots...) {
		s, err := readStat(pid)
		if err != nil {
			continue // it ended meanwhile: its parent has its time
		}
		ended := fromTicks(s.childUser + s.childKern)
		u.Ended += ended
		u.User += fromTicks(s.user + s.childUser)
		u.Kernel += fromTicks(s.kernel + s.childKern)
		if exact, err := cpuClock(pid); err == nil {
			u.CPU += exact + ended
		} else {
			u.CPU += fromTicks(s.user+s.kernel) + ended
		}
		v, i := switches(pid)
		u.Voluntary += v
		u.Involuntary += i
	}
	return u
}

func fromTicks(n int64) time.Duration { return time.Duration(n) * time.Second / ticks }

// cpuClock reads another process's CPU clock: all its threads, those that
// ended too, in nanoseconds. The clock's number is made as clock_getcpuclockid(3) does.
func cpuClock(pid int) (time.Duration, error) {
	const cpuclockSched = 2
	var ts unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts)
	return time.Duration(ts.Nano()), err
}

func switches(pid int) (voluntary, involuntary uint64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, t := range threads {
		fields := statusFields(t)
		voluntary += uint64(fields["voluntary_ctxt_switches"])
		involuntary += uint64(fields["nonvoluntary_ctxt_switches"])
	}
	return voluntary, involuntary
}

// ReadMemory sums over the process trees of the roots.
func ReadMemory(roots ...int) Memory {
	var m Memory
	for _, pid := range Tree(roots...) {
		f := statusFields(fmt.Sprintf("/proc/%d/status", pid))
		m.Resident += f["VmRSS"] << 10
		m.Peak += f["VmHWM"] << 10
	}
	return m
}

// statusFields returns the numbers of a /proc/PID/status file.
func statusFields(path string) map[string]int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	fields := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		word, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		if n, err := strconv.ParseInt(word, 10, 64); err == nil {
			fields[name] = n
		}
	}
	return fields
}

// Pin binds all threads of the process trees to the cores; none means all.
func Pin(cores []int, roots ...int) error {
	var set unix.CPUSet
	if len(cores) == 0 {
		cores = AllCores()
	}
	for _, c := range cores {
		set.Set(c)
	}
	for _, pid := range Tree(roots...) {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		for _, t := range threads {
			tid, err := strconv.Atoi(filepath.Base(t))
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
				return fmt.Errorf("bind thread %d to cores %s: %w", tid, CoreList(cores), err)
			}
		}
	}
	return nil
}

// AllCores lists the cores that the lab itself may use.
func AllCores() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cores []int
	for c := range 8 * len(set) * 8 {
		if set.IsSet(c) {
			cores = append(cores, c)
		}
	}
	return cores
}

// MachineBusy is the CPU time that the whole machine has used and that the
// hypervisor took from it, over all cores, since it was started.
func MachineBusy() (busy, stolen time.Duration) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 {
		return 0, 0
	}
	// user nice system idle iowait irq softirq steal
	for i, word := range f[1:9] {
		n, _ := strconv.ParseInt(word, 10, 64)
		switch i {
		case 3, 4:
		case 7:
			stolen += fromTicks(n)
		default:
			busy += fromTicks(n)
		}
	}
	return busy, stolen
}
