package confine

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Processes adds up the memory of a process and of all that it has begun, and the bytes of
// files that they hold open and that have no name any more. It stops counting beyond most
// processes; 0 is no limit.
func Processes(init, most int) (memory, held int64, n int) {
	seen := map[[2]uint64]bool{}
	if most == 0 {
		most = 1 << 20
	}
	for left := []int{init}; len(left) > 0 && n <= most; {
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
