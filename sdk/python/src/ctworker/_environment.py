"""The variables that a run exports to its tasks, as a worker inside such a task reads them."""

from __future__ import annotations

import os
import zlib

OUTER_VAR = "CTWORKER_OUTER_SETTINGS"
_SETTINGS = "RMS_CLOUD_TASKS_"
_KEPT = frozenset({"CTWORKER_BIN"})


def setting(name: str) -> str | None:
    """Return the value of a setting's variable, or None if that does not count as set.

    As in the engine, it does not if it is empty, if it is `None`, or if it still has the
    value that it has for the task of an outer run; see OUTER_VAR in docs/settings.md.
    """
    value = os.environ.get(name)
    if not value or value == "None" or _is_outer(name, value):
        return None
    return value


def _is_outer(name: str, value: str) -> bool:
    checksum = f"{zlib.crc32(os.fsencode(value)):08x}"
    item = f"{name.removeprefix(_SETTINGS)}={checksum}"
    return item in os.environ.get(OUTER_VAR, "").split(",")


def forget_outer_run() -> None:
    """Remove what an outer run has exported; the engine sends what is right for this one."""
    for name in list(os.environ):
        if name.startswith(("CTWORKER_", _SETTINGS)) and name not in _KEPT:
            del os.environ[name]
