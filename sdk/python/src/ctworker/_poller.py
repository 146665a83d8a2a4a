"""Wait until descriptors become readable or children exit.

A poller has a descriptor of its own, which is readable when the poller has something to report.
The program registers only this descriptor with its event loop.

The poller does not reap the children, because the caller must first kill the process group of
the child. After the child has been reaped, the id of the group may be reused.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType
from typing import Any, Protocol


class Poller(Protocol):
    """Reports readable descriptors and exits of children. Not safe for concurrent use."""

    def fileno(self) -> int:
        """Return the poller's descriptor, which is readable if poll would not block."""

    def add(self, fd: int) -> None:
        """Watch a descriptor."""

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor."""

    def add_child(self, pid: int) -> None:
        """Watch a child that has not been reaped. Raises OSError if that is not possible."""

    def remove_child(self, pid: int) -> None:
        """Stop watching a child."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Return the readable descriptors, and the pids of the children that have exited.

        If there are neither, wait. timeout is the maximum time to wait in seconds; -1 means no
        limit.
        """

    def descriptors(self) -> list[int]:
        """Return the descriptors that the poller has opened. A forked child must close them."""

    def close(self) -> None:
        """Close the descriptors that the poller has opened."""


class _EpollPoller:
    """The methods that the two pollers for Linux share."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()

    def fileno(self) -> int:
        return self._fd

    def add(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)


class PidfdPoller(_EpollPoller):
    """The poller for Linux 5.3 and later, which uses pidfds."""

    def __init__(self) -> None:
        super().__init__()
        self._pids: dict[int, int] = {}
        self._pidfds: dict[int, int] = {}

    def add_child(self, pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        self._epoll.register(pidfd, select.EPOLLIN)
        self._pids[pidfd] = pid
        self._pidfds[pid] = pidfd

    def remove_child(self, pid: int) -> None:
        pidfd = self._pidfds.pop(pid)
        del self._pids[pidfd]
        # Closing alone does not unregister the pidfd if a child that was forked in the meantime
        # also holds it.
        self._epoll.unregister(pidfd)
        os.close(pidfd)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        fds, pids = [], []
        for fd, _ in self._epoll.poll(timeout):
            if (pid := self._pids.get(fd)) is not None:
                pids.append(pid)
            else:
                fds.append(fd)
        return fds, pids

    def descriptors(self) -> list[int]:
        return [self._fd, *self._pids]

    def close(self) -> None:
        for pidfd in self._pids:
            os.close(pidfd)
        self._pids.clear()
        self._pidfds.clear()
        self._epoll.close()


class SigchldPoller(_EpollPoller):
    """The poller for Linux without pidfds, which relies on the signal SIGCHLD."""

    def __init__(self) -> None:
        super().__init__()
        self._pids: set[int] = set()
        self._r, self._w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._r, select.EPOLLIN)
        self._pid = os.getpid()
        self._previous = signal.signal(signal.SIGCHLD, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._wake()
        if callable(self._previous):
            self._previous(signum, frame)

    def _wake(self) -> None:
        if os.getpid() == self._pid:
            try:
                os.write(self._w, b"\0")
            except BlockingIOError:
                pass  # the pipe is full, so it is already readable

    def add_child(self, pid: int) -> None:
        self._pids.add(pid)
        self._wake()  # the SIGCHLD of the child may have arrived before this call

    def remove_child(self, pid: int) -> None:
        self._pids.discard(pid)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        fds = [fd for fd, _ in self._epoll.poll(timeout)]
        if self._r not in fds:
            return fds, []
        fds.remove(self._r)
        os.read(self._r, 1 << 16)
        return fds, [pid for pid in self._pids if _has_exited(pid)]

    def descriptors(self) -> list[int]:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return [self._fd, self._r, self._w]

    def close(self) -> None:
        signal.signal(signal.SIGCHLD, self._previous)
        self._epoll.close()
        os.close(self._r)
        os.close(self._w)


def _has_exited(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class KqueuePoller:
    """The poller for macOS and the BSDs, which uses kqueue."""

    def __init__(self) -> None:
        select_any: Any = select  # type checkers on other systems do not know kqueue
        self._select = select_any
        self._kqueue = select_any.kqueue()

    def fileno(self) -> int:
        return int(self._kqueue.fileno())

    def _change(self, ident: int, filter_: int, flags: int, fflags: int = 0) -> None:
        event = self._select.kevent(ident, filter=filter_, flags=flags, fflags=fflags)
        self._kqueue.control([event], 0, 0)

    def add(self, fd: int) -> None:
        self._change(fd, self._select.KQ_FILTER_READ, self._select.KQ_EV_ADD)

    def remove(self, fd: int) -> None:
        self._change(fd, self._select.KQ_FILTER_READ, self._select.KQ_EV_DELETE)

    def add_child(self, pid: int) -> None:
        self._change(
            pid,
            self._select.KQ_FILTER_PROC,
            self._select.KQ_EV_ADD | self._select.KQ_EV_ONESHOT,
            self._select.KQ_NOTE_EXIT,
        )

    def remove_child(self, pid: int) -> None:
        try:
            self._change(pid, self._select.KQ_FILTER_PROC, self._select.KQ_EV_DELETE)
        except OSError:
            pass  # poll has reported the exit, and the system then stopped watching the child

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        fds: list[int] = []
        pids: list[int] = []
        for event in self._kqueue.control(None, 64, timeout):
            is_child = event.filter == self._select.KQ_FILTER_PROC
            (pids if is_child else fds).append(int(event.ident))
        return fds, pids

    def descriptors(self) -> list[int]:
        return []  # a forked child does not inherit a kqueue

    def close(self) -> None:
        self._kqueue.close()


def new_poller() -> Poller:
    """Return the best poller that this system supports."""
    if hasattr(select, "kqueue") and not sys.platform.startswith("linux"):
        return KqueuePoller()
    if hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
            return PidfdPoller()
        except OSError:
            pass  # the kernel is too old, or a sandbox forbids pidfd_open
    return SigchldPoller()
