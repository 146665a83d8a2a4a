"""Worker, which runs a function over tasks."""

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
from ctworker._spawn_child import inherited_connection, serve_spawned
from ctworker._supervisor import Supervisor

__all__ = ["TaskData", "Worker", "WorkerData"]


class Worker:
    """Runs a function over tasks, in separate processes.

    Create a worker, and call `asyncio.run(worker.start())`, both under
    `if __name__ == "__main__":`.
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
        """Create a worker from the command line.

        user_worker_function is called as f(task_id, task_data, worker_data) and returns a tuple
            (retry, result): retry, a bool, requests another attempt; result is a str, or a dict
            that can be represented in JSON. It may be a coroutine function.
        args is the command line without the program's name. Defaults to that of the process.
        task_source replaces --task-file and the queue as the source of the tasks. It is the
            path or URL of a task file; an object with a method open("rb"), for a remote file;
            an iterable of tasks; or a function that returns an iterable of tasks, or one task
            per call and finally None. A task is a dict with "task_id" and "data". An iterable
            or a function runs in a separate process, and only as fast as the tasks run.
        argparser defines the program's own options; the worker's options are added to it. The
            parsed command line is worker_data.args.

        Raises TypeError for an invalid user_worker_function or task_source, and RuntimeError in
        a task. Raises ValueError if argparser defines an option of the specification's worker.
        If it defines another option of the worker, the program's option replaces it, and the
        setting can only be set by its environment variable. Raises SystemExit for --help and
        for invalid arguments, as argparse does.
        """
        if _postfork.in_child():
            raise RuntimeError(
                "a task cannot create a Worker; put the program's main part under "
                'if __name__ == "__main__":'
            )
        if not callable(user_worker_function):
            raise TypeError(
                "user_worker_function must be a function of (task_id, task_data, worker_data), "
                f"not a {type(user_worker_function).__qualname__}"
            )
        self._connection = inherited_connection()
        line = _arguments.parse(argparser, args)
        source = new_source(task_source)
        # Programs written for the package cloud_tasks use this attribute.
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
        """Run all tasks, and return when the run has finished.

        SIGINT, SIGTERM, SIGHUP and the cancellation of the coroutine shut down gracefully:
        running tasks have --shutdown-grace-period to finish. A second signal kills them.

        Raises SystemExit with the engine's exit code if it is not 0: 1 after a fatal error,
        2 for invalid settings, 3 with --strict unless every task completed, 129, 130 or 143
        after SIGHUP, SIGINT or SIGTERM. Raises RuntimeError if it is called twice, in a task,
        or outside of the main thread.
        """
        if _postfork.in_child():
            raise RuntimeError("a task cannot start a Worker")
        if self._started:
            raise RuntimeError("start() was called before; create another Worker to run again")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start() must run on the main thread, because it handles signals and forks; "
                "call asyncio.run(worker.start()) there"
            )
        self._started = True
        self._apply_data()
        if self._connection is not None:
            await serve_spawned(self._program, self._connection)
        code = await Supervisor(self._program, _engine.find_engine()).run()
        if code != 0:
            raise SystemExit(code)

    def _apply_data(self) -> None:
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
