"""Worker: a program that runs a function over tasks."""

from __future__ import annotations

import argparse
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ctworker import _arguments, _engine, _postfork
from ctworker._config import Program
from ctworker._configured import ConfiguredData
from ctworker._data import TaskData, WorkerData
from ctworker._source import new_source
from ctworker._spawn_child import serve_spawned, take_connection
from ctworker._supervisor import Host

__all__ = ["TaskData", "Worker", "WorkerData"]


class Worker:
    """Runs a function over tasks, each in a process of its own.

    Make one, and run `asyncio.run(worker.start())` under `if __name__ == "__main__":`.
    """

    def __init__(
        self,
        user_worker_function: Callable[[str, Any, WorkerData], Any],
        args: Sequence[str] | None = None,
        *,
        task_source: str
        | os.PathLike[str]
        | Callable[[], Any]
        | Iterable[dict[str, Any]]
        | Any
        | None = None,
        argparser: argparse.ArgumentParser | None = None,
    ) -> None:
        """Read the command line.

        user_worker_function is called as f(task_id, task_data, worker_data) and returns
            a tuple (retry, result): retry, a bool, asks for another attempt; result is
            a str, or a dict that can be written as JSON. It may be a coroutine function.
        args is the command line, by default the process's, without the program's name.
        task_source is where the tasks come from instead of --task-file or a queue: the
            name or path of a task file; an object with an open("rb") method for a remote
            one; or a function that returns an iterator of tasks, dicts with "task_id" and
            "data". It is called in a process of its own, and no faster than tasks run.
        argparser has the program's own options, to which the worker's are added. What
            was parsed is in worker_data.args.

        Raises TypeError for a task_source of another kind, ValueError if an option of
        argparser is one of the specification's worker too (of any other, the program's
        is kept and the worker's has its environment variable alone), RuntimeError within a task. As argparse
        has it, --help and unknown options end the program.
        """
        if _postfork.in_child():
            raise RuntimeError(
                "a task cannot make a Worker of its own; put the program's main part under "
                'if __name__ == "__main__":'
            )
        if not callable(user_worker_function):
            raise TypeError(
                "user_worker_function must be a function of (task_id, task_data, worker_data), "
                f"and not a {type(user_worker_function).__qualname__}"
            )
        self._connection = take_connection()
        line = _arguments.parse(argparser, args)
        source = new_source(task_source)
        # Programs of the package cloud_tasks use this attribute.
        self._data: WorkerData = ConfiguredData(
            line.args, line.values, has_source=source is not None
        )
        self._program = Program(
            function=user_worker_function,
            args=line.args,
            engine_flags=line.engine_flags,
            source=source,
        )
        self._started = False

    async def start(self) -> None:
        """Run all tasks, and return when the run has come to its end.

        SIGINT and SIGTERM end it in good order, and so does cancelling the coroutine.
        SystemExit is raised with the engine's exit code where that is not 0: 1 after
        a fatal error, 2 for faulty settings, 3 with --strict unless every task
        completed, 130 and 143 after a signal. RuntimeError if it is called twice, or
        not on the main thread.
        """
        if _postfork.in_child():
            raise RuntimeError("a task cannot start a Worker")
        if self._started:
            raise RuntimeError("start() was called before; a Worker runs once")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start() must run on the main thread, as it handles signals and forks; "
                "use asyncio.run(worker.start()) there"
            )
        self._started = True
        self._take_data()
        if self._connection is not None:
            await serve_spawned(self._program, self._connection)
        code = await Host(self._program, _engine.find_engine()).run()
        if code != 0:
            raise SystemExit(code)

    def _take_data(self) -> None:
        """Apply the attributes that the program set on `_data`."""
        data = self._data
        if not isinstance(data, ConfiguredData):
            raise TypeError(
                f"_data was replaced by a {type(data).__qualname__}; set its attributes instead"
            )
        self._program = dataclasses.replace(
            self._program,
            args=data.args or self._program.args,
            engine_flags=[*self._program.engine_flags, *data._flags()],
            extra=data._extra(),
        )
