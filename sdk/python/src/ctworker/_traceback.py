"""Tell of an exception as its user wants to read it: from their function down."""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Iterable

MAX_TEXT = 256 << 10
"""How many characters are told of one exception: its beginning and its end."""

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ASYNCIO = os.path.dirname(os.path.abspath(asyncio.__file__)) + os.sep


def describe(exception: BaseException) -> str:
    """Return the exception's stack trace, with its causes, without frames of ours.

    It never raises, however odd the exception.
    """
    try:
        told = traceback.TracebackException(
            type(exception), exception, exception.__traceback__, lookup_lines=False
        )
        _trim(told, set())
        text = "".join(told.format())
    except BaseException as second:
        if isinstance(second, MemoryError):
            raise
        text = f"{_name(exception)} (it cannot be told in full: that raised {_name(second)})"
    return shorten(text.rstrip("\n"))


def _name(exception: BaseException) -> str:
    return type(exception).__qualname__


def _trim(told: traceback.TracebackException, seen: set[int]) -> None:
    """Drop what comes before the user's frames, here and in all causes."""
    if id(told) in seen:
        return
    seen.add(id(told))
    del told.stack[: _foreign(frame.filename for frame in told.stack)]
    others = [told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())]
    for other in others:
        if other is not None:
            _trim(other, seen)


def _foreign(files: Iterable[str]) -> int:
    """Return how many leading frames are ours, or those of asyncio.run."""
    count = 0
    for file in files:
        if not file.startswith((_OURS, _ASYNCIO)) and "runpy" not in file:
            break
        count += 1
    return count


def shorten(text: str) -> str:
    """Return text without its middle if it is very long."""
    left_out = len(text) - MAX_TEXT
    if left_out <= 0:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {left_out} characters are left out …\n{text[-half:]}"
