package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// cpuOf returns the CPU time that a process has used so far (Linux only).
func cpuOf(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	ticks := 0
	for _, i := range []int{11, 12} { // utime and stime; see proc(5)
		n, _ := strconv.Atoi(string(fields[i]))
		ticks += n
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// eventTimes returns the timestamps of the events in a file, sorted.
func eventTimes(path string) ([]time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []time.Time
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var event struct{ Timestamp string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, err
		}
		at, err := time.Parse("2006-01-02T15:04:05.999999", event.Timestamp)
		if err != nil {
			return nil, err
		}
		all = append(all, at)
	}
	slices.SortFunc(all, time.Time.Compare)
	return all, nil
}
