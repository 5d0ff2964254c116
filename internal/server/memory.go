package server

import (
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/ottlaio/ottla/internal/config"
)

// What a memory limit must leave beside the garbage collector's heap and the tail.
const (
	otherMemoryShare = 16       // one part of so many: the program itself, etcd's mapped file, what the kernel counts as ours
	leastGoMemory    = 64 << 20 // below this the collector would run all the time and free nothing
)

// LimitMemory tells the garbage collector how much memory the process may use: ottla.memory.limit.bytes, or what its control group allows,
// less the tail, which lies outside the heap. GOMEMLIMIT, where the user has set it, stands. GOGC is left alone: under full load the
// collector takes less than one percent of the CPU, because batches never become heap.
//
// It is for a process that is the broker's own, since it changes the whole process.
func LimitMemory(cfg *config.Broker, logger *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	total := cfg.MemoryLimit
	if total == 0 {
		total = controlGroupLimit(os.DirFS("/"))
	}
	if total == 0 {
		return
	}
	limit := goMemoryLimit(total, cfg.TailBytes)
	if limit == leastGoMemory {
		logger.Warn("ottla.tail.bytes leaves little of the memory that the process may use", "memory", total, "tail", cfg.TailBytes)
	}
	debug.SetMemoryLimit(limit)
	logger.Info("memory limit", "process", total, "tail", cfg.TailBytes, "go", limit)
}

// goMemoryLimit is what is left for Go's runtime of the memory that a process may use.
func goMemoryLimit(total, tail int64) int64 {
	return max(leastGoMemory, total-total/otherMemoryShare-tail)
}

// controlGroupLimit returns the least memory limit of the control groups that this process is in, 0 if there is none or no control groups.
func controlGroupLimit(root fs.FS) int64 {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	limit := int64(math.MaxInt64)
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // id, controllers, path
		if len(fields) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		switch fields[1] {
		case "":
		case "memory": // version 1
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// Within a container the path may be the host's, of which only the root is to be seen.
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if text, err := fs.ReadFile(root, path.Join(mount, group, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // else it is "max"
					limit = min(limit, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	const noLimit = 1 << 60 // version 1 says "none" by a number near the largest
	if limit >= noLimit {
		return 0
	}
	return limit
}
