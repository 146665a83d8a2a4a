"""The program's side of a run: it starts the engine and the fork server, and waits for both.

The program itself forks once. What it has loaded is the fork server's from then on, and
its event loop is left to its other coroutines.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
import time
import warnings
from typing import Any

from ctworker import _engine
from ctworker._config import Program, start_again
from ctworker._control import Control
from ctworker._forkserver import ForkServer
from ctworker._poller import Poller, new_poller
from ctworker._serve import flush_standard_streams
from ctworker._signals import Forwarder
from ctworker._source import FileSource, StreamSource
from ctworker._source_process import SourceChild
from ctworker._version import __version__

FORK_AGAIN = 30.0
"""For how many seconds a fork is tried again where the machine has no room for one."""


class Host:
    """One run of the engine. Make it, run it once."""

    def __init__(self, program: Program, engine: str) -> None:
        self._program = program
        self._engine_path = engine
        self._poller: Poller | None = None
        self._server: int | None = None  # its pid until it has been reaped
        self._engine: subprocess.Popen[bytes] | None = None

    async def run(self) -> int:
        """Return the engine's exit code once it has ended and no child is left."""
        _open_standard_descriptors()
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._signals = Forwarder()
        try:
            self._open()
            try:
                engine = self._start_engine()
                await self._start_server()
                self._poller = poller = new_poller()
                poller.add_child(engine.pid)
                if self._server is not None:
                    poller.add_child(self._server)
                loop.add_reader(poller.fileno(), self._on_end, poller)
                await self._until_over()
            finally:
                self._end(loop)
        finally:
            self._signals.restore()
        return _engine.exit_code(engine.returncode)

    def _open(self) -> None:
        """Make what the three processes have between them."""
        ours, self._theirs = socket.socketpair()
        self._control = Control(ours)
        # The fork server sees by its end that this process is gone.
        self._alive_reader, self._alive = os.pipe()
        self._source: SourceChild | None = None
        if isinstance(self._program.source, StreamSource):
            self._source = SourceChild(self._program.source)

    def _start_engine(self) -> subprocess.Popen[bytes]:
        source: dict[str, Any] | None = None
        stream: int | None = None
        if isinstance(self._program.source, FileSource):
            source = {"file": self._program.source.path}
        elif self._source is not None:
            stream = self._source.reader
            source = {"stream_fd": stream, "name": self._source.name}
        self._engine = engine = _engine.start_engine(
            self._engine_path, self._program.engine_flags, self._theirs.fileno(), stream
        )
        self._signals.attach(engine.pid)
        self._theirs.close()
        if self._source is not None:
            self._source.close_reader()
        hello = {
            "version": 1,
            "sdk": f"ctworker-python {__version__}",
            "ahead": True,
            "argv": start_again(),
            "program": self._program.name,
            "source": source,
        }
        self._control.say({"host": hello})
        return engine

    async def _start_server(self) -> None:
        server = ForkServer(
            self._program, self._control, self._source, self._alive_reader, other_threads()
        )
        flush_standard_streams()  # else the children would print what is in the buffers too
        began, delay = time.monotonic(), 0.01
        while True:
            try:
                pid = _fork()
                break
            except OSError as error:
                if time.monotonic() - began > FORK_AGAIN:
                    raise _engine.fail(f"the fork server cannot be forked: {error}", 1) from None
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)
        if pid == 0:
            os.close(self._alive)
            server.run()
        self._server = pid
        # From here on they are the fork server's.
        self._close_shared()

    async def _until_over(self) -> None:
        try:
            await asyncio.shield(self._over)
        except asyncio.CancelledError:
            # As with a signal: the running tasks get their grace period.
            self._signals.send(signal.SIGTERM)
            await asyncio.shield(self._over)
            raise

    def _on_end(self, poller: Poller) -> None:
        for pid in poller.poll(0)[1]:
            poller.remove_child(pid)
            self._reap(pid)
        if self._server is None and self._engine_ended and not self._over.done():
            self._over.set_result(None)

    @property
    def _engine_ended(self) -> bool:
        return self._engine is None or self._engine.returncode is not None

    def _reap(self, pid: int) -> None:
        if pid == self._server:
            self._server = None
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # the program has waited for any child there is
        elif self._engine is not None and pid == self._engine.pid:
            self._signals.detach()
            self._engine.wait()

    def _close_shared(self) -> None:
        self._control.close()
        self._theirs.close()
        if self._source is not None:
            self._source.close()
            self._source = None
        if self._alive_reader >= 0:
            os.close(self._alive_reader)
            self._alive_reader = -1

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave nothing behind, whatever has happened."""
        if self._poller is not None:
            loop.remove_reader(self._poller.fileno())
            self._poller.close()
        os.close(self._alive)  # the fork server ends, if it has not
        self._close_shared()
        if self._server is not None:
            self._reap(self._server)
        if self._engine is not None and not self._engine_ended:
            self._reap(self._engine.pid)  # it ends when the fork server has


def _fork() -> int:
    with warnings.catch_warnings():
        # Who has threads is told so in words of ours, which name them.
        warnings.filterwarnings(
            "ignore", message=r".*fork\(\) may lead to deadlocks", category=DeprecationWarning
        )
        return os.fork()


def other_threads() -> list[str]:
    """Return the names of the threads besides this one, which a fork does not take along."""
    if threading.active_count() == 1:
        return []
    this: Any = threading.current_thread()
    return [t.name for t in threading.enumerate() if t is not this]


def _open_standard_descriptors() -> None:
    """Keep what is opened from getting the number of a standard stream that is closed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
