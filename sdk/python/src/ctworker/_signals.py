"""Forward the program's shutdown signals to the engine, which shuts down gracefully."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from ctworker._postfork import FORWARDED_SIGNALS


class Forwarder:
    """Replaces the program's signal handlers until restore is called.

    Use it on the main thread only. SIGINT and SIGHUP remain ignored if they were ignored,
    as under nohup.
    """

    def __init__(self) -> None:
        """Install the handlers."""
        self._pid = os.getpid()
        self._engine: int | None = None
        self._pending: list[int] = []
        self._previous: dict[int, Any] = {}
        for sig in FORWARDED_SIGNALS:
            previous = signal.getsignal(sig)
            if previous is not signal.SIG_IGN or sig == signal.SIGTERM:
                self._previous[sig] = previous
                signal.signal(sig, self._handle)
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            self._previous[signal.SIGTSTP] = signal.SIG_DFL
            signal.signal(signal.SIGTSTP, self._suspend)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # Inherited from the program's parent: children would have no exit status.
            self._previous[signal.SIGCHLD] = signal.SIG_IGN
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # a fork that has not yet set its own handlers
        if self._engine is None:
            self._pending.append(signum)
        else:
            self.send(signum)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Suspend the engine as well on Ctrl-Z; otherwise it would continue to start tasks."""
        if os.getpid() != self._pid:
            return
        self.send(signal.SIGSTOP)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)  # stops this process until SIGCONT
        signal.signal(signum, self._suspend)
        self.send(signal.SIGCONT)

    def attach(self, engine: int) -> None:
        """Set the engine's pid, and send it the signals received so far."""
        self._engine = engine
        for signum in self._pending:
            self.send(signum)
        self._pending.clear()

    def send(self, signum: int) -> None:
        """Send a signal to the engine, if it is attached and running."""
        if self._engine is not None:
            try:
                os.kill(self._engine, signum)
            except ProcessLookupError:
                pass

    def detach(self) -> None:
        """Stop sending signals. Call it before the engine is reaped and its pid can be reused."""
        self._engine = None

    def restore(self) -> None:
        """Restore the program's handlers."""
        for sig, previous in self._previous.items():
            # None is a handler that was not set from Python and cannot be restored.
            signal.signal(sig, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()
