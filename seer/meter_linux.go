package seer

import (
	"bytes"
	"os"
	"strconv"
)

// processorTicks reads the first line of /proc/stat (proc(5)): user, nice, system,
// idle, iowait and so on. Waiting is not work.
func processorTicks() (busy, total uint64, ok bool) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, false
	}
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	for i, f := range bytes.Fields(line) {
		if i == 0 || i > 8 { // what follows is counted in user already
			continue
		}
		n, err := strconv.ParseUint(string(f), 10, 64)
		if err != nil {
			return 0, 0, false
		}
		total += n
		if i != 4 && i != 5 {
			busy += n
		}
	}
	return busy, total, total > 0
}

// memoryUse reads /proc/meminfo: the share that is not available to a new program.
func memoryUse() float64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var total, available float64
	for line := range bytes.Lines(raw) {
		f := bytes.Fields(line)
		if len(f) < 2 {
			continue
		}
		n, _ := strconv.ParseFloat(string(f[1]), 64)
		switch string(f[0]) {
		case "MemTotal:":
			total = n
		case "MemAvailable:":
			available = n
		}
	}
	if total == 0 {
		return 0
	}
	return 1 - available/total
}
