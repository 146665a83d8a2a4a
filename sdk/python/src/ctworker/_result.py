"""Check and encode the value that a task's function returns."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any


class BadReturnError(Exception):
    """The task's function returned an invalid value. The message describes a valid value."""


EXPECTED = 'return a tuple (retry, result), such as (False, "done") or (False, {"pixels": 4711})'

_quote = json.encoder.encode_basestring


def _new_encode() -> Callable[[object], str]:
    """Return a function that encodes a value like json.dumps with the options below.

    json.dumps creates an encoder for each call. The returned function instead uses one encoder
    that is created before the fork. A fork thus writes to fewer memory pages. The system copies
    each page that a fork writes to.
    """
    encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    parts: Any = json.encoder
    make = parts.c_make_encoder
    if make is None:
        return encoder.encode
    # The encoder stores the containers around the current value in this dict, to detect cycles.
    enclosing: dict[int, object] = {}
    chunks = make(enclosing, encoder.default, _quote, None, ":", ",", False, False, False)

    def encode(value: object) -> str:
        try:
            return "".join(chunks(value, 0))
        except BaseException:
            enclosing.clear()
            raise

    return encode


_encode = _new_encode()


def encode_text(text: str) -> bytes:
    """Return text as a JSON string.

    If text is a file name that is not UTF-8, it contains lone surrogates. In the JSON string, each
    surrogate becomes an escape sequence such as \\udce9.
    """
    return _utf8(_quote(text))


def encode_message(text: str) -> bytes:
    """Return a message for users as a JSON string. A lone surrogate becomes printable text."""
    return _quote(text.encode("utf-8", "backslashreplace").decode()).encode()


def encode_value(value: Any) -> bytes:
    """Return value as JSON.

    Raises ValueError, TypeError or RecursionError if value cannot be represented in JSON.
    """
    text = _encode(value)
    brace = text.rfind("{")
    if brace == 0 and len(value) > 1:  # a dict that contains no other dict, the usual result
        try:
            "".join(value)  # the fastest check that all keys are of type str
        except TypeError:
            brace = 1
    if brace > 0 and _find_number_key(text) and (fault := _duplicate_key(value)):
        raise ValueError(fault)
    try:
        return text.encode()  # the same as in _utf8; a call of _utf8 would be 10 % slower
    except UnicodeEncodeError:
        return _utf8(text)


