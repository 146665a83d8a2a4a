"""What tasks leave behind outside of their process groups, such as in a session of its own.

The system makes the fork server its parent. It may be of any task that ran when it was
first seen, and is killed once those have all ended.
"""

from __future__ import annotations

import os
import signal


class Orphans:
    """The fork server's children that it has not forked."""

    def __init__(self) -> None:
        self._born: dict[int, int] = {}  # pid: the last task's process when it was first seen

    def sweep(self, known: set[int], last: int, oldest: int | None) -> int:
        """Reap those that have ended, and kill those whose time is over.

        known are the pids that this process has forked; last is the number of the last
        child forked, oldest that of the first that lives, None if none does. Returns
        how many there are left.
        """
        left = 0
        for pid in _children() - known:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self._born.pop(pid, None)
                    continue
            except ChildProcessError:
                continue
            left += 1
            born = self._born.setdefault(pid, last)
            if oldest is None or oldest > born:
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
