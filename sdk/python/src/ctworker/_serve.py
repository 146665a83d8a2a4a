"""Serve tasks over the task protocol; see docs/protocol.md."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

from ctworker._result import encode_text
from ctworker._task import Task, TaskRunner


class EngineGoneError(Exception):
    """There is nobody to reply to: the engine has ended, or this process is not its own."""


class Lines:
    """Reads lines from a descriptor."""

    def __init__(self, fd: int, begin: Callable[[], None] | None = None) -> None:
        """begin is called when something has come, before it is returned."""
        self.fd = fd
        self._begin = begin
        self._ready: list[bytes] = []  # complete lines, the next one last
        self._parts: list[bytes] = []  # of the line that is incomplete

    def next(self) -> bytes | None:
        """Return the next line without its end; None at end of file. It blocks."""
        while not self._ready:
            try:
                chunk = os.read(self.fd, 1 << 16)
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            if self._begin is not None:
                self._begin()
                self._begin = None
            *lines, rest = chunk.split(b"\n")
            if lines and self._parts:
                lines[0] = b"".join([*self._parts, lines[0]])
                self._parts = []
            if rest:
                self._parts.append(rest)
            lines.reverse()
            self._ready = lines
        return self._ready.pop()


def write_all(fd: int, data: bytes) -> None:
    """Write all of data, in one call as long as the system takes it."""
    written = os.write(fd, data)
    if written < len(data):
        rest = memoryview(data)[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def serve(lines: Lines, claims: int | None, runner: TaskRunner, *, once: bool = False) -> None:
    """Run task after task until end of file; once: one task, which is known to be all.

    claims is the pipe from which each task is claimed, if there is one. SystemExit of
    a task is passed on; EngineGoneError says that nobody listens any more.
    """
    process = os.getpid()
    while (line := lines.next()) is not None:
        try:
            task = Task(line)
        except ValueError:
            continue  # a line of a later version
        if claims is None or _claim(claims):
            reply = runner.run(task)
            if os.getpid() != process:
                raise EngineGoneError  # a fork that the function made and returned in, too
            flush_standard_streams()
        else:
            reply = b'{"task_id":%b,"returned":true}\n' % encode_text(task.id)
        try:
            write_all(lines.fd, reply)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EngineGoneError from error
        if once:
            return


def _claim(pipe: int) -> bool:
    try:
        return len(os.read(pipe, 1)) == 1
    except BlockingIOError:
        return False


def flush_standard_streams() -> None:
    """Flush what has been printed; a stream that is broken or closed is no fault here."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def warm_up(runner: TaskRunner) -> None:
    """Run some tasks in this process, so that its forks find the interpreter's caches full.

    Code that has run a few times is specialized, and methods that were looked up are
    remembered, by writing to pages that each fork would have to copy first: a third
    of the time that a fork takes with a task that does nothing.
    """
    ours, theirs = socket.socketpair()
    claimable, claims = os.pipe()
    try:
        lines = Lines(theirs.fileno())
        for _ in range(_ROUNDS):
            os.write(claims, b"\0")
            ours.sendall(b'{"task_id":"warm-up","attempt":1,"data":{"a":"b"}}\n')
            serve(lines, claimable, runner, once=True)
            ours.recv(1 << 12)
    finally:
        ours.close()
        theirs.close()
        os.close(claims)
        os.close(claimable)


_ROUNDS = 20
"""CPython specializes code after 8 calls at most, and by a few more rounds where it first fails."""
