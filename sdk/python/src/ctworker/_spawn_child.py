"""A process that the engine spawned to run tasks; see docs/protocol.md."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
from typing import NoReturn

from ctworker import _postfork
from ctworker._config import Program
from ctworker._data import notifications_from_environment
from ctworker._engine import fatal
from ctworker._exit import run_and_exit
from ctworker._serve import LineReader, serve, write_all
from ctworker._task import TaskRunner
from ctworker._version import __version__

FD_VAR = "CTWORKER_FD"
CLAIM_FD_VAR = "CTWORKER_CLAIM_FD"


class Connection:
    """The descriptors that this process has inherited from the engine."""

    def __init__(self, fd: int, claims: int | None) -> None:
        """Store the descriptors: fd is the task socket, claims the pipe of claims if any."""
        self.fd = fd
        self.claims = claims


def inherited_connection() -> Connection | None:
    """Return the connection to the engine; None if the engine did not start this process.

    The connection's variables are removed from the environment and its descriptors are not
    inherited, so that a program started by a task does not use them. If the variable does not
    name a socket, print an error and raise SystemExit(2).
    """
    fd = os.environ.pop(FD_VAR, "")
    claims = os.environ.pop(CLAIM_FD_VAR, "")
    if not fd.isdigit():
        return None
    if not _is_socket(int(fd)):
        # Starting an engine here could start this program again in an endless loop.
        raise fatal(
            f"{FD_VAR}={fd} is not a connected socket: unset the variable, which was inherited "
            "from the process that started this one"
        )
    connection = Connection(int(fd), int(claims) if claims.isdigit() else None)
    os.set_inheritable(connection.fd, False)
    if connection.claims is not None:
        os.set_inheritable(connection.claims, False)
    return connection


def _is_socket(fd: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False


async def serve_spawned(program: Program, connection: Connection) -> NoReturn:
    """Run tasks until end of file, and exit the process."""
    # Not within this coroutine: a task could not run its own event loop inside a coroutine.
    loop = asyncio.get_running_loop()
    loop.call_soon(run_and_exit, _run_tasks, program, connection)
    await loop.create_future()
    raise AssertionError("unreachable")


def _run_tasks(program: Program, connection: Connection) -> None:
    _postfork.set_up_spawned()
    lines = LineReader(connection.fd)
    runner = _handshake(program, lines, ahead=connection.claims is not None)
    if runner is not None:
        serve(lines, connection.claims, runner)


def _handshake(program: Program, lines: LineReader, *, ahead: bool) -> TaskRunner | None:
    """Read the engine's hello and reply ready; return None if the engine exits before."""
    line = lines.next()
    if line is None:
        return None
    hello = json.loads(line)["hello"]
    if hello["version"] != 1:
        raise SystemExit(
            f"ctworker: the engine uses version {hello['version']} of the task protocol, but the "
            f"Python package {__version__} uses version 1; use the engine that the package contains"
        )
    ready = {"version": 1, "ahead": ahead, "sdk": f"ctworker-python {__version__}"}
    write_all(lines.fd, json.dumps({"ready": ready}).encode() + b"\n")
    worker = program.worker_data(hello["worker"], notifications_from_environment())
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    runner = TaskRunner(
        program.function,
        worker,
        hello["max_result_size"],
        limit if limit != resource.RLIM_INFINITY else 0,
    )
    runner.slot = hello["slot"]
    return runner
