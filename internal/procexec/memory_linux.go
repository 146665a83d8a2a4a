package procexec

import (
	"bytes"
	"os"
	"strconv"
)

// ResidentMemory returns the resident memory of a process in bytes, without its children. ok is
// false if the size is unknown, for example because the process has exited.
func ResidentMemory(pid int) (size int64, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err == nil
}
