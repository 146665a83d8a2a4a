"""The class Worker, which runs a function over tasks."""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

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

    Create the worker and call `asyncio.run(worker.start())` under `if __name__ == "__main__":`.
    Otherwise a process that imports the program to run a task would create a worker again.
    """

    def __init__(
        self,
        user_worker_function: Callable[[str, Any, WorkerData], Any],
        args: Sequence[str] | None = None,
        *,
        task_source: str | os.PathLike[str] | Callable[[], Any] | Iterable[Any] | Any | None = None,
        argparser: argparse.ArgumentParser | None = None,
    ) -> None:
        """Create a worker, and parse the command line.

        user_worker_function is called as f(task_id, task_data, worker_data) for each task. It
            returns a tuple (retry, result). retry is a bool that requests another attempt.
            result is a str, or a dict that can be represented in JSON. The function may be a
            coroutine function.
        args is the command line without the program's name. Defaults to sys.argv[1:].
        task_source provides the tasks, instead of --task-file or a queue. It is one of:
            - the path or URL of a task file
            - an object with a method open("rb"), for a file in remote storage
            - an iterable of tasks
            - a function that returns an iterable of tasks
            - a function that returns one task per call, and None after the last task
            A task is a dict with "task_id" and "data". It can also be a str, a path, a number, a
            list, or a dict without these keys. This value is then the data, and its text is the
            task_id; for a long text, the task_id ends with a hash. A function that returns one
            task per call must return a dict.
            An iterable or a function runs in a separate process, which pauses while the tasks
            that it has produced wait to run.
        argparser defines the program's own options. The worker's options are added to it.
            Tasks read the parsed command line from worker_data.args.

        A program must not define the worker's options that ctworker._arguments.SPECIFIED lists.
        If argparser defines an option with the name of any other worker's option, the program's
        option replaces the worker's. The setting can then be set only by its environment variable.

        Raises TypeError if user_worker_function or task_source is invalid, ValueError if
        argparser defines an option in SPECIFIED, and RuntimeError in a task. Raises SystemExit
        for --help and for invalid arguments, as argparse does.
        """
        if _postfork.in_child():
            raise RuntimeError(
                "a task cannot create a Worker; create it only in the program's main part, under "
                'if __name__ == "__main__":'
            )
        if not callable(user_worker_function):
            raise TypeError(
                "user_worker_function must be a function of (task_id, task_data, worker_data), "
                f"not a {type(user_worker_function).__qualname__}"
            )
        _check_parameters(user_worker_function)
        self._connection = inherited_connection()
        line = _arguments.parse(argparser, args)
        source = new_source(task_source)
        # Programs written for rms-cloud-tasks use the attribute _data.
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
        _Created.any = True
        if getattr(user_worker_function, "__module__", None) == "__main__":
            _Created.unstarted.add(self)

    async def start(self) -> None:
        """Run all tasks, and return when the run has finished.

        SIGINT, SIGTERM, SIGHUP and the cancellation of this coroutine request a graceful
        shutdown: no new tasks start, and running tasks have --shutdown-grace-period to finish.
        A second signal kills the running tasks.

        Raises SystemExit if the exit code of the run is not 0:

        - 1 after a fatal error
        - 2 for invalid settings
        - 3 if --strict is set and a task did not complete
        - 129, 130 or 143 after SIGHUP, SIGINT or SIGTERM

        Raises RuntimeError if start is called twice, in a task, or in a thread other than the
        main thread.
        """
        if _postfork.in_child():
            raise RuntimeError(
                "a task cannot start a Worker; call start() only in the program's main part, under "
                'if __name__ == "__main__":'
            )
        if self._started:
            raise RuntimeError("start() was called before on this Worker; create another Worker")
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start() must run on the main thread, because it handles signals and forks; "
                "call asyncio.run(worker.start()) there"
            )
        self._started = True
        _Created.unstarted.discard(self)
        self._apply_data()
        if self._connection is not None:
            await serve_spawned(self._program, self._connection)
        code = await Supervisor(self._program, _engine.find_engine()).run()
        if code != 0:
            raise SystemExit(code)

    def _apply_data(self) -> None:
        """Add the attributes that the program set on `_data` to the program's configuration."""
        data = self._data
        if not isinstance(data, ConfiguredData):
            raise TypeError(
                f"the worker's attribute _data was replaced by a {type(data).__qualname__}; set "
                "attributes of _data instead"
            )
        self._program = dataclasses.replace(
            self._program,
            args=data.args or self._program.args,
            engine_flags=[*self._program.engine_flags, *data._flags()],
            extra=data._extra(),
        )


_VARARGS = 0x04  # inspect.CO_VARARGS; importing inspect takes several milliseconds


def _check_parameters(function: Callable[..., Any]) -> None:
    """Raise TypeError if function cannot be called with the three arguments of a task.

    Only Python functions and methods are checked.
    """
    plain = getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return
    given = 3 + (plain is not function)  # a method also gets its object
    required = code.co_argcount - len(plain.__defaults__ or ())
    keywords = code.co_kwonlyargcount - len(plain.__kwdefaults__ or ())
    accepted = code.co_argcount >= given or bool(code.co_flags & _VARARGS)
    if required <= given and keywords == 0 and accepted:
        return
    names = ", ".join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    raise TypeError(
        "user_worker_function must accept three arguments, (task_id, task_data, worker_data), "
        f"and {plain.__qualname__} has the parameters ({names})"
    )


class _Created:
    """Which workers the program has created."""

    any = False
    unstarted: ClassVar[set[Worker]] = set()


def not_started() -> str | None:
    """Return an error message if the program has created a Worker and has not started it."""
    if not _Created.unstarted or _postfork.in_child():
        return None
    return "the Worker was not started, so no task was run: call asyncio.run(worker.start())"


def has_worker() -> bool:
    """Return whether the program has created a Worker."""
    return _Created.any


@atexit.register
def _report_not_started() -> None:
    # Print nothing if an exception ended the program: Python then sets sys.last_value, and prints
    # the exception.
    if not hasattr(sys, "last_value") and (message := not_started()):
        print(f"ctworker: {message}", file=sys.stderr)
