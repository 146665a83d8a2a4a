"""Run tasks in a process that the engine has spawned.

With --isolation spawn, the engine starts the whole program again in each process that runs tasks.
docs/protocol.md describes the protocol between the engine and the process.
"""

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
from ctworker._serve import LineReader, flush_standard_streams, serve, write_all
from ctworker._task import TaskRunner
from ctworker._version import __version__

FD_VAR = "CTWORKER_FD"
CLAIM_FD_VAR = "CTWORKER_CLAIM_FD"


class Connection:
    """The descriptors that this process has inherited from the engine."""

    def __init__(self, fd: int, claims: int | None) -> None:
        """Store the descriptors.

        fd is the socket on which tasks arrive. claims is the pipe from which the process claims
        each task before it runs the task, or None if tasks need not be claimed.
        """
        self.fd = fd
        self.claims = claims


def inherited_connection() -> Connection | None:
    """Return the connection to the engine, or None if the engine has not started this process.

    The engine passes the descriptors of the connection in environment variables. Remove the
    variables, and make the descriptors not inheritable. Otherwise a program that a task starts
    could use the connection. If CTWORKER_FD does not contain the number of a socket, print an
    error and raise SystemExit(2).
    """
    fd = os.environ.pop(FD_VAR, "")
    claims = os.environ.pop(CLAIM_FD_VAR, "")
    if not fd.isdigit():
        return None
    if not _is_socket(int(fd)):
        # Do not start an engine: it could start this program again, with the same variable, and so
        # on forever.
        raise fatal(
            f"the environment variable {FD_VAR}={fd} is not the descriptor of a socket; unset the "
            "variable, which this process has inherited from the process that started it"
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
    """Run tasks until the engine closes the connection. Then exit the process."""
    # Let the event loop call run_and_exit. If this coroutine called it, a task could not run an
    # event loop of its own.
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
    """Read the engine's message hello, reply with ready, and return a TaskRunner.

    Return None if the engine closes the connection first.
    """
    line = lines.next()
    if line is None:
        return None
    hello = json.loads(line)["hello"]
    if hello["version"] != 1:
        raise SystemExit(
            f"ctworker: the engine uses version {hello['version']} of the task protocol, but the "
            f"Python package ctworker {__version__} uses version 1; unset CTWORKER_BIN to use the "
            "engine that the package contains"
        )
    flush_standard_streams()  # what the import has printed does not belong to the first task
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
