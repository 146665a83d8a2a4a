"""The fork server: a fork of the program, which forks a process when the engine requests one.

The forked processes, called children, run the tasks. Each starts with what the program had
loaded when the run began. The fork server has a single thread, because only the thread that
calls fork exists in a child.
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
from ctworker._data import SHUTDOWN, TERMINATION, WorkerData, notifications_from_environment
from ctworker._environment import remove_outer_settings
from ctworker._exit import run_and_exit
from ctworker._orphans import Orphans, StartedTasks, mark_memory
from ctworker._poller import new_poller
from ctworker._postfork import ChildSetup, ForkServerSetup, adopt_orphans, set_variable
from ctworker._randomness import Generators
from ctworker._serve import LineReader, serve, warm_up
from ctworker._source_process import SourceProcess
from ctworker._task import TaskRunner

FINAL_SWEEP_TIMEOUT = 5.0
"""The maximum time in seconds to wait at the end for killed orphans to exit."""


class ForkServer:
    """The fork server. The program creates the object, forks, and calls run in the fork."""

    def __init__(
        self,
        program: Program,
        control: Control,
        source: SourceProcess | None,
        alive: int,
        threads: list[str],
    ) -> None:
        """Store the arguments.

        alive is the read end of a pipe. Only the program holds the write end, so alive becomes
        readable when the program exits. threads are the names of the program's threads other
        than the main thread.
        """
        self._program = program
        self._control = control
        self._source = source
        self._alive = alive
        self._threads = threads
        self._generators: Generators | None = None
        self._setup = ForkServerSetup()
        self._pids: dict[int, int] = {}  # maps the engine's id of a child to the child's pid
        self._ids: dict[int, int] = {}  # maps the child's pid to the engine's id
        # The pids of children that have received a signal other than SIGKILL. The fork server
        # reaps such a child only when the engine sends "reap" or SIGKILL.
        self._terminated: set[int] = set()
        self._orphans = Orphans()
        self._started = StartedTasks()

    def run(self) -> NoReturn:
        """Handle messages until the engine or the program exits. Then kill all children, and exit.

        An exception also ends run. It is printed, and the exit code is 1.
        """
        code = 1
        try:
            self._setup.apply()
            adopt_orphans()
            gc.collect()
            self._poller = new_poller()
            self._children = Children(self._poller)
            try:
                self._serve()
            finally:
                self._children.reap_all()
                self._kill_orphans()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def _prepare_forks(self, isolation: str) -> None:
        """Find the random generators to reseed. Warn about threads, which do not exist in forks."""
        spawn = isolation == "spawn"  # tasks do not run in forks; only the task source does
        if self._threads and (not spawn or self._source is not None):
            text = (
                f"the program has started threads ({', '.join(self._threads)}), which do not "
                "exist in the forked processes that run tasks. If such a thread holds a lock, a "
                "task that needs the lock waits forever. Start threads in the task's function, or "
                "use --isolation spawn"
            )
            self._control.write({"warning": text})
        if not spawn:
            self._generators = Generators()
            for text in self._generators.warnings:
                self._control.write({"warning": text})

    def _serve(self) -> None:
        control = self._control
        self._poller.add(control.fileno())
        self._poller.add(self._alive)
        while True:
            control.flush()
            fds, pids = self._poller.poll(-1)
            for pid in pids:
                self._on_exit(pid)
            if self._alive in fds:
                return
            if fds:
                control.flush()  # before the next fork, because a reported exit frees a slot
                messages = control.receive()
                if messages is None:
                    return  # the engine has closed the socket
                for message in messages:
                    self._handle_message(message)

    def _handle_message(self, message: dict[str, Any]) -> None:
        if "fork" in message:
            self._fork(message)
        elif "signal" in message:
            self._signal(message["signal"], message["sig"])
        elif "reap" in message:
            self._on_reap(message["reap"])
        elif "sweep" in message:
            self._sweep()
        elif "start_source" in message:
            self._start_source()
        elif "ping" in message:
            self._control.write_line(b'{"pong":true}\n')
        elif "worker" in message:
            self._configure(message)

    def _configure(self, message: dict[str, Any]) -> None:
        memory_limit: int = message["memory_limit"]
        self._control.write({"server": os.getpid()})
        self._prepare_forks(message["isolation"])
        self._marker = mark_memory(message["run"])
        remove_outer_settings()
        for name, fd in zip((SHUTDOWN, TERMINATION), self._control.next_fds()):
            os.set_inheritable(fd, True)
            os.environ[f"CTWORKER_{name}_FD"] = str(fd)
        os.environ.update(message["env"])
        worker = self._program.worker_data(message["worker"], notifications_from_environment())
        max_result: int = message["max_result_size"]
        self._runner = TaskRunner(self._program.function, worker, max_result, memory_limit)
        self._child_setup = ChildSetup(memory_limit)
        if memory_limit and (used := _address_space()) >= memory_limit:
            text = (
                f"tasks will fail, because the program itself already uses {used} bytes of address "
                f"space, and --max-memory-allowed-per-task allows {memory_limit} bytes; raise "
                "--max-memory-allowed-per-task"
            )
            self._control.write({"warning": text})
        warm_up(TaskRunner(_nothing, worker, max_result))
        # Exclude the existing objects from garbage collection in the children. The collector
        # writes to each object that it visits, and the system would have to copy the object's
        # memory page.
        gc.freeze()

    def _fork(self, message: dict[str, Any]) -> None:
        child: int = message["fork"]
        fds = self._control.next_fds()
        try:
            if not fds:
                raise OSError(
                    24, "the fork server could not receive the task's socket: too many open files"
                )
            pid = self._children.fork()
        except OSError as error:
            self._control.write({"failed": child, "errno": error.errno, "error": error.strerror})
            for fd in fds:
                os.close(fd)
            return
        if pid == 0:
            run_and_exit(self._run_tasks, message, fds)
        for fd in fds:
            os.close(fd)
        self._pids[child] = pid
        self._ids[pid] = child
        self._control.write_line(b'{"forked":%d,"pid":%d}\n' % (child, pid))

    def _run_tasks(self, message: dict[str, Any], fds: list[int]) -> None:
        """Run tasks. It is called in a child."""
        self._set_up_child()
        if self._generators is not None:
            self._generators.reseed()
        slot: int = message["slot"]
        set_variable(b"CTWORKER_PROCESS", message["mark"].encode())
        set_variable(b"CTWORKER_SLOT", b"%d" % slot)
        self._runner.slot = slot
        streams: list[int] = message.get("streams", [])
        for stream in reversed(streams):
            fd = fds.pop()
            os.dup2(fd, stream)
            os.close(fd)
        claims = fds[1] if len(fds) > 1 else None
        serve(LineReader(fds[0], self._started.mark), claims, self._runner, once=message["last"])

    def _set_up_child(self) -> None:
        """Release the resources of the fork server. It is called in a child."""
        self._child_setup.apply()
        # Close only the descriptors. The child does not use the objects that own them.
        os.close(self._alive)
        for fd in self._control.descriptors():
            os.close(fd)
        for fd in self._poller.descriptors():
            os.close(fd)

    def _signal(self, child: int, sig: int) -> None:
        pid = self._pids.get(child)
        if pid is None:
            return  # the child has been reaped, and its exit has been reported
        self._children.signal_group(pid, sig)
        if sig == signal.SIGKILL:
            if pid in self._terminated:
                self._terminated.discard(pid)
                if not self._children.is_watched(pid):
                    self._reap(pid)  # the child has exited; only its group was still shutting down
        else:
            self._terminated.add(pid)

    def _on_reap(self, child: int) -> None:
        pid = self._pids.get(child)
        if pid is not None:
            self._terminated.discard(pid)
            self._reap(pid)

    def _on_exit(self, pid: int) -> None:
        if pid in self._terminated:
            # The other processes of the child's group may still be shutting down. The engine
            # sends "reap" when their time for this is over.
            self._children.unwatch(pid)
            self._control.write({"ended": self._ids[pid]})
        elif pid in self._ids:
            self._reap(pid)
        elif self._source is not None and pid == self._source.pid:
            error = self._source.error_of(self._children.reap(pid))
            self._control.write({"source_ended": {"error": error}})

    def _reap(self, pid: int) -> None:
        """Kill the process group of a child, reap the child and report its exit."""
        self._started.clear(pid)
        exited = self._children.reap(pid)
        child = self._ids.pop(pid)
        del self._pids[child]
        self._control.write_line(
            b'{"exited":%d,"status":%d,"cpu":%.6f,"maxrss":%d}\n'
            % (child, exited.status, exited.cpu, exited.maxrss)
        )

    def _sweep(self) -> None:
        """Reap and kill orphans: processes that tasks left behind outside of their groups."""
        self._orphans.sweep(self._children.pids(), self._started.among(self._ids))

    def _kill_orphans(self) -> None:
        """Kill all orphans. Call it when all tasks have ended."""
        deadline = time.monotonic() + FINAL_SWEEP_TIMEOUT
        while self._orphans.sweep(set(), set()) and time.monotonic() < deadline:
            # Killed orphans need time to exit. Their children then become orphans too.
            time.sleep(0.005)

    def _start_source(self) -> None:
        if self._source is None:
            return
        try:
            pid = self._children.fork()
        except OSError as error:
            self._source.close_writer()
            self._control.write({"source_ended": {"error": f"cannot fork its process: {error}"}})
            return
        if pid == 0:
            self._source.run_child(self._set_up_child)
        self._source.on_forked(pid)


def _nothing(task_id: str, task_data: Any, worker_data: WorkerData) -> tuple[bool, bool]:
    return False, True


def _address_space() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
