"""Check and encode the value that a task's function returns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class BadReturnError(Exception):
    """The function returned a value that has no valid form; the text says what is valid."""


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
    """Return any text as a JSON string. A lone surrogate, as in the name of a file that is
    not UTF-8, becomes its escape, such as \\udce9.
    """
    return _quote(text).encode("utf-8", "backslashreplace")


def encode_message(text: str) -> bytes:
    """Return text for people as a JSON string, in which a lone surrogate can be printed."""
    return _quote(text.encode("utf-8", "backslashreplace").decode()).encode()


def encode_value(value: Any) -> bytes:
    """Return value as JSON; ValueError, TypeError or RecursionError if it has none.

    Lone surrogates are in strings only, and their escapes are those of JSON.
    """
    encoded = _encode(value).encode("utf-8", "backslashreplace")
    if type(value) not in _ATOMS and (fault := _doubled_key(value)):
        raise ValueError(fault)
    return encoded


def _doubled_key(value: object) -> str | None:
    """Return which keys of a dict in value are the same key in JSON; None if no two are.

    Python keeps 1 and "1" apart, and the encoder writes both as "1". value has been
    encoded, so it has no cycles.
    """
    pending = [value]
    for container in pending:  # it grows meanwhile
        items: Iterable[object]
        if isinstance(container, dict):
            try:
                _join(container)  # the fastest way to see that all keys are str
            except TypeError:
                if same := _same_keys(container):
                    return find_fault(value) or f"a dict has {same}"
            items = container.values()
        elif isinstance(container, (list, tuple)):
            items = container
        else:
            continue
        if not _are_atoms(map(type, items)):
            pending += [item for item in items if type(item) not in _ATOMS]
    return None


_join = "".join
_ATOMS = frozenset((str, int, float, bool, type(None)))
_are_atoms = _ATOMS.issuperset


def _same_keys(mapping: dict[Any, Any]) -> str | None:
    """Return two keys of mapping that are one key in JSON, and that key, as text."""
    seen: dict[str, Any] = {}
    for key in mapping:
        text = _key_text(key)
        if text in seen:
            return f"the keys {seen[text]!r} and {key!r}, which are both {_quote(text)} in JSON"
        seen[text] = key
    return None


def _key_text(key: Any) -> str:
    """Return the text that the encoder writes for a key."""
    if isinstance(key, str):
        return str.__str__(key)
    if key is None:
        return "null"
    if key is True:
        return "true"
    if key is False:
        return "false"
    return int.__repr__(key) if isinstance(key, int) else float.__repr__(key)


class Return(NamedTuple):
    """The value that a task's function returned, checked and encoded."""

    retry: bool
    result: bytes
    """One JSON value."""
    warning: str | None
    """How the value differs from a valid one although its meaning is clear."""


def encode_return(returned: object, max_size: int) -> Return:
    """Check the tuple (retry, result) that a task's function returned, and encode it.

    A list of two passes for the tuple, and any value of retry is taken as true or
    false, with a warning. max_size is the maximum size of the JSON in bytes. Raises
    BadReturnError.
    """
    warning = None
    if not isinstance(returned, tuple):
        if type(returned) is not list or len(returned) != 2:
            raise BadReturnError(f"the function returned {_what(returned)}; {RIGHT}")
        warning = f"the function returned a list, which is taken as the tuple; {RIGHT}"
    if len(returned) != 2:
        raise BadReturnError(f"the function returned a tuple of {len(returned)}; {RIGHT}")
    retry, result = returned
    if retry is not True and retry is not False:
        if isinstance(retry, (str, bytes, dict, list, tuple, set)):
            # A result in the place of retry, which would have the task retried for ever.
            raise BadReturnError(
                f"the function returned {_what(retry)} as retry, the first of the tuple; "
                f"it must be True or False: {RIGHT}"
            )
        try:
            truth = bool(retry)
        except Exception as error:
            raise BadReturnError(
                f"the function returned {_what(retry)} as retry, the first of the tuple, "
                f"which is neither true nor false ({error}): {RIGHT}"
            ) from None
        warning = (
            "retry, the first of what the function returned, is neither True nor False; its "
            f"truth value is taken (0 and None are false): {RIGHT}"
        )
        retry = truth
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
    return Return(retry, encoded, warning)


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
    if value is None or isinstance(value, (int, str)):
        return None
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return f"{where} is {value!r}, which is no JSON number; use None or a str instead"
    if not isinstance(value, (dict, list, tuple)):
        return f"{where} is {_what(value)}, which has no JSON form"
    if any(value is outer for outer in above):
        return f"{where} contains itself"
    above.append(value)
    if where == "the result":
        where = "result"
    if isinstance(value, dict):
        if all(key is None or isinstance(key, (str, int, float)) for key in value) and (
            same := _same_keys(value)
        ):
            return f"{where} has {same}"
        for key, item in value.items():
            if key is not None and not isinstance(key, (str, int, float, bool)):
                return f"{where} has a key that is {_what(key)}; keys must be str"
            if fault := _find(item, f"{where}[{key!r}]", above):
                return fault
    else:
        for i, item in enumerate(value):
            if fault := _find(item, f"{where}[{i}]", above):
                return fault
    above.pop()
    return None
