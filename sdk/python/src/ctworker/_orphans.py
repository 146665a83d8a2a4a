"""Find and kill processes that tasks leave behind outside of their process groups.

An example is a daemon that a task started in a session of its own. When its parent exits,
the system makes it a child of the fork server. It may belong to any task that was running
when it was first seen, so it is killed once all of those tasks have ended.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterable


class StartedTasks:
    """Records which children have received a task.

    A child may be forked long before there is a task for it. Each child sets its own flag,
    a byte of memory that it shares with the fork server.
    """

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, _MAX_PID)  # a page uses memory only once it is written to

    def mark(self) -> None:
        """Set the flag of the calling process, a child."""
        self._bytes[os.getpid()] = 1

    def clear(self, pid: int) -> None:
        """Clear the flag of a child before it is reaped and its pid can be reused."""
        self._bytes[pid] = 0

    def among(self, pids: Iterable[int]) -> set[int]:
        """Return the pids whose flag is set."""
        return {pid for pid in pids if self._bytes[pid]}


_MAX_PID = 1 << 22
"""The maximum pid of Linux. Other systems have lower limits."""


def mark_memory(run: str) -> mmap.mmap | None:
    """Map memory that is named after the run, and return it; None if that is not possible.

    If this process is killed, the mapping identifies the processes forked from it to the
    engine and its guard, even in other sessions and without a marker in the environment.
    """
    try:
        fd = os.memfd_create(f"ctworker-{run}")
    except (AttributeError, OSError):
        return None  # not Linux, or refused; the mapping is visible only in Linux's /proc
    try:
        os.ftruncate(fd, mmap.PAGESIZE)
        return mmap.mmap(fd, mmap.PAGESIZE)
    finally:
        os.close(fd)


class Orphans:
    """The children of the fork server that it adopted, as opposed to those it forked."""

    def __init__(self) -> None:
        self._owners: dict[int, set[int]] = {}  # pid: the task processes it may belong to

    def sweep(self, forked: set[int], running: set[int]) -> int:
        """Reap orphans that have exited, and kill those whose tasks have ended.

        forked are the unreaped children that this process forked; running are those of them
        that have received a task. Returns the number of orphans that have not exited.
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
        return set()  # not Linux, or a kernel without this file


def _kill(pid: int) -> None:
    """Kill an unreaped child, and its process group if it leads one."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
