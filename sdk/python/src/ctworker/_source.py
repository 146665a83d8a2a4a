"""Task sources of the program: a file that the engine reads, or tasks written to a pipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from numbers import Integral
from typing import Any, Union

from ctworker._result import encode_value, find_fault
from ctworker._serve import write_all
from ctworker._traceback import describe


class FileSource:
    """A task file that the engine opens itself, given by its path or URL."""

    def __init__(self, path: str) -> None:
        self.path = path


class StreamSource:
    """Tasks that a process of this program writes to a pipe."""

    def __init__(self, origin: Any, *, is_file: bool) -> None:
        self._origin = origin
        self._is_file = is_file
        # The engine determines the format from the name, as with --task-file.
        self.name = str(origin) if is_file else "task_source"

    def run(self, pipe: int) -> str | None:
        """Write all tasks to pipe; return None, or an error message.

        It is not an error if the engine closes the pipe before the end. No exception is
        passed on.
        """
        try:
            for line in self._lines():
                _write(pipe, line)
        except _PipeClosedError:
            return None
        except InvalidTaskError as error:
            return str(error)
        except SystemExit as error:
            return f"the task source called sys.exit({error.code!r})"
        except BaseException as error:
            return describe(error)
        return None

    def _lines(self) -> Iterator[bytes]:
        if self._is_file:
            with self._origin.open("rb") as file:
                while chunk := file.read(1 << 16):
                    yield chunk
        else:
            for number, task in enumerate(_tasks(self._origin), 1):
                yield _encode(number, task)


Source = Union[FileSource, StreamSource]


class InvalidTaskError(Exception):
    """The source returned an invalid task; the message says which one and why."""


class _PipeClosedError(Exception):
    """The engine has closed the pipe."""


def new_source(task_source: Any) -> Source | None:
    """Return the source for the argument task_source of Worker; None for None.

    Raises TypeError if the argument is not a task source.
    """
    if task_source is None:
        return None
    if isinstance(task_source, str):
        return FileSource(task_source)
    remote = hasattr(task_source, "open") and "://" in str(task_source)
    if isinstance(task_source, os.PathLike) and not remote:
        return FileSource(os.fsdecode(os.fspath(task_source)))
    if hasattr(task_source, "open"):
        return StreamSource(task_source, is_file=True)
    if callable(task_source) or (
        isinstance(task_source, Iterable) and not isinstance(task_source, (bytes, dict))
    ):
        return StreamSource(task_source, is_file=False)
    raise TypeError(
        "task_source must be the name or path of a task file, or a function that returns an "
        f"iterator of tasks, not a {type(task_source).__qualname__}"
    )


def _tasks(origin: Any) -> Iterator[Any]:
    """Return the tasks of a function, or of an iterable.

    A function that returns an iterable is called once. A function that returns a single
    task is called until it returns None.
    """
    if not callable(origin):
        yield from origin
        return
    produced = origin()
    if isinstance(produced, dict):
        while produced is not None:
            yield produced
            produced = origin()
    elif isinstance(produced, Iterable) and not isinstance(produced, (str, bytes)):
        yield from produced
    elif produced is not None:
        raise InvalidTaskError(
            "the function task_source must return an iterator of tasks, or one task per call "
            f"and finally None; it returned a {type(produced).__qualname__}"
        )


def _write(pipe: int, line: bytes) -> None:
    # Unbuffered, because a task must not wait until the source produces the next one. A full
    # pipe blocks, so that the source is never far ahead of the tasks that run.
    try:
        write_all(pipe, line)
    except BrokenPipeError:
        raise _PipeClosedError from None


def _encode(number: int, task: Any) -> bytes:
    def invalid(why: str) -> InvalidTaskError:
        return InvalidTaskError(
            f"task {number} of the task source {why}; a task is a dict such as "
            '{"task_id": "image-0001", "data": {"file": "raw/0001.tif"}}'
        )

    if not isinstance(task, dict):
        raise invalid(f"is a {type(task).__qualname__}, not a dict")
    if "task_id" not in task:
        raise invalid('has no "task_id"')
    task_id = task["task_id"]
    if isinstance(task_id, Integral) and not isinstance(task_id, bool):
        task_id = str(int(task_id))  # as in a task file; numpy's integers too
    if not isinstance(task_id, str) or not task_id:
        raise invalid(f'has the "task_id" {task_id!r}; it must be a non-empty str or an int')
    if "data" not in task:
        raise invalid(f'({task_id}) has no "data"')
    try:
        return encode_value({"task_id": task_id, "data": task["data"]}) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        fault = (find_fault(task["data"]) or str(error)).replace("the result", "its data", 1)
        if fault.startswith(("result[", "result ")):
            fault = "data" + fault[len("result") :]
        raise invalid(f"({task_id}) cannot be written as JSON: {fault}") from None
