"""Start the engine and the fork server from the user's process, and wait for both.

The user's process forks only once, to start the fork server. The fork server has a copy of
everything that the program has loaded, and forks the processes of tasks. The program's event loop
can meanwhile run other coroutines.
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
from ctworker._config import Program, restart_command
from ctworker._control import Control
from ctworker._forkserver import ForkServer
from ctworker._poller import Poller, new_poller
from ctworker._serve import flush_standard_streams
from ctworker._signals import Forwarder
from ctworker._source import FileSource, StreamSource
from ctworker._source_process import SourceProcess
from ctworker._version import __version__

FORK_RETRY_TIMEOUT = 30.0
"""The maximum time in seconds to retry the fork that starts the fork server."""


class Supervisor:
    """One run of the engine. Call run once."""

    def __init__(self, program: Program, engine: str) -> None:
        """Prepare a run. engine is the path of the engine."""
        self._program = program
        self._engine_path = engine
        self._poller: Poller | None = None
        self._server: int | None = None  # pid of the fork server until it has been reaped
        self._engine: subprocess.Popen[bytes] | None = None

    async def run(self) -> int:
        """Run the engine and the fork server until both exit. Return the engine's exit code."""
        _open_standard_descriptors()
        loop = asyncio.get_running_loop()
        self._finished: asyncio.Future[None] = loop.create_future()
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
                loop.add_reader(poller.fileno(), self._on_child_exit, poller)
                await self._wait()
            finally:
                self._close(loop)
        finally:
            self._signals.restore()
        return _engine.exit_code(engine.returncode)

    def _open(self) -> None:
        """Create the sockets and pipes between the program, the fork server and the engine."""
        server_socket, self._engine_socket = socket.socketpair()
        self._control = Control(server_socket)
        # Only this process holds the write end of this pipe. When this process exits, the fork
        # server, which holds the read end, reads end of file and exits too.
        self._alive_reader, self._alive_writer = os.pipe()
        self._source: SourceProcess | None = None
        if isinstance(self._program.source, StreamSource):
            self._source = SourceProcess(self._program.source)

    def _start_engine(self) -> subprocess.Popen[bytes]:
        source: dict[str, Any] | None = None
        stream: int | None = None
        if isinstance(self._program.source, FileSource):
            source = {"file": self._program.source.path}
        elif self._source is not None:
            stream = self._source.reader
            source = {"stream_fd": stream, "name": self._source.name}
        self._engine = engine = _engine.start_engine(
            self._engine_path, self._program.engine_flags, self._engine_socket.fileno(), stream
        )
        self._signals.attach(engine.pid)
        self._engine_socket.close()
        if self._source is not None:
            self._source.close_reader()
        hello = {
            "version": 1,
            "sdk": f"ctworker-python {__version__}",
            "ahead": True,
            "argv": restart_command(),
            "program": self._program.name,
            "source": source,
        }
        self._control.write({"host": hello})
        return engine

    async def _start_server(self) -> None:
        server = ForkServer(
            self._program, self._control, self._source, self._alive_reader, other_threads()
        )
        flush_standard_streams()  # otherwise forks would print the buffered output again
        started, delay = time.monotonic(), 0.01
        while True:
            try:
                pid = _fork()
                break
            except OSError as error:
                if time.monotonic() - started > FORK_RETRY_TIMEOUT:
                    raise _engine.fatal(
                        "cannot fork the fork server, the process that starts the tasks: "
                        f"{error}; gave up after {FORK_RETRY_TIMEOUT:.0f} seconds",
                        1,
                    ) from None
            await asyncio.sleep(delay)
            delay = min(2 * delay, 1.0)
        if pid == 0:
            os.close(self._alive_writer)
            server.run()
        self._server = pid
        # The fork server owns the sockets and pipes now.
        self._close_shared()

    async def _wait(self) -> None:
        try:
            await asyncio.shield(self._finished)
        except asyncio.CancelledError:
            # Shut down as after a signal: running tasks have --shutdown-grace-period to finish.
            self._signals.send(signal.SIGTERM)
            await asyncio.shield(self._finished)
            raise

    def _on_child_exit(self, poller: Poller) -> None:
        for pid in poller.poll(0)[1]:
            poller.remove_child(pid)
            self._reap(pid)
        if self._server is None and self._engine_exited and not self._finished.done():
            self._finished.set_result(None)

    @property
    def _engine_exited(self) -> bool:
        return self._engine is None or self._engine.returncode is not None

    def _reap(self, pid: int) -> None:
        if pid == self._server:
            self._server = None
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass  # code of the user's program has reaped it
        elif self._engine is not None and pid == self._engine.pid:
            self._signals.detach()
            self._engine.wait()

    def _close_shared(self) -> None:
        self._control.close()
        self._engine_socket.close()
        if self._source is not None:
            self._source.close()
            self._source = None
        if self._alive_reader >= 0:
            os.close(self._alive_reader)
            self._alive_reader = -1

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close all descriptors, and wait until the fork server and the engine have exited.

        It is also called after an error.
        """
        if self._poller is not None:
            loop.remove_reader(self._poller.fileno())
            self._poller.close()
        os.close(self._alive_writer)  # if the fork server still runs, this makes it exit
        self._close_shared()
        if self._server is not None:
            self._reap(self._server)
        if self._engine is not None and not self._engine_exited:
            self._reap(self._engine.pid)  # the engine exits when the fork server has exited


def _fork() -> int:
    with warnings.catch_warnings():
        # ForkServer warns about threads too, and names the threads.
        warnings.filterwarnings(
            "ignore", message=r".*fork\(\) may lead to deadlocks", category=DeprecationWarning
        )
        return os.fork()


def other_threads() -> list[str]:
    """Return the names of all threads except the current one. A fork does not have them."""
    if threading.active_count() == 1:
        return []
    this: Any = threading.current_thread()
    return [t.name for t in threading.enumerate() if t is not this]


def _open_standard_descriptors() -> None:
    """Open /dev/null for each of the descriptors 0, 1 and 2 that is closed.

    Otherwise a file opened later could get such a number, and receive the program's output.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)
