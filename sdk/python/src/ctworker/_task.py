"""Run one task: parse a line of the task protocol, call the function, and encode the reply."""

from __future__ import annotations

import asyncio
import json
import mmap
import re
import sys
import traceback
from collections.abc import Callable
from types import CoroutineType
from typing import Any

from ctworker._data import TaskData, WorkerData
from ctworker._result import BadReturnError, encode_message, encode_return, encode_text
from ctworker._traceback import describe

Function = Callable[..., Any]

MEMORY_RESERVE = 16 << 20
"""The size in bytes of the address space that is reserved to report a MemoryError."""


class TaskRunner:
    """Runs tasks in this process, one at a time."""

    def __init__(
        self, function: Function, worker: WorkerData, max_result: int, memory_limit: int = 0
    ) -> None:
        """Store the arguments.

        max_result is the maximum size of a result in bytes. memory_limit is the maximum address
        space (RLIMIT_AS) of a task in bytes; 0 means no limit. The caller sets the RLIMIT_AS.
        """
        self._function = function
        self._worker = worker
        self._max_result = max_result
        self._limited = memory_limit > 0
        self._reserve = _reserve_memory() if self._limited else None
        self.slot = 0

    def run(self, task: Task) -> bytes:
        """Run a task and return the reply, which also reports exceptions of the function.

        Only SystemExit is not caught, because a task that raises SystemExit exits its process.
        """
        try:
            returned = self._call(task)
            retry, result, warning = encode_return(returned, self._max_result)
            return b'{"task_id":%b,"retry":%b,"result":%b%b}\n' % (
                encode_text(task.id),
                b"true" if retry else b"false",
                result,
                b"" if warning is None else b',"warning":' + encode_text(warning),
            )
        except SystemExit:
            raise
        except BadReturnError as fault:
            return _failure(task.id, str(fault))
        except MemoryError as exception:
            return self._out_of_memory(task.id, exception)
        except BaseException as exception:  # also classes that are not derived from Exception
            return _failure(task.id, describe(exception))

    def _call(self, task: Task) -> object:
        if task.fault is not None:
            raise task.fault
        data = TaskData(task.id, task.data) if type(task.data) is dict else task.data
        worker = self._worker._for_task(task.id, task.attempt, self.slot)
        returned = self._function(task.id, data, worker)
        if type(returned) is CoroutineType:
            returned = asyncio.run(returned)
        return returned

    def _out_of_memory(self, task_id: str, exception: MemoryError) -> bytes:
        if self._reserve is not None:
            self._reserve.close()
        try:
            text = describe(exception)
        except MemoryError:
            text = "MemoryError"
        try:
            # Free the local variables of the function, which may hold most of the memory.
            traceback.clear_frames(exception.__traceback__)
        except Exception:
            pass
        reply = b'{"task_id":%b,"exception":%b,"retry":false}\n' % (
            encode_text(task_id),
            encode_message(text),
        )
        if self._limited:
            self._reserve = _reserve_memory()
        return reply


def _reserve_memory() -> mmap.mmap | None:
    try:
        return mmap.mmap(-1, MEMORY_RESERVE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError):
        return None  # the program already uses more memory than the limit


def _failure(task_id: str, text: str) -> bytes:
    return b'{"task_id":%b,"exception":%b}\n' % (encode_text(task_id), encode_message(text))


class Task:
    """A task that this process has received."""

    __slots__ = ("attempt", "data", "fault", "id")

    def __init__(self, line: bytes) -> None:
        """Parse a line of the task protocol. Raises ValueError if the line is not a task.

        If Python cannot parse the task's data, the attribute fault is the error, which TaskRunner
        reports as the task's exception.
        """
        self.fault: Exception | None = None
        try:
            fields = _loads(line)
        except (ValueError, RecursionError, MemoryError) as fault:
            # The engine waits for a reply, so find the task's id without parsing the data.
            self.id, self.attempt = _parse_prefix(line)
            self.data: Any = None
            self.fault = ValueError(f"the task's data cannot be parsed: {fault}")
            return
        if not isinstance(fields, dict) or not isinstance(fields.get("task_id"), str):
            raise ValueError("the line has no task_id")
        self.id = fields["task_id"]
        self.attempt = fields.get("attempt", 1)
        self.data = fields.get("data")


_decoder: Any = json.JSONDecoder()
_scan = _decoder.scan_once
"""The function that json.loads calls to parse text.

It is called directly, because json.loads first detects the encoding and skips white space."""


def _loads(line: bytes) -> Any:
    try:
        value, end = _scan(line.decode(), 0)
        return value if end == len(line) else json.loads(line)
    except StopIteration:
        return json.loads(line)
    except ValueError:
        limit = getattr(sys, "get_int_max_str_digits", int)()
        if not limit:
            raise
        sys.set_int_max_str_digits(0)  # no limit, because a task's data may contain long numbers
        try:
            return json.loads(line)
        finally:
            sys.set_int_max_str_digits(limit)


_PREFIX = re.compile(rb'\{"task_id":("(?:[^"\\]|\\.)*"),"attempt":(\d+),"data":')


def _parse_prefix(line: bytes) -> tuple[str, int]:
    """Return task_id and attempt from the beginning of a line that the engine wrote."""
    found = _PREFIX.match(line)
    if not found:
        raise ValueError("the line is not a task")
    return json.loads(found[1]), int(found[2])
