"""The sources of tasks that a program can pass to Worker as task_source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from numbers import Integral, Real
from typing import Any, Union

from ctworker._result import encode_value, find_fault
from ctworker._serve import write_all
from ctworker._traceback import describe


class FileSource:
    """A task file that the engine opens itself. path is a path or a URL."""

    def __init__(self, path: str) -> None:
        self.path = path


class StreamSource:
    """A source that runs in a process of its own, which writes the tasks to a pipe.

    The engine reads the tasks from the pipe.
    """

    def __init__(self, origin: Any, *, is_file: bool) -> None:
        self._origin = origin
        self._is_file = is_file
        # The engine derives the format of a file, JSON or YAML, from its name.
        self.name = str(origin) if is_file else "task_source"

    def run(self, pipe: int) -> str | None:
        """Write all tasks to pipe. Return None on success, and else an error message.

        It is not an error if the engine closes the pipe before it has read all tasks. run does
        not raise an exception.
        """
        try:
            for line in self._lines():
                _write(pipe, line)
        except _PipeClosedError:
            return None
        except InvalidTaskError as error:
            return str(error)
        except SystemExit as error:
            return (
                f"the task source called sys.exit({error.code!r}); to end the source, return from "
                "its function instead"
            )
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
    """The source produced an invalid task. The message names the task and the reason."""


class _PipeClosedError(Exception):
    """The engine has closed the pipe."""


def new_source(task_source: Any) -> Source | None:
    """Return the source for the argument task_source of Worker, or None if task_source is None.

    Raises TypeError if task_source is not one of the types that Worker documents.
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
        "task_source must be the path or URL of a task file, an object with a method open, an "
        "iterable of tasks, or a function that returns tasks, not a "
        f"{type(task_source).__qualname__}"
    )


def _tasks(origin: Any) -> Iterator[Any]:
    """Return the tasks of origin, which is an iterable or a function.

    A function that returns an iterable is called once. A function that returns a single task is
    called again until it returns None.
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
            f"and None after the last task; it returned a {type(produced).__qualname__}"
        )


def _write(pipe: int, line: bytes) -> None:
    # Do not buffer the line, because the task could then run only after the source has produced
    # more tasks. If the pipe is full, the write blocks until the engine has read from it. The
    # source is thus never far ahead of the running tasks.
    try:
        write_all(pipe, line)
    except BrokenPipeError:
        raise _PipeClosedError from None


def _encode(number: int, task: Any) -> bytes:
    """Return the line of a task."""
    # Most tasks are valid dicts with a str as ID. For them, the checks below would take as long as
    # the encoding.
    if type(task) is dict and "data" in task:
        task_id = task.get("task_id")
        if type(task_id) is str and task_id:
            try:
                return encode_value({"task_id": task_id, "data": task["data"]}) + b"\n"
            except (TypeError, ValueError, RecursionError):
                pass  # _encode_checked describes the error
    return _encode_checked(number, task)


def _encode_checked(number: int, task: Any) -> bytes:
    """Return the line of a task, or raise InvalidTaskError."""

    def invalid(why: str) -> InvalidTaskError:
        return InvalidTaskError(
            f"task {number} of the task source {why}; a task is a dict such as "
            '{"task_id": "image-0001", "data": {"file": "raw/0001.tif"}}, or only its data, such as '
            '"raw/0001.tif"'
        )

    if not isinstance(task, dict) or not task.keys() & {"task_id", "data"}:
        value = _plain(task)
        if value is None:
            raise invalid(f"is a {type(task).__qualname__}")
        task = {"task_id": _id_of(value), "data": value}
    if "task_id" not in task:
        raise invalid('has no "task_id"')
    task_id = task["task_id"]
    if isinstance(task_id, Integral) and not isinstance(task_id, bool):
        task_id = str(int(task_id))  # integers, also of numpy, are valid, as in a task file
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


def _plain(value: Any) -> Any:
    """Return the data of a task that has no ID, or None if value cannot be data."""
    if isinstance(value, (str, bool, list, tuple, dict)):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(os.fspath(value))
    if isinstance(value, Integral):  # also an integer of numpy
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return None


_MAX_ID = 128  # maximum size in bytes of a value that is used as the ID
_ID_START = 40  # number of bytes of a longer value with which the ID starts


def _id_of(value: Any) -> str:
    """Return the ID of the task of a plain value.

    The ID depends only on the value, so that --resume recognizes the task even if other values were
    added or removed. The ID is the value if it is a str, and its JSON text if it is not. If this
    text is empty, long or not printable, the ID is the beginning of the text, followed by a part of
    its SHA-256. The engine derives IDs in the same way (package internal/taskid).
    """
    try:
        text = value if isinstance(value, str) else encode_value(value).decode()
    except (TypeError, ValueError, RecursionError):
        return "?"  # _encode reports the error
    raw = text.encode("utf-8", "surrogatepass")
    if 0 < len(raw) <= _MAX_ID and text.isprintable():
        return text
    start = "".join(c for c in raw[:_ID_START].decode(errors="ignore") if c.isprintable())
    return f"{start}#{hashlib.sha256(raw).hexdigest()[:16]}"
