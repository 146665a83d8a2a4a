//go:build !linux

package procexec

// ResidentMemory returns false, because the memory of a process is known on Linux only.
func ResidentMemory(int) (size int64, ok bool) { return 0, false }
