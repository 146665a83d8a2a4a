"""Check and encode what a task's function returns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any


class BadReturnError(Exception):
    """The function returned what cannot be passed on; the text says what would be right."""


RIGHT = (
    'return a tuple of two, (retry, result), such as (False, "done") or (False, {"pixels": 4711})'
)

_quote = json.encoder.encode_basestring


def _new_encode() -> Callable[[object], str]:
    """Return json.dumps with what we ask of it.

    It is taken apart where the interpreter lets us: with each call json.dumps makes
    anew what this makes once, and a fork has all the pages copied that it writes to.
    """
    encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    parts: Any = json.encoder
    make = parts.c_make_encoder
    if make is None:
        return encoder.encode
    above: dict[int, object] = {}  # for finding what contains itself
    chunks = make(above, encoder.default, _quote, None, ":", ",", False, False, False)

    def encode(value: object) -> str:
        try:
            return "".join(chunks(value, 0))
        except BaseException:
            above.clear()
            raise

    return encode


_encode = _new_encode()


def encode_text(text: str) -> bytes:
    """Return any text as a JSON string."""
    try:
        return _quote(text).encode()
    except UnicodeEncodeError:  # half a character, as in names of files that are no UTF-8
        return _quote(text.encode("utf-8", "backslashreplace").decode()).encode()


def encode_value(value: Any) -> bytes:
    """Return value as JSON; ValueError, TypeError or RecursionError if it has none."""
    return _encode(value).encode()


def encode_return(returned: object, max_size: int) -> tuple[bool, bytes]:
    """Return what a task's function returned as retry and the result's JSON.

    max_size is how many bytes the JSON may take. Raises BadReturnError.
    """
    if type(returned) is not tuple and not isinstance(returned, tuple):
        raise BadReturnError(f"the function returned {_what(returned)}; {RIGHT}")
    if len(returned) != 2:
        raise BadReturnError(f"the function returned a tuple of {len(returned)}; {RIGHT}")
    retry, result = returned
    if not isinstance(retry, bool):
        raise BadReturnError(
            f"the function returned {_what(retry)} as retry, the first of the tuple; "
            f"it must be True or False: {RIGHT}"
        )
    try:
        encoded = encode_value(result)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        reason = find_fault(result) or f"the result has no JSON form: {error}"
        raise BadReturnError(
            f"{reason}. A result is a str, or a dict of str, int, float, bool, None, list and dict"
        ) from None
    if len(encoded) > max_size:
        raise BadReturnError(
            f"the result takes {len(encoded)} bytes as JSON, and may take {max_size}; "
            "raise --max-result-size, or write the result to a file and return the file's name"
        )
    return retry, encoded


def _what(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    article = "an" if (module or kind.__qualname__)[0] in "aeioAEIO" else "a"
    return f"{article} {module}{kind.__qualname__}"


def find_fault(value: object) -> str | None:
    """Say which part of value has no JSON form, and why; None if it is not found."""
    try:
        return _find(value, "the result", [])
    except RecursionError:
        return "the result is nested too deeply for JSON"


def _find(value: object, where: str, above: list[object]) -> str | None:
    if value is None or isinstance(value, int):
        return None
    if isinstance(value, str):
        return _find_in_text(value, where)
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} is {value!r}, which is no JSON number"
    if not isinstance(value, (dict, list, tuple)):
        return f"{where} is {_what(value)}, which has no JSON form"
    if any(value is outer for outer in above):
        return f"{where} contains itself"
    above.append(value)
    if where == "the result":
        where = "result"
    if isinstance(value, dict):
        for key, item in value.items():
            if key is not None and not isinstance(key, (str, int, float, bool)):
                return f"{where} has a key that is {_what(key)}; keys must be str"
            if isinstance(key, str) and (fault := _find_in_text(key, f"a key of {where}")):
                return fault
            if fault := _find(item, f"{where}[{key!r}]", above):
                return fault
    else:
        for i, item in enumerate(value):
            if fault := _find(item, f"{where}[{i}]", above):
                return fault
    above.pop()
    return None


def _find_in_text(text: str, where: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = text[error.start]
        return (
            f"{where} has {character!r} at {error.start}, which is no character, as in the name of "
            "a file that is not UTF-8; os.fsencode(name).decode(errors='replace') is without"
        )
    return None