def _utf8(text: str) -> bytes:
    """Return JSON as UTF-8. A lone surrogate becomes an escape sequence."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        # In JSON, surrogates occur only in strings. There, the text that backslashreplace writes
        # is a valid escape sequence.
        return text.encode("utf-8", "backslashreplace")


def _duplicate_key(value: object) -> str | None:
    """Return an error text if a dict in value has two keys that are equal in JSON, else None.

    An example is a dict with the keys 1 and "1", both of which the encoder writes as "1". Encode
    value before the call: the encoder rejects cycles, which would make this function run forever.
    """
    pending = [value]
    for container in pending:  # the loop appends to pending
        items: Iterable[object]
        if isinstance(container, dict):
            if same := _same_keys(container):
                return find_fault(value) or f"a dict has {same}"
            items = container.values()
        elif isinstance(container, (list, tuple)):
            items = container
        else:
            continue
        pending += [item for item in items if isinstance(item, (dict, list, tuple))]
    return None


# Finds a key that may have been an int, float, bool or None in Python. The JSON text must contain
# no spaces between tokens. The search is several times as fast as a check of each key of each dict.
_find_number_key = re.compile(r'"(?:-?[0-9][0-9.e+-]*|true|false|null)":').search


def _same_keys(mapping: dict[Any, Any]) -> str | None:
    """Return a text that names two keys of mapping that are equal in JSON, or None."""
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


def encode_return(returned: object, max_size: int) -> tuple[bool, bytes, str | None]:
    """Check the tuple (retry, result) that a task's function returned, and encode it.

    Return retry, the result as JSON, and a warning or None. max_size is the maximum size of the
    JSON in bytes.

    Two kinds of invalid values are accepted with a warning, because their meaning is clear: a list
    of two items instead of the tuple, and a retry that is neither a bool nor text nor a container,
    which is converted to a bool. Raises BadReturnError for all other invalid values.
    """
    warning = None
    if not isinstance(returned, tuple):
        if type(returned) is not list or len(returned) != 2:
            raise BadReturnError(f"the function returned {_what(returned)}; {EXPECTED}")
        warning = f"the function returned a list instead of a tuple; {EXPECTED}"
    if len(returned) != 2:
        raise BadReturnError(f"the function returned a tuple of length {len(returned)}; {EXPECTED}")
    retry, result = returned
    if retry is not True and retry is not False:
        if isinstance(retry, (str, bytes, dict, list, tuple, set)):
            # The function has probably returned (result, retry). Do not use the truth value of the
            # result as retry: it is usually true, so the task would be retried forever.
            raise BadReturnError(
                f"the function returned {_what(retry)} as retry, the first item of the tuple, "
                f"which must be True or False; {EXPECTED}"
            )
        try:
            truth = bool(retry)
        except Exception as error:
            raise BadReturnError(
                f"the function returned {_what(retry)} as retry, the first item of the tuple, "
                f"which cannot be converted to a bool ({error}); {EXPECTED}"
            ) from None
        warning = (
            "retry, the first item of the tuple that the function returned, is not a bool; "
            "ctworker uses its truth value (0 and None are false). To avoid this warning, "
            f"{EXPECTED}"
        )
        retry = truth
    try:
        encoded = encode_value(result)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        reason = find_fault(result) or f"the result cannot be represented in JSON: {error}"
        raise BadReturnError(
            f"{reason}. A result is a str, or a dict of str, int, float, bool, None, list and dict"
        ) from None
    if len(encoded) > max_size:
        raise BadReturnError(
            f"the result has {len(encoded)} bytes as JSON, but the maximum is {max_size} bytes; "
            "raise --max-result-size, or write the result to a file and return the file's name"
        )
    return retry, encoded, warning


def _what(value: object) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    article = "an" if (module or kind.__qualname__)[0] in "aeioAEIO" else "a"
    return f"{article} {module}{kind.__qualname__}"


def _long_int(number: object) -> str | None:
    """If number is an int that Python cannot convert to text, return a text that describes it.

    Otherwise return None.
    """
    if not isinstance(number, int):
        return None
    try:
        int.__repr__(number)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        return (
            f"an int with too many digits (the limit is {limit}); use a str instead, or raise "
            "the limit with sys.set_int_max_str_digits"
        )
    return None


def find_fault(value: object) -> str | None:
    """Return a text that names the part of value that JSON cannot represent, and why.

    Return None if there is no such part.
    """
    try:
        return _find(value, "the result", [])
    except RecursionError:
        return "the result is nested too deeply for JSON"


def _find(value: object, where: str, enclosing: list[object]) -> str | None:
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, int):
        return f"{where} is {fault}" if (fault := _long_int(value)) else None
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return f"{where} is {value!r}, which is not a JSON number; use None or a str instead"
    if not isinstance(value, (dict, list, tuple)):
        return f"{where} is {_what(value)}, which cannot be represented in JSON"
    if any(value is outer for outer in enclosing):
        return f"{where} contains itself"
    enclosing.append(value)
    if where == "the result":
        where = "result"
    if isinstance(value, dict):
        if fault := next(filter(None, map(_long_int, value)), None):
            return f"{where} has a key that is {fault}"
        if all(key is None or isinstance(key, (str, int, float)) for key in value) and (
            same := _same_keys(value)
        ):
            return f"{where} has {same}"
        for key, item in value.items():
            if key is not None and not isinstance(key, (str, int, float, bool)):
                return f"{where} has a key that is {_what(key)}; keys must be str"
            if isinstance(key, float) and not math.isfinite(key):
                return f"{where} has the key {key!r}, which is not a JSON number; use a str instead"
            if fault := _find(item, f"{where}[{key!r}]", enclosing):
                return fault
    else:
        for i, item in enumerate(value):
            if fault := _find(item, f"{where}[{i}]", enclosing):
                return fault
    enclosing.pop()
    return None
