"""Run tasks from the task protocol; see docs/protocol.md."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

from ctworker._result import encode_text
from ctworker._task import Task, TaskRunner


class EngineDisconnectedError(Exception):
    """A reply cannot be sent.

    Either the engine has exited, or this process is a fork that the task's function made.
    """


class LineReader:
    """Reads lines from a descriptor."""

    def __init__(self, fd: int, on_first_data: Callable[[], None] | None = None) -> None:
        """Prepare to read from fd. on_first_data is called once, when the first data is read."""
        self.fd = fd
        self._on_first_data = on_first_data
        self._ready: list[bytes] = []  # complete lines, the next one last
        self._parts: list[bytes] = []  # the parts of the incomplete line

    def next(self) -> bytes | None:
        """Return the next line without its newline; None at end of file. It blocks."""
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
    """Write all of data, in a single system call if possible."""
    written = os.write(fd, data)
    if written < len(data):
        remaining = memoryview(data)[written:]
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]


def serve(lines: LineReader, claims: int | None, runner: TaskRunner, *, once: bool = False) -> None:
    """Run tasks until end of file; with once, return after the first task.

    claims is the pipe from which each task is claimed; None if tasks need not be claimed.
    A task's SystemExit is passed on. Raises EngineDisconnectedError if a reply cannot be sent.
    """
    process = os.getpid()
    while (line := lines.next()) is not None:
        try:
            task = Task(line)
        except ValueError:
            continue  # a message of a later protocol version
        if claims is None or _claim(claims):
            reply = runner.run(task)
            if os.getpid() != process:
                raise EngineDisconnectedError  # the function returned in a fork that it made
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
    """Flush standard output and standard error, and ignore closed or broken streams."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def warm_up(runner: TaskRunner) -> None:
    """Run some tasks in this process, to fill the interpreter's caches before it forks.

    After a few runs CPython specializes code and caches method lookups, which writes to
    memory pages. Without this warm-up each fork would have to copy these pages: a third of
    the total time of a fork with a task that does nothing.
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
"""CPython specializes code after at most 8 calls; a failed specialization takes a few more."""
