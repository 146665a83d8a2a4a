"""The fork server: a fork of the program that forks a process whenever the engine says so.

It has one thread and does one thing at a time. What the program loaded is in its memory
as it was when the run began, and each of its forks begins from there.
"""

from __future__ import annotations

import gc
import os
import signal
import time
import traceback
from typing import Any, NoReturn

from ctworker._children import Children
from ctworker._config import Program
from ctworker._control import Control
from ctworker._data import SHUTDOWN, TERMINATION, WorkerData, notices_from_environment
from ctworker._environment import forget_outer_run
from ctworker._exit import leave_after
from ctworker._orphans import Begun, Orphans, mark_memory
from ctworker._poller import new_poller
from ctworker._postfork import Detacher, Shedder, adopt_orphans, set_variable
from ctworker._randomness import Generators
from ctworker._serve import Lines, serve, warm_up
from ctworker._source_process import SourceChild
from ctworker._task import TaskRunner

LAST_SWEEPS = 5.0
"""For how many seconds the end of killed orphans is waited for, before they are left."""


class ForkServer:
    """Made by the program, which forks; run in the fork."""

    def __init__(
        self,
        program: Program,
        control: Control,
        source: SourceChild | None,
        alive: int,
        threads: list[str],
    ) -> None:
        """Prepare a fork server, which does not start until run is called.

        alive is a pipe that ends when the program does. threads has the names of the
        program's threads besides the main one.
        """
        self._program = program
        self._control = control
        self._source = source
        self._alive = alive
        self._threads = threads
        self._generators: Generators | None = None
        self._shedder = Shedder()
        self._pids: dict[int, int] = {}  # by the engine's number for the child
        self._ids: dict[int, int] = {}
        self._terminated: set[int] = set()  # were sent SIGTERM, and are reaped on demand
        self._orphans = Orphans()
        self._begun = Begun()

    def run(self) -> NoReturn:
        """Serve until the engine or the program has ended, leave nothing, and exit."""
        code = 1
        try:
            self._shedder.shed()
            adopt_orphans()
            gc.collect()
            self._poller = new_poller()
            self._children = Children(self._poller)
            try:
                self._serve()
            finally:
                self._children.reap_all()
                self._reap_orphans()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _prepare_forks(self, isolation: str) -> None:
        """Warn about what a fork does not keep, and find the generators to reseed."""
        spawn = isolation == "spawn"  # then only the task source is forked
        if self._threads and (not spawn or self._source is not None):
            text = (
                f"the program has threads besides the main one ({', '.join(self._threads)}) as "
                "its fork server is forked; the tasks do not have them, and a lock that one of "
                "them holds stays locked. Start them in the task, or use --isolation spawn"
            )
            self._control.say({"warning": text})
        if not spawn:
            self._generators = Generators()
            for text in self._generators.warnings:
                self._control.say({"warning": text})

    def _serve(self) -> None:
        control = self._control
        self._poller.add(control.fileno())
        self._poller.add(self._alive)
        while True:
            control.flush()
            fds, pids = self._poller.poll(-1)
            for pid in pids:
                self._ended(pid)
            if self._alive in fds:
                return
            if fds:
                control.flush()  # a free slot, before a fork takes its time
                messages = control.receive()
                if messages is None:
                    return  # the engine has ended, or is about to
                for message in messages:
                    self._obey(message)

    def _obey(self, message: dict[str, Any]) -> None:
        if "fork" in message:
            self._fork(message)
        elif "signal" in message:
            self._signal(message["signal"], message["sig"])
        elif "reap" in message:
            self._reap(message["reap"])
        elif "sweep" in message:
            self._sweep()
        elif "start_source" in message:
            self._start_source()
        elif "ping" in message:
            self._control.say_line(b'{"pong":true}\n')
        elif "worker" in message:
            self._set_up(message)

    def _set_up(self, message: dict[str, Any]) -> None:
        memory_limit: int = message["memory_limit"]
        self._control.say({"server": os.getpid()})
        self._prepare_forks(message["isolation"])
        self._mark = mark_memory(message["run"])
        forget_outer_run()
        for name, fd in zip((SHUTDOWN, TERMINATION), self._control.take_fds()):
            os.set_inheritable(fd, True)
            os.environ[f"CTWORKER_{name}_FD"] = str(fd)
        os.environ.update(message["env"])
        worker = self._program.worker_data(message["worker"], notices_from_environment())
        max_result: int = message["max_result_size"]
        self._runner = TaskRunner(self._program.function, worker, max_result, memory_limit)
        self._detacher = Detacher(memory_limit)
        if memory_limit and (taken := _address_space()) >= memory_limit:
            text = (
                f"the program takes {taken} bytes of address space before any task, and "
                f"--max-memory-allowed-per-task is {memory_limit}: tasks will fail; raise it"
            )
            self._control.say({"warning": text})
        warm_up(TaskRunner(_nothing, worker, max_result))
        # What exists now is left alone by the children's collector, which would have
        # its pages copied.
        gc.freeze()

    def _fork(self, message: dict[str, Any]) -> None:
        child: int = message["fork"]
        fds = self._control.take_fds()
        try:
            if not fds:
                raise OSError(24, "the task's socket could not be received")
            pid = self._children.fork()
        except OSError as error:
            self._control.say({"failed": child, "errno": error.errno, "error": error.strerror})
            for fd in fds:
                os.close(fd)
            return
        if pid == 0:
            leave_after(self._run_tasks, message, fds)
        for fd in fds:
            os.close(fd)
        self._pids[child] = pid
        self._ids[pid] = child
        self._control.say_line(b'{"forked":%d,"pid":%d}\n' % (child, pid))

    def _run_tasks(self, message: dict[str, Any], fds: list[int]) -> None:
        """Run tasks, in a forked child."""
        self._detach()
        if self._generators is not None:
            self._generators.reseed()
        slot: int = message["slot"]
        set_variable(b"CTWORKER_PROCESS", message["mark"].encode())
        set_variable(b"CTWORKER_SLOT", b"%d" % slot)
        self._runner.slot = slot
        claims = fds[1] if len(fds) > 1 else None
        serve(Lines(fds[0], self._begun.begin), claims, self._runner, once=message["last"])

    def _detach(self) -> None:
        """Give up what is the server's, in a forked child."""
        self._detacher.detach()
        # The descriptors and not their objects, which are never looked at again.
        os.close(self._alive)
        for fd in self._control.descriptors():
            os.close(fd)
        for fd in self._poller.descriptors():
            os.close(fd)

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
        if pid in self._terminated:
            # What it has left in its group gets its time to end too; the engine says when.
            self._children.unwatch(pid)
            self._control.say({"ended": self._ids[pid]})
        elif pid in self._ids:
            self._finish(pid)
        elif self._source is not None and pid == self._source.pid:
            error = self._source.ended(self._children.reap(pid))
            self._control.say({"source_ended": {"error": error}})

    def _finish(self, pid: int) -> None:
        self._begun.forget(pid)
        ended = self._children.reap(pid)
        child = self._ids.pop(pid)
        del self._pids[child]
        self._control.say_line(
            b'{"exited":%d,"status":%d,"cpu":%.6f,"maxrss":%d}\n'
            % (child, ended.status, ended.cpu, ended.maxrss)
        )

    def _sweep(self) -> None:
        self._orphans.sweep(self._children.pids(), self._begun.of(self._ids))

    def _reap_orphans(self) -> None:
        """Leave no orphan behind: none may be of a task that runs on."""
        until = time.monotonic() + LAST_SWEEPS
        while self._orphans.sweep(set(), set()) and time.monotonic() < until:
            time.sleep(0.005)  # until those that were killed have ended, and theirs have come

    def _start_source(self) -> None:
        if self._source is None:
            return
        try:
            pid = self._children.fork()
        except OSError as error:
            self._source.close_writer()
            self._control.say({"source_ended": {"error": f"it could not be forked: {error}"}})
            return
        if pid == 0:
            self._source.be_child(self._detach)
        self._source.started(pid)


def _nothing(task_id: str, task_data: Any, worker_data: WorkerData) -> tuple[bool, bool]:
    return False, True


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
