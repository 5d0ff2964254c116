package side

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTicks is USER_HZ, in which /proc counts CPU time; it is 100 on every Linux that Go runs on.
const clockTicks = 100

// Usage is what a process has used since its start, and the memory that it has now.
type Usage struct {
	CPU      time.Duration // user and system
	Resident int64         // bytes
	Written  int64         // bytes that it caused to be written to disk, directly or by way of the page cache
}

// errNoProcess is of a remote broker whose process id was not told.
var errNoProcess = errors.New("the broker's process is not known (--against-pid)")

// Usage reads what the broker's process has used.
func (b *Broker) Usage() (Usage, error) {
	pid := b.Process()
	if pid == 0 {
		return Usage{}, errNoProcess
	}
	cpu, err := cpuTime(pid)
	if err != nil {
		return Usage{}, err
	}
	resident, err := procNumber(pid, "status", "VmRSS:")
	if err != nil {
		return Usage{}, err
	}
	written, err := procNumber(pid, "io", "write_bytes:")
	if err != nil {
		return Usage{}, err
	}
	return Usage{CPU: cpu, Resident: resident << 10, Written: written}, nil
}

func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command's name, is in parentheses and may hold spaces.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	ticks := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / clockTicks, nil
}

// procNumber reads the number of one line of a file in /proc.
func procNumber(pid int, file, key string) (int64, error) {
	name := fmt.Sprintf("/proc/%d/%s", pid, file)
	content, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(content)) {
		if value, ok := strings.CutPrefix(line, key); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("%s has no %s", name, key)
}

// OwnCPU is the time that this process has used, which makes the load.
func OwnCPU() (time.Duration, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0, err
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), nil
}
