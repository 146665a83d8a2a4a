"""Fork children, signal them and reap them."""

from __future__ import annotations

import os
import resource
import signal
import sys

from ctworker._poller import Poller

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Ended:
    """How a child ended."""

    def __init__(self, status: int, cpu: float, maxrss: int) -> None:
        self.status = status
        """As wait has it."""
        self.cpu = cpu
        """User and system time, in seconds."""
        self.maxrss = maxrss
        """In bytes."""


class Children:
    """This process's forked children, each the leader of a process group."""

    def __init__(self, poller: Poller) -> None:
        self._poller = poller
        self._watched: dict[int, bool] = {}  # pid: whether the poller has it

    def fork(self) -> int:
        """Return the child's pid, and 0 in the child. OSError if there can be none."""
        pid = os.fork()
        if pid == 0:
            return 0
        try:
            os.setpgid(pid, pid)  # the child does it too; who is first, is first
        except OSError:
            pass  # it has, or has ended
        try:
            self._poller.add_child(pid)
        except OSError:
            self._watched[pid] = False
            self.reap(pid)
            raise
        self._watched[pid] = True
        return pid

    def pids(self) -> set[int]:
        """Return the children that have not been reaped."""
        return set(self._watched)

    def kill(self, pid: int, sig: int) -> None:
        """Signal the group of a child that has not been reaped."""
        try:
            os.killpg(pid, sig)
        except (ProcessLookupError, PermissionError):
            pass  # zombies alone, which some systems refuse to signal

    def watches(self, pid: int) -> bool:
        """Whether the end of a child is still to be heard of."""
        return self._watched[pid]

    def unwatch(self, pid: int) -> None:
        """Hear no more of a child that has ended, and will be reaped later."""
        if self._watched[pid]:
            self._poller.remove_child(pid)
            self._watched[pid] = False

    def reap(self, pid: int) -> Ended:
        """Kill what is left of a child's group, and then the child itself, and reap it.

        The child is a zombie until then, so that its group's id is still its own.
        """
        self.kill(pid, signal.SIGKILL)
        self.unwatch(pid)
        del self._watched[pid]
        try:
            _, status, usage = os.wait4(pid, 0)
        except ChildProcessError:  # the program has waited for any child there is
            return Ended(0, 0.0, 0)
        return _ended(status, usage)

    def reap_all(self) -> None:
        """Kill and reap all that live."""
        for pid in list(self._watched):
            self.kill(pid, signal.SIGKILL)
        for pid in list(self._watched):
            self.reap(pid)


def _ended(status: int, usage: resource.struct_rusage) -> Ended:
    return Ended(status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _MAXRSS_UNIT)
