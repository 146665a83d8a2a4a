"""Run one task: read a line of the task protocol, and return the line of the reply."""

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
"""The address space in bytes that is reserved for reporting a MemoryError."""


class TaskRunner:
    """Runs tasks in this process, one at a time."""

    def __init__(
        self, function: Function, worker: WorkerData, max_result: int, memory_limit: int = 0
    ) -> None:
        """Store the arguments.

        max_result is the maximum size of a result in bytes. memory_limit is the RLIMIT_AS in
        bytes that applies when tasks run; 0 means no limit.
        """
        self._function = function
        self._worker = worker
        self._max_result = max_result
        self._limited = memory_limit > 0
        self._reserve = _reserve_memory() if self._limited else None
        self.slot = 0

    def run(self, task: Task) -> bytes:
        """Run a task and return the reply. Only SystemExit is passed on; it ends the process."""
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
        except BaseException as exception:  # also KeyboardInterrupt and subclasses of the user
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
            # The local variables of the frames may hold most of the memory.
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
        return None  # the limit is below what the program uses already


def _failure(task_id: str, text: str) -> bytes:
    return b'{"task_id":%b,"exception":%b}\n' % (encode_text(task_id), encode_message(text))


class Task:
    """A received task."""

    __slots__ = ("attempt", "data", "fault", "id")

    def __init__(self, line: bytes) -> None:
        """Parse a line. Raises ValueError if it is not a task.

        Data that Python cannot parse is stored as fault, which the task then raises.
        """
        self.fault: Exception | None = None
        try:
            fields = _loads(line)
        except (ValueError, RecursionError, MemoryError) as fault:
            # The task must be answered, whatever its data contain.
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
"""The core of json.loads, without its support for other encodings and white space."""


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
        sys.set_int_max_str_digits(0)  # accept numbers with thousands of digits
        try:
            return json.loads(line)
        finally:
            sys.set_int_max_str_digits(limit)


_PREFIX = re.compile(rb'\{"task_id":("(?:[^"\\]|\\.)*"),"attempt":(\d+),"data":')


def _parse_prefix(line: bytes) -> tuple[str, int]:
    """Return task_id and attempt from the beginning of a line in the engine's format."""
    found = _PREFIX.match(line)
    if not found:
        raise ValueError("the line is not a task")
    return json.loads(found[1]), int(found[2])
