package monkey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watch looks at what the processes of a sandbox take together, for which the kernel has
// no limit without a cgroup.
type watch struct {
	init   int
	limits Limits
	disk   int64
	mounts []Mount
}

const (
	watchEvery  = 100 * time.Millisecond
	watchShare  = 20 // of the time that a walk takes, until the next one
	diskEntries = 5 * maxEntries
)

// until returns the limit that was passed, "" when the command has ended.
func (w watch) until(ctx context.Context, ended <-chan struct{}) string {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var nextWalk time.Time
	for {
		select {
		case <-ended:
			return ""
		case <-ctx.Done():
			return ""
		case <-tick.C:
		}
		memory, held, processes := w.processes()
		if w.limits.Memory > 0 && memory > w.limits.Memory {
			return fmt.Sprintf("more than %d bytes of memory", w.limits.Memory)
		}
		if w.limits.Processes > 0 && processes > w.limits.Processes {
			return fmt.Sprintf("more than %d processes", w.limits.Processes)
		}
		if w.disk > 0 && !time.Now().Before(nextWalk) {
			began := time.Now()
			if limit := w.folders(ctx, held); limit != "" {
				return limit
			}
			nextWalk = time.Now().Add(watchShare * time.Since(began))
		}
	}
}

// processes adds up the memory of the sandbox's processes, and the bytes of files that
// they hold open and that have no name any more.
func (w watch) processes() (memory, held int64, n int) {
	seen := map[[2]uint64]bool{}
	most := w.limits.Processes
	if most == 0 {
		most = 1 << 20
	}
	for left := []int{w.init}; len(left) > 0 && n <= most; {
		pid := left[len(left)-1]
		left = left[:len(left)-1]
		n++
		proc := "/proc/" + strconv.Itoa(pid)
		memory += resident(proc)
		held += unnamed(proc, seen)
		tasks, _ := os.ReadDir(proc + "/task")
		for _, t := range tasks {
			text, _ := os.ReadFile(proc + "/task/" + t.Name() + "/children")
			for _, f := range strings.Fields(string(text)) {
				if child, err := strconv.Atoi(f); err == nil {
					left = append(left, child)
				}
			}
		}
	}
	return memory, held, n
}

// resident is the memory that is a process's own, or shared and of no file.
func resident(proc string) (bytes int64) {
	text, _ := os.ReadFile(proc + "/status")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "RssAnon", "RssShmem", "VmSwap":
			if f := strings.Fields(value); len(f) > 0 {
				kib, _ := strconv.ParseInt(f[0], 10, 64)
				bytes += kib << 10
			}
		}
	}
	return bytes
}

// unnamed is the size of open files that are in no folder.
func unnamed(proc string, seen map[[2]uint64]bool) (bytes int64) {
	open, _ := os.ReadDir(proc + "/fd")
	for _, f := range open {
		var st unix.Stat_t
		if unix.Stat(proc+"/fd/"+f.Name(), &st) != nil || st.Nlink != 0 || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if !seen[id] {
			seen[id] = true
			bytes += st.Blocks * 512
		}
	}
	return bytes
}

var errOver = errors.New("over the limit")

// folders adds up what is in the folders that may be written, and says which limit it is
// beyond. held is what has no name there.
func (w watch) folders(ctx context.Context, held int64) string {
	bytes, entries, limit := held, 0, ""
	for _, m := range w.mounts {
		if !m.Write {
			continue
		}
		root, err := os.OpenRoot(m.Dir)
		if err != nil {
			continue
		}
		_ = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return nil // it is gone, or closed to us
			}
			entries++
			if info, err := d.Info(); err == nil {
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					bytes += st.Blocks * 512
				}
			}
			switch {
			case bytes > w.disk:
				limit = fmt.Sprintf("more than %d bytes of disk", w.disk)
			case entries > diskEntries:
				limit = fmt.Sprintf("more than %d files and folders", diskEntries)
			case strings.Count(name, "/") > 4*maxDepth:
				limit = fmt.Sprintf("folders nested more than %d deep", 4*maxDepth)
			default:
				return nil
			}
			return errOver
		})
		_ = root.Close()
		if limit != "" {
			return limit
		}
	}
	if bytes > w.disk {
		return fmt.Sprintf("more than %d bytes of disk", w.disk)
	}
	return ""
}
