"""Wait for descriptors to become readable and for children to end, on one descriptor.

That descriptor is registered with the user's event loop, which so needs to know one
thing alone. Ended children are not reaped here: until they are, their process group's
id cannot become another's.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from types import FrameType
from typing import Any, Protocol


class Poller(Protocol):
    """What _host needs; all implementations belong to one process and one thread."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when poll has something."""

    def add(self, fd: int) -> None: ...

    def remove(self, fd: int) -> None: ...

    def add_child(self, pid: int) -> None:
        """Watch a child that has not been reaped; OSError if that cannot be."""

    def remove_child(self, pid: int) -> None: ...

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Return the descriptors that are readable and the pids that ended.

        It waits for timeout seconds if there are none yet.
        """

    def descriptors(self) -> list[int]:
        """Return all of its own descriptors, for a forked child to close."""

    def close(self) -> None: ...


class _EpollPoller:
    """What the two for Linux have in common."""

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
    """For Linux 5.3 and later."""

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
        # Closing is not enough: a child that was forked meanwhile may hold it too.
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
    """For systems that tell of an ended child by signal only."""

    def __init__(self) -> None:
        super().__init__()
        self._pids: set[int] = set()
        self._r, self._w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._epoll.register(self._r, select.EPOLLIN)
        self._pid = os.getpid()
        self._before = signal.signal(signal.SIGCHLD, self._on_signal)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        self._wake()
        if callable(self._before):
            self._before(signum, frame)

    def _wake(self) -> None:
        if os.getpid() == self._pid:
            try:
                os.write(self._w, b"\0")
            except BlockingIOError:
                pass  # it is readable as it is

    def add_child(self, pid: int) -> None:
        self._pids.add(pid)
        self._wake()  # its signal may have come before

    def remove_child(self, pid: int) -> None:
        self._pids.discard(pid)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        fds = [fd for fd, _ in self._epoll.poll(timeout)]
        if self._r not in fds:
            return fds, []
        fds.remove(self._r)
        os.read(self._r, 1 << 16)
        return fds, [pid for pid in self._pids if _has_ended(pid)]

    def descriptors(self) -> list[int]:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return [self._fd, self._r, self._w]

    def close(self) -> None:
        signal.signal(signal.SIGCHLD, self._before)
        self._epoll.close()
        os.close(self._r)
        os.close(self._w)


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


class KqueuePoller:
    """For macOS and the BSDs."""

    def __init__(self) -> None:
        select_any: Any = select  # kqueue is unknown to type checkers elsewhere
        self._select = select_any
        self._kqueue = select_any.kqueue()
        self._missed: list[int] = []
        self._closed = False

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
            pass  # told already, and so gone

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        fds: list[int] = []
        pids: list[int] = []
        for event in self._kqueue.control(None, 64, timeout):
            is_child = event.filter == self._select.KQ_FILTER_PROC
            (pids if is_child else fds).append(int(event.ident))
        return fds, pids

    def descriptors(self) -> list[int]:
        return []  # a kqueue does not survive a fork

    def close(self) -> None:
        self._kqueue.close()


def new_poller() -> Poller:
    """Return the best that this system has."""
    if hasattr(select, "kqueue") and not sys.platform.startswith("linux"):
        return KqueuePoller()
    if hasattr(os, "pidfd_open"):
        try:
            os.close(os.pidfd_open(os.getpid()))
            return PidfdPoller()
        except OSError:
            pass  # an old kernel, or a sandbox that forbids it
    return SigchldPoller()
