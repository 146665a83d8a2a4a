"""The fork server: this process, for as long as Worker.start runs.

It starts the engine, forks when the engine says so, and reaps. It has one thread, and
runs as a callback of the program's event loop, so that other coroutines go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
import traceback
from typing import Any, NoReturn

from ctworker import _engine
from ctworker._children import Children, other_threads
from ctworker._control import Control
from ctworker._data import SHUTDOWN, TERMINATION, WorkerData, notices_from_environment
from ctworker._detach import Detacher
from ctworker._leave import exit_code, leave
from ctworker._poller import new_poller
from ctworker._program import Program, start_again
from ctworker._serve import EngineGoneError, Lines, serve
from ctworker._signals import Forwarder
from ctworker._source import FileSource, StreamSource
from ctworker._source_child import SourceChild
from ctworker._task import TaskRunner
from ctworker._version import __version__

TURN = 0.02
"""For how many seconds the program's event loop may be kept from other things."""


class Host:
    """One run of the engine. Make it, run it once."""

    def __init__(self, program: Program, engine: str) -> None:
        self._program = program
        self._engine_path = engine
        self._poller = new_poller()
        self._children = Children(self._poller)
        self._pids: dict[int, int] = {}  # by the engine's number for the child
        self._ids: dict[int, int] = {}
        self._terminated: set[int] = set()  # were sent SIGTERM, and are reaped on demand
        self._warned = False
        self._source: SourceChild | None = None
        self._variables: dict[str, str | None] = {}  # what the environment had before

    async def run(self) -> int:
        """Return the engine's exit code once it has ended and no child is left."""
        _open_standard_descriptors()
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._signals = Forwarder()
        try:
            self._start()
            loop.add_reader(self._poller.fileno(), self._on_ready)
            try:
                await self._until_over()
            finally:
                loop.remove_reader(self._poller.fileno())
                self._end()
        finally:
            self._signals.restore()
        return _engine.exit_code(self._engine.returncode)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._control = Control(ours)
        source: dict[str, Any] | None = None
        stream: int | None = None
        if isinstance(self._program.source, FileSource):
            source = {"file": self._program.source.path}
        elif isinstance(self._program.source, StreamSource):
            self._source = SourceChild(self._program.source)
            stream = self._source.reader
            source = {"stream_fd": stream, "name": self._program.source.name}
        self._engine: subprocess.Popen[bytes] = _engine.start_engine(
            self._engine_path, self._program.engine_flags, theirs.fileno(), stream
        )
        self._engine_ended = False
        self._connected = True
        self._signals.attach(self._engine.pid)
        theirs.close()
        if self._source is not None:
            self._source.close_reader()
        self._poller.add(self._control.fileno())
        self._poller.add_child(self._engine.pid)
        self._control.say(
            {
                "host": {
                    "version": 1,
                    "sdk": f"ctworker-python {__version__}",
                    "isolation": self._program.isolation,
                    "ahead": True,
                    "argv": start_again(),
                    "program": self._program.name,
                    "source": source,
                }
            }
        )
        self._control.flush()

    async def _until_over(self) -> None:
        try:
            await asyncio.shield(self._over)
        except asyncio.CancelledError:
            # As with a signal: the running tasks get their grace period.
            self._signals.send(signal.SIGTERM)
            await asyncio.shield(self._over)
            raise

    def _on_ready(self) -> None:
        """Do what there is to do, but let the program's other coroutines have their turn.

        Where there are none, the next event is waited for here: after each fork, each
        page that the event loop's round writes to is copied, which takes longer than
        the round itself.
        """
        try:
            wait = TURN if len(asyncio.all_tasks()) == 1 else 0
            until = time.monotonic() + TURN
            while self._connected:
                fds, pids = self._poller.poll(wait)
                for pid in pids:
                    self._ended(pid)
                if fds:
                    self._control.flush()  # a free slot, before a fork takes its time
                    self._receive()
                self._control.flush()
                if not (fds or pids) or time.monotonic() > until:
                    break
            else:
                for pid in self._poller.poll(0)[1]:
                    self._ended(pid)
        except Exception as error:
            if not self._over.done():
                self._over.set_exception(error)
        if self._engine_ended and not self._connected and not self._over.done():
            self._over.set_result(None)

    def _receive(self) -> None:
        messages = self._control.receive()
        if messages is None:
            # The engine has ended, or is about to: its tasks end with it.
            self._poller.remove(self._control.fileno())
            self._connected = False
            self._kill_all()
            return
        for message in messages:
            self._obey(message)

    def _obey(self, message: dict[str, Any]) -> None:
        if "fork" in message:
            self._fork(message)
        elif "signal" in message:
            self._signal(message["signal"], message["sig"])
        elif "reap" in message:
            self._reap(message["reap"])
        elif "start_source" in message:
            self._start_source()
        elif "worker" in message:
            self._set_up(message)

    def _set_up(self, message: dict[str, Any]) -> None:
        memory_limit: int = message["memory_limit"]
        variables: dict[str, str] = dict(message["env"])
        for name, fd in zip((SHUTDOWN, TERMINATION), self._control.take_fds()):
            os.set_inheritable(fd, True)
            variables[f"CTWORKER_{name}_FD"] = str(fd)
        for name, value in variables.items():
            self._variables[name] = os.environ.get(name)
            os.environ[name] = value
        worker = WorkerData(message["worker"], self._program.args, notices_from_environment())
        self._runner = TaskRunner(
            self._program.function, worker, message["max_result_size"], memory_limit
        )
        self._detacher = Detacher(memory_limit)
        if memory_limit and (taken := _address_space()) >= memory_limit:
            self._warn(
                f"the program takes {taken} bytes of address space before any task, and "
                f"--max-memory-allowed-per-task is {memory_limit}: tasks will fail; raise it"
            )

    def _fork(self, message: dict[str, Any]) -> None:
        child: int = message["fork"]
        fds = self._control.take_fds()
        try:
            if not fds:
                raise OSError(24, "the task's socket could not be received")
            self._warn_of_threads()
            pid = self._children.fork()
        except OSError as error:
            self._control.say({"failed": child, "errno": error.errno, "error": error.strerror})
            for fd in fds:
                os.close(fd)
            return
        if pid == 0:
            self._be_child(message, fds)
        for fd in fds:
            os.close(fd)
        self._pids[child] = pid
        self._ids[pid] = child
        self._control.say_line(b'{"forked":%d,"pid":%d}\n' % (child, pid))

    def _be_child(self, message: dict[str, Any], fds: list[int]) -> NoReturn:
        """Be the forked child: it does not return into the program's event loop."""
        code = 1
        try:
            self._shed()
            os.environ["CTWORKER_PROCESS"] = message["mark"]
            os.environ["CTWORKER_SLOT"] = str(message["slot"])
            self._runner.slot = message["slot"]
            claims = fds[1] if len(fds) > 1 else None
            serve(Lines(fds[0]), claims, self._runner, once=message["last"])
            code = 0
        except SystemExit as exit:
            code = exit_code(exit)
        except EngineGoneError:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            leave(code)

    def _shed(self) -> None:
        """Give up what is the parent's, in a forked child."""
        self._detacher.detach()
        for fd in (*self._control.descriptors(), *self._poller.descriptors()):
            os.close(fd)  # and not their objects, which are never looked at again

    def _signal(self, child: int, sig: int) -> None:
        pid = self._pids.get(child)
        if pid is None:
            return  # reaped, and the engine will read so
        self._children.kill(pid, sig)
        if sig == signal.SIGKILL:
            if pid in self._terminated:
                self._terminated.discard(pid)
                if not self._children.watches(pid):
                    self._finish(pid)  # it has ended, and has been waiting for the engine
        else:
            self._terminated.add(pid)

    def _reap(self, child: int) -> None:
        pid = self._pids.get(child)
        if pid is not None:
            self._terminated.discard(pid)
            self._finish(pid)

    def _ended(self, pid: int) -> None:
        if pid == self._engine.pid:
            self._poller.remove_child(pid)
            self._signals.detach()
            self._engine.wait()
            self._engine_ended = True
        elif self._source is not None and pid == self._source.pid:
            error = self._source.ended(self._children.reap(pid))
            self._control.say({"source_ended": {"error": error}})
        elif pid in self._terminated:
            # What it has left in its group gets its time to end too; the engine says when.
            self._children.unwatch(pid)
            self._control.say({"ended": self._ids[pid]})
        elif pid in self._ids:
            self._finish(pid)

    def _finish(self, pid: int) -> None:
        ended = self._children.reap(pid)
        child = self._ids.pop(pid)
        del self._pids[child]
        self._control.say_line(
            b'{"exited":%d,"status":%d,"cpu":%.6f,"maxrss":%d}\n'
            % (child, ended.status, ended.cpu, ended.maxrss)
        )

    def _start_source(self) -> None:
        if self._source is None:
            return
        self._warn_of_threads()
        try:
            pid = self._children.fork()
        except OSError as error:
            self._source.close_writer()
            self._control.say({"source_ended": {"error": f"it could not be forked: {error}"}})
            return
        if pid == 0:
            self._source.be_child(self._shed)
        self._source.started(pid)

    def _warn_of_threads(self) -> None:
        if self._warned or not (names := other_threads()):
            return
        self._warned = True
        self._warn(
            f"the program has threads besides the main one ({', '.join(names)}) as its tasks' "
            "processes are forked; the forks do not have them, and a lock that one of them holds "
            "stays locked. Start them in the task, or use --isolation spawn"
        )

    def _warn(self, text: str) -> None:
        self._control.say({"warning": text})

    def _kill_all(self) -> None:
        self._children.reap_all()
        self._pids.clear()
        self._ids.clear()
        self._terminated.clear()

    def _end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        self._kill_all()
        self._control.close()
        if self._source is not None:
            self._source.close()
        if not self._engine_ended:
            self._engine.wait()  # it ends when its host is gone
            self._signals.detach()
        self._poller.close()
        for name, value in self._variables.items():
            if name.endswith("_FD"):
                os.close(int(os.environ[name]))
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if hasattr(self, "_detacher"):
            self._detacher.close()


def _open_standard_descriptors() -> None:
    """Keep what is opened from getting the number of a standard stream that is closed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(fd, True)


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
