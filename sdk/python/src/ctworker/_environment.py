"""The environment variables of settings, also in a worker that runs inside a task."""

from __future__ import annotations

import os
import zlib

OUTER_VAR = "CTWORKER_OUTER_SETTINGS"
_SETTINGS = "RMS_CLOUD_TASKS_"
_KEPT = frozenset({"CTWORKER_BIN"})


def setting(name: str) -> str | None:
    """Return the value of a setting's variable, or None if it does not count as set.

    As in the engine, a variable counts as not set if it is empty, if it is `None`, or if an
    outer run set it for its task; see CTWORKER_OUTER_SETTINGS in docs/settings.md.
    """
    value = os.environ.get(name)
    if not value or value == "None" or _is_outer(name, value):
        return None
    return value


def _is_outer(name: str, value: str) -> bool:
    checksum = f"{zlib.crc32(os.fsencode(value)):08x}"
    item = f"{name.removeprefix(_SETTINGS)}={checksum}"
    return item in os.environ.get(OUTER_VAR, "").split(",")


def remove_outer_settings() -> None:
    """Remove the variables of an outer run; the engine provides those of this run."""
    for name in list(os.environ):
        if name.startswith(("CTWORKER_", _SETTINGS)) and name not in _KEPT:
            del os.environ[name]
