"""Fork, signal and reap child processes."""

from __future__ import annotations

import os
import resource
import signal
import sys

from ctworker._poller import Poller

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""The unit of ru_maxrss in bytes."""


class ChildExit:
    """The exit status and resource usage of a child."""

    def __init__(self, status: int, cpu: float, maxrss: int) -> None:
        self.status = status
        """The exit status, encoded as wait(2) returns it."""
        self.cpu = cpu
        """User and system CPU time in seconds."""
        self.maxrss = maxrss
        """Peak memory in bytes."""


class Children:
    """The forked children of this process. Each leads its own process group."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._watched: dict[int, bool] = {}  # maps pids to whether the poller watches them

    def fork(self) -> int:
        """Fork. Return the child's pid in the parent, and 0 in the child.

        Raises OSError if the child cannot be created, or if the poller cannot watch it.
        """
        pid = os.fork()
        if pid == 0:
            return 0
        try:
            # The child makes the same call, so the group exists before either process continues.
            os.setpgid(pid, pid)
        except OSError:
            pass  # the child has already set its group, or has exited
        try:
            self._poller.add_child(pid)
        except OSError:
            self._watched[pid] = False
            self.reap(pid)
            raise
        self._watched[pid] = True
        return pid

    def pids(self) -> set[int]:
        """Return the pids of the children that have not been reaped."""
        return set(self._watched)

    def signal_group(self, pid: int, sig: int) -> None:
        """Send sig to the process group of a child that has not been reaped."""
        try:
            os.killpg(pid, sig)
        except (ProcessLookupError, PermissionError):
            pass  # all processes of the group are zombies; some systems do not signal zombies

    def is_watched(self, pid: int) -> bool:
        """Return whether the poller watches for the child's exit."""
        return self._watched[pid]

    def unwatch(self, pid: int) -> None:
        """Stop watching a child that has exited and will be reaped later."""
        if self._watched[pid]:
            self._poller.remove_child(pid)
            self._watched[pid] = False

    def reap(self, pid: int) -> ChildExit:
        """Kill the child's process group with SIGKILL, and reap the child.

        The group is killed first, because its id may be reused after the child has been reaped.
        """
        self.signal_group(pid, signal.SIGKILL)
        self.unwatch(pid)
        del self._watched[pid]
        try:
            _, status, usage = os.wait4(pid, 0)
        except ChildProcessError:  # code of the user's program has reaped it
            return ChildExit(0, 0.0, 0)
        return _child_exit(status, usage)

    def reap_all(self) -> None:
        """Kill and reap all children."""
        for pid in list(self._watched):
            self.signal_group(pid, signal.SIGKILL)
        for pid in list(self._watched):
            self.reap(pid)


def _child_exit(status: int, usage: resource.struct_rusage) -> ChildExit:
    return ChildExit(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _MAXRSS_UNIT)
