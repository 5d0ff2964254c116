package server

import (
	"testing"
	"testing/fstest"
)

func TestControlGroupLimit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no control groups": {want: 0},
		"version 2, own":    {files: map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "1000\n", "sys/fs/cgroup/a/memory.max": "max\n"}, want: 1000},
		"version 2, parent": {files: map[string]string{"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "500\n"}, want: 500},
		"in a container":    {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2000\n"}, want: 2000},
		"the host's path":   {files: map[string]string{"proc/self/cgroup": "0::/../../docker/x\n", "sys/fs/cgroup/memory.max": "2000\n"}, want: 2000},
		"none set":          {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, want: 0},
		"version 1":         {files: map[string]string{"proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/d\n", "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "3000\n"}, want: 3000},
		"version 1, none":   {files: map[string]string{"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{}
			for file, text := range c.files {
				root[file] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := controlGroupLimit(root); got != c.want {
				t.Errorf("limit %d, want %d", got, c.want)
			}
		})
	}
}

func TestGoMemoryLimitLeavesRoomForTheTail(t *testing.T) {
	t.Parallel()
	if got, want := goMemoryLimit(1<<30, 256<<20), int64(1<<30-64<<20-256<<20); got != want {
		t.Errorf("of 1 GiB with a tail of 256 MiB, Go gets %d, want %d", got, want)
	}
	if got := goMemoryLimit(256<<20, 256<<20); got != leastGoMemory {
		t.Errorf("Go gets %d of nothing, want %d", got, leastGoMemory)
	}
}
