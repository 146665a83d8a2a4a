"""Forward the program's shutdown signals to the engine, which shuts down gracefully."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

from ctworker._postfork import FORWARDED_SIGNALS


class Forwarder:
    """Replaces the program's signal handlers until restore is called.

    Use it only on the main thread. If the program ignores SIGINT or SIGHUP, for example because
    it was started by nohup, the signal remains ignored.
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
            # The program has inherited this setting from its parent. Undo it, because the system
            # does not keep the exit status of children while SIGCHLD is ignored.
            self._previous[signal.SIGCHLD] = signal.SIG_IGN
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            return  # this is a fork that has not reset its signal handlers yet
        if self._engine is None:
            self._pending.append(signum)
        else:
            self.send(signum)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Handle Ctrl-Z: suspend this process and the engine, which would otherwise start tasks."""
        if os.getpid() != self._pid:
            return
        self.send(signal.SIGSTOP)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)  # suspends this process until it receives SIGCONT
        signal.signal(signum, self._suspend)
        self.send(signal.SIGCONT)

    def attach(self, engine: int) -> None:
        """Set the engine's pid, and forward the signals that have arrived before."""
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
        """Stop forwarding signals. Call it before the engine is reaped and its pid is reused."""
        self._engine = None

    def restore(self) -> None:
        """Restore the program's signal handlers."""
        for sig, previous in self._previous.items():
            # None means that the handler was not set from Python. Python cannot restore it.
            signal.signal(sig, signal.SIG_DFL if previous is None else previous)
        self._previous.clear()
