"""What tasks leave behind outside of their process groups, such as in a session of its own.

The system makes the fork server its parent. It may be of any task that ran when it was
first seen, and is killed once those have all ended.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterable


class Begun:
    """Which children have begun a task: one may be forked long before there is any.

    Each says so itself, by a byte of memory that all of them share.
    """

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, _MAX_PID)  # a page of it exists once it is written to

    def begin(self) -> None:
        """Say, in a child, that it has begun."""
        self._bytes[os.getpid()] = 1

    def forget(self, pid: int) -> None:
        """Forget a child that is about to be reaped, whose pid another may get."""
        self._bytes[pid] = 0

    def of(self, pids: Iterable[int]) -> set[int]:
        """Return those of pids that have begun."""
        return {pid for pid in pids if self._bytes[pid]}


_MAX_PID = 1 << 22
"""That of Linux; other systems' is lower."""


def mark_memory(run: str) -> mmap.mmap | None:
    """Map memory that is named after the run, and return it; None if that is not possible.

    If this process is killed, the mapping identifies the processes forked from it to the
    engine and its guard, even in other sessions and without a mark in the environment.
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
    """The fork server's children that it has not forked."""

    def __init__(self) -> None:
        self._parents: dict[int, set[int]] = {}  # pid: the tasks' processes it may be of

    def sweep(self, known: set[int], begun: set[int]) -> int:
        """Reap those that have ended, and kill those whose time is over.

        known are the pids that this process has forked, begun those that have begun a task
        and have not ended. Returns how many there are left.
        """
        left = 0
        for pid in _children() - known:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self._parents.pop(pid, None)
                    continue
            except ChildProcessError:
                continue
            left += 1
            parents = self._parents.setdefault(pid, set(begun))
            parents &= begun
            if not parents:
                _kill(pid)
        return left


def _children() -> set[int]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as children:
            return {int(child) for child in children.read().split()}
    except OSError:
        return set()  # no Linux, or one without that file


def _kill(pid: int) -> None:
    """Kill a child that has not been reaped, with its group if it leads one."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
