"""Format an exception with its traceback, which starts at the task's function."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Iterable

MAX_TEXT = 256 << 10
"""The maximum length of a formatted exception in characters.

The middle of a longer text is omitted."""

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep


def describe(exception: BaseException) -> str:
    """Return the text of the exception, with its traceback and its causes.

    The traceback does not contain frames of ctworker. If formatting the exception raises a second
    exception, return the names of both. Raises MemoryError.
    """
    try:
        trace = traceback.TracebackException(
            type(exception), exception, exception.__traceback__, lookup_lines=False
        )
        _trim(trace, set())
        text = "".join(trace.format())
    except BaseException as second:
        if isinstance(second, MemoryError):
            raise
        text = f"{_name(exception)} (formatting this exception raised {_name(second)})"
    return shorten(text.rstrip("\n"))


def _name(exception: BaseException) -> str:
    return type(exception).__qualname__


def _trim(trace: traceback.TracebackException, seen: set[int]) -> None:
    """Remove the frames before the task's function, from trace and all its causes and contexts.

    seen contains the ids of the traces that are already trimmed.
    """
    if id(trace) in seen:
        return
    seen.add(id(trace))
    del trace.stack[: _count_internal(frame.filename for frame in trace.stack)]
    others = [trace.__cause__, trace.__context__, *(getattr(trace, "exceptions", None) or ())]
    for other in others:
        if other is not None:
            _trim(other, seen)


def _count_internal(files: Iterable[str]) -> int:
    """Return the number of leading frames that belong to ctworker, asyncio or runpy."""
    count = 0
    for file in files:
        if not file.startswith((_PACKAGE, _ASYNCIO)) and "runpy" not in file:
            break
        count += 1
    return count


def shorten(text: str) -> str:
    """Return text. If it is longer than MAX_TEXT, omit its middle."""
    omitted = len(text) - MAX_TEXT
    if omitted <= 0:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {omitted} characters omitted …\n{text[-half:]}"
