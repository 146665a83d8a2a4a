"""Find and kill processes that tasks leave behind outside of their process groups.

Such a process is called an orphan. An example is a daemon that a task has started in a new
session. When its parent exits, the system makes the daemon a child of the fork server. The fork
server cannot know which task has started the daemon. It therefore waits until all tasks that ran
when it first saw the daemon have ended, and then kills the daemon.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterable


class StartedTasks:
    """Records which children of the fork server have received a task.

    A child may be forked long before it receives a task. When it receives the task, it sets its
    flag, a byte in memory that all children share with the fork server.
    """

    def __init__(self) -> None:
        # The system allocates a page of this mapping only when a process writes to the page.
        self._bytes = mmap.mmap(-1, _MAX_PID)

    def mark(self) -> None:
        """Set the flag of the calling process. It is called in a child."""
        self._bytes[os.getpid()] = 1

    def clear(self, pid: int) -> None:
        """Clear the flag of a child. Call it before the child is reaped and its pid is reused."""
        self._bytes[pid] = 0

    def among(self, pids: Iterable[int]) -> set[int]:
        """Return the pids whose flag is set."""
        return {pid for pid in pids if self._bytes[pid]}


_MAX_PID = 1 << 22
"""The maximum pid of Linux. Other systems have lower limits."""


def mark_memory(run: str) -> mmap.mmap | None:
    """Map memory with a name that contains run, the id of the run, and return the mapping.

    Processes that are forked from this one inherit the mapping. If this process is killed, the
    engine and its guard, a helper process, search /proc for the name, and kill the processes that
    have the mapping. They also search for the environment variable CTWORKER_PROCESS. However, forks
    set this variable in their own environment, and /proc does not show such changes.

    Return None if the mapping cannot be created.
    """
    try:
        fd = os.memfd_create(f"ctworker-{run}")
    except (AttributeError, OSError):
        return None  # the system is not Linux, or a sandbox forbids memfd_create
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


class Orphans:
    """The orphans, which are the children of the fork server that it has not forked itself."""

    def __init__(self) -> None:
        # Maps the pid of an orphan to the pids of the children whose tasks may have started it.
        self._owners: dict[int, set[int]] = {}

    def sweep(self, forked: set[int], running: set[int]) -> int:
        """Reap orphans that have exited, and kill those whose tasks have ended.

        forked are the pids of the children that this process has forked and not reaped. running
        are the pids of the forked children that have received a task. Returns the number of
        orphans that have not exited.
        """
        remaining = 0
        for pid in _children() - forked:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self._owners.pop(pid, None)
                    continue
            except ChildProcessError:
                continue
            remaining += 1
            owners = self._owners.setdefault(pid, set(running))
            owners &= running
            if not owners:
                _kill(pid)
        return remaining


def _children() -> set[int]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as children:
            return {int(child) for child in children.read().split()}
    except OSError:
        return set()  # the system is not Linux, or its kernel does not provide this file


def _kill(pid: int) -> None:
    """Kill a child that has not been reaped, and its process group if it leads one."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
