"""Be a process that the engine has started to run tasks: see docs/protocol.md."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
from typing import NoReturn

from ctworker import _postfork
from ctworker._config import Program
from ctworker._data import notices_from_environment
from ctworker._engine import fail
from ctworker._exit import leave_after
from ctworker._serve import Lines, serve, write_all
from ctworker._task import TaskRunner
from ctworker._version import __version__

FD_VAR = "CTWORKER_FD"
CLAIM_FD_VAR = "CTWORKER_CLAIM_FD"


class Connection:
    """The descriptors that the engine has given this process."""

    def __init__(self, fd: int, claims: int | None) -> None:
        self.fd = fd
        self.claims = claims


def take_connection() -> Connection | None:
    """Return the connection to the engine, and leave no trace of it; None if there is none.

    What a task starts must not take itself for a child of the engine.
    """
    fd = os.environ.pop(FD_VAR, "")
    claims = os.environ.pop(CLAIM_FD_VAR, "")
    if not fd.isdigit():
        return None
    if not _is_socket(int(fd)):
        # Starting an engine here could start this program again in an endless loop.
        raise fail(
            f"{FD_VAR}={fd} is not a connected socket: the variable was inherited from the "
            "process that started this one; unset it"
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
    """Run tasks until there are no more, and end the process."""
    # Not within this coroutine: where one runs, a task could not run its own loop.
    loop = asyncio.get_running_loop()
    loop.call_soon(leave_after, _run_tasks, program, connection)
    await loop.create_future()
    raise AssertionError("unreachable")


def _run_tasks(program: Program, connection: Connection) -> None:
    _postfork.take_over()
    lines = Lines(connection.fd)
    runner = _greet(program, lines, ahead=connection.claims is not None)
    if runner is not None:
        serve(lines, connection.claims, runner)


def _greet(program: Program, lines: Lines, *, ahead: bool) -> TaskRunner | None:
    """Read hello and say ready; None if the engine ends before."""
    line = lines.next()
    if line is None:
        return None
    hello = json.loads(line)["hello"]
    if hello["version"] != 1:
        raise SystemExit(
            f"ctworker: the engine speaks version {hello['version']} of the task protocol, and "
            f"the Python package {__version__} version 1; use the two that came together"
        )
    ready = {"version": 1, "ahead": ahead, "sdk": f"ctworker-python {__version__}"}
    write_all(lines.fd, json.dumps({"ready": ready}).encode() + b"\n")
    worker = program.worker_data(hello["worker"], notices_from_environment())
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    runner = TaskRunner(
        program.function,
        worker,
        hello["max_result_size"],
        limit if limit != resource.RLIM_INFINITY else 0,
    )
    runner.slot = hello["slot"]
    return runner
