"""Pass the signals that end this program on to the engine, which ends it in good order."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from ctworker._postfork import PASSED_ON


class Forwarder:
    """Takes the place of the program's handlers until restore. Main thread only.

    A SIGINT or SIGHUP that is ignored stays so, as with nohup.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._engine: int | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}
        for sig in PASSED_ON:
            before = signal.getsignal(sig)
            if before is not signal.SIG_IGN or sig == signal.SIGTERM:
                self._before[sig] = before
                signal.signal(sig, self._handle)
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._before[signal.SIGTSTP] = signal.SIG_DFL
            signal.signal(signal.SIGTSTP, self._pause)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Inherited from whoever started the program: children would leave no exit code.
            self._before[signal.SIGCHLD] = signal.SIG_IGN
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a fork that has not yet set its own handlers
        if self._engine is None:
            self._early.append(signum)
        else:
            self.send(signum)

    def _pause(self, signum: int, frame: FrameType | None) -> None:
        """Have Ctrl-Z stop the engine too, which else would go on starting tasks."""
        if os.getpid() != self._pid:
            return
        self.send(signal.SIGSTOP)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)  # this process stops here, until SIGCONT
        signal.signal(signum, self._pause)
        self.send(signal.SIGCONT)

    def attach(self, engine: int) -> None:
        """Name the engine's pid; signals that have come before are sent now."""
        self._engine = engine
        for signum in self._early:
            self.send(signum)
        self._early.clear()

    def send(self, signum: int) -> None:
        """Send a signal to the engine, if it is not yet over."""
        if self._engine is not None:
            try:
                os.kill(self._engine, signum)
            except ProcessLookupError:
                pass

    def detach(self) -> None:
        """The engine is about to be reaped: its pid may become another's."""
        self._engine = None

    def restore(self) -> None:
        """Put the program's handlers back."""
        for sig, before in self._before.items():
            # None: it was not set from Python, and cannot be put back from it.
            signal.signal(sig, signal.SIG_DFL if before is None else before)
        self._before.clear()
