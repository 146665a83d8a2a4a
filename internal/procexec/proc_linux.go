package procexec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkProc checks that /proc shows the processes of tasks. If it does not, checkProc returns an
// error with the reason and what the user can do.
func (l *Launcher) checkProc() error {
	guard := 0
	if l.guard != nil {
		guard = l.guard.process.Pid
	}
	return checkProcAt("/proc", os.Getpid(), guard, l.runID)
}

// checkProcAt does the checks of checkProc for a /proc at the path proc. self is the pid of this
// process. guard is the pid of the guard, whose environment must be readable and contain runID. If
// guard is 0, that check is skipped.
func checkProcAt(proc string, self, guard int, runID string) error {
	link, err := os.Readlink(proc + "/self")
	switch {
	case err != nil:
		return fmt.Errorf("/proc is not mounted (%w): mount it, for example with \"mount -t proc proc /proc\"", err)
	case link != strconv.Itoa(self):
		return fmt.Errorf("/proc belongs to another PID namespace: this process is %d, but /proc/self is %s: "+
			"mount the /proc of this namespace, as \"unshare --mount-proc\" does", self, link)
	case guard == 0:
		return nil
	}
	env, err := os.ReadFile(fmt.Sprintf("%s/%d/environ", proc, guard))
	if err == nil && !bytes.Contains(env, []byte(runID)) {
		err = errors.New("the environment of the guard process does not contain the id of the run")
	}
	if err != nil {
		return fmt.Errorf("/proc does not show the environment of this user's processes (%w): "+
			"mount /proc without hidepid, and permit this user to read /proc/PID/environ in SELinux or AppArmor", err)
	}
	return nil
}

// isOwnProc reports whether /proc belongs to the PID namespace of this process. If it does not, a
// pid in /proc and the same pid in a system call denote different processes.
func isOwnProc() bool {
	link, err := os.Readlink("/proc/self")
	return err == nil && link == strconv.Itoa(os.Getpid())
}

// childrenOf returns the children of process pid, zombies included.
func childrenOf(pid int) []int {
	var children []int
	forEachProcess(func(child int) {
		if parentOf(child) == pid {
			children = append(children, child)
		}
	})
	return children
}

// stat holds fields of /proc/PID/stat; see proc(5).
type stat struct {
	parent, group int
	zombie        bool
	stopped       bool // by a signal; false if a debugger stopped it
}

// statOf reads the stat of a process. It returns false if the process does not exist.
func statOf(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false
	}
	// The line is "pid (command) state ppid pgrp …". The command may contain any character, even a
	// parenthesis, so parse after the last parenthesis.
	rest := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(rest) < 3 {
		return stat{}, false
	}
	parent, _ := strconv.Atoi(string(rest[1]))
	group, _ := strconv.Atoi(string(rest[2]))
	state := rest[0][0]
	return stat{parent, group, state == 'Z' || state == 'X', state == 'T'}, true
}

// parentOf returns the parent of a process, or 0 if the process does not exist.
func parentOf(pid int) int {
	st, _ := statOf(pid)
	return st.parent
}

// isSibling reports whether a process has the same parent as this process. If /proc belongs to
// another PID namespace, the parent is unknown, and isSibling returns true.
func isSibling(pid int) bool { return parentOf(pid) == os.Getppid() || !isOwnProc() }

// isStopped reports whether a signal has stopped a process. If /proc belongs to another PID
// namespace, the state is unknown, and isStopped returns false.
func isStopped(pid int) bool {
	st, _ := statOf(pid)
	return st.stopped && isOwnProc()
}

// isGone reports whether a process has exited. If /proc belongs to another PID namespace, a zombie
// is not recognized, and counts as running.
func isGone(pid int) bool {
	if !isOwnProc() {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	}
	st, ok := statOf(pid)
	return !ok || st.zombie
}

// forkServerMapping, followed by the id of the run, is the name of a memory mapping that the fork
// server creates. Its forks inherit the mapping and can be recognized by it. A fork that executes
// another program loses the mapping, but then has the marker in its environment.
const forkServerMapping = "/memfd:ctworker-"

// mapsMemory reports whether a process is the fork server of the run or one of its forks. These
// processes have no marker, because /proc shows the environment with which the user's program was
// started.
func mapsMemory(pid int, runID string) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	return err == nil && bytes.Contains(text, []byte(forkServerMapping+runID+" "))
}

// envMarkerOf returns the process number that the marker of a process contains. The marker is the
// environment variable CTWORKER_PROCESS. ok is false if the process has no marker of this run.
func envMarkerOf(pid int, runID string) (id int64, ok bool) {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return 0, false
	}
	for v := range bytes.SplitSeq(env, []byte{0}) {
		if number, found := bytes.CutPrefix(v, []byte(envMarkerVar+"="+runID+".")); found {
			id, err := strconv.ParseInt(string(number), 10, 64)
			return id, err == nil
		}
	}
	return 0, false
}

// killMarked searches once for processes of the run, except this process. It kills them, and
// returns how many it found.
func killMarked(runID string) (found int) {
	forEachProcess(func(pid int) {
		if pid == os.Getpid() {
			return
		}
		_, ok := envMarkerOf(pid, runID)
		if ok || mapsMemory(pid, runID) {
			found++
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return found
}

// killOrphaned kills the processes of the run that have a marker and whose task has ended. isLive
// reports whether the forked process with the number id, which runs the task, is still running.
func killOrphaned(runID string, isLive func(id int64) bool) {
	forEachProcess(func(pid int) {
		if id, ok := envMarkerOf(pid, runID); ok && !isLive(id) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

// forEachProcess calls f for each process in /proc. It does nothing if /proc belongs to another PID
// namespace.
func forEachProcess(f func(pid int)) {
	if !isOwnProc() {
		return
	}
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			f(pid)
		}
	}
}

// sharedMemory returns a file of size bytes that exists only in memory.
func sharedMemory(name string, size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
