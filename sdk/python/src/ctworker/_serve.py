"""Run the tasks that this process receives over the task protocol; see docs/protocol.md."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

from ctworker._result import encode_text
from ctworker._task import Task, TaskRunner


class EngineDisconnectedError(Exception):
    """This process cannot send a reply, so it must exit.

    Either the engine has exited, or the task's function has called fork and this process is the
    fork, which is not connected to the engine.
    """


class LineReader:
    """Reads lines from a descriptor."""

    def __init__(self, fd: int, on_first_data: Callable[[], None] | None = None) -> None:
        """Prepare to read from fd. on_first_data is called when the first data has arrived."""
        self.fd = fd
        self._on_first_data = on_first_data
        self._ready: list[bytes] = []  # complete lines in reverse order
        self._parts: list[bytes] = []  # parts of a line whose end has not been read

    def next(self) -> bytes | None:
        """Wait for the next line, and return it without its newline; None at end of file."""
        while not self._ready:
            try:
                chunk = os.read(self.fd, 1 << 16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            if self._on_first_data is not None:
                self._on_first_data()
                self._on_first_data = None
            *lines, remainder = chunk.split(b"\n")
            if lines and self._parts:
                lines[0] = b"".join([*self._parts, lines[0]])
                self._parts = []
            if remainder:
                self._parts.append(remainder)
            lines.reverse()
            self._ready = lines
        return self._ready.pop()


def write_all(fd: int, data: bytes) -> None:
    """Write all of data, with a single system call if possible."""
    written = os.write(fd, data)
    if written < len(data):
        remaining = memoryview(data)[written:]
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]


def serve(lines: LineReader, claims: int | None, runner: TaskRunner, *, once: bool = False) -> None:
    """Run the tasks that arrive on lines, until end of file. If once is true, run only one task.

    Before it runs a task, serve claims the task by reading one byte from the pipe claims. If the
    pipe is empty, the engine has revoked the task to run it elsewhere, and serve returns the task
    to the engine. If claims is None, no task can be revoked, and none is claimed.

    Raises EngineDisconnectedError if a reply cannot be sent, and SystemExit if a task raises it.
    """
    process = os.getpid()
    while (line := lines.next()) is not None:
        try:
            task = Task(line)
        except ValueError:
            continue  # ignore the line: a later version of the protocol may have other messages
        if claims is None or _claim(claims):
            reply = runner.run(task)
            if os.getpid() != process:
                raise EngineDisconnectedError  # the function has called fork; this is the fork
            flush_standard_streams()
        else:
            reply = b'{"task_id":%b,"returned":true}\n' % encode_text(task.id)
        try:
            write_all(lines.fd, reply)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EngineDisconnectedError from error
        if once:
            return


def _claim(pipe: int) -> bool:
    try:
        return len(os.read(pipe, 1)) == 1
    except BlockingIOError:
        return False


def flush_standard_streams() -> None:
    """Flush standard output and standard error. Errors of closed or broken streams are ignored."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def warm_up(runner: TaskRunner) -> None:
    """Run some tasks in this process, to fill the interpreter's caches before it forks.

    After a few calls of a function, CPython specializes the code and caches method lookups, which
    writes to memory pages. Without the warm-up, this would happen in each fork, and the system
    would have to copy the pages. The copies would take a third of the time that a fork and a task
    that does nothing take together.
    """
    engine_end, task_end = socket.socketpair()
    claims, permits = os.pipe()
    try:
        lines = LineReader(task_end.fileno())
        for _ in range(_ROUNDS):
            os.write(permits, b"\0")
            engine_end.sendall(b'{"task_id":"warm-up","attempt":1,"data":{"a":"b"}}\n')
            serve(lines, claims, runner, once=True)
            engine_end.recv(1 << 12)
    finally:
        engine_end.close()
        task_end.close()
        os.close(permits)
        os.close(claims)


_ROUNDS = 20
"""The number of tasks that warm_up runs.

CPython specializes code after at most 8 calls. If that fails, it tries again after a few more."""
