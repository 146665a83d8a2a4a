"""Read the environment variables of settings.

A task can itself run a worker. The inner worker ignores the variables that the outer worker has
set for its tasks.
"""

from __future__ import annotations

import os
import zlib

OUTER_VAR = "CTWORKER_OUTER_SETTINGS"
_SETTINGS = "RMS_CLOUD_TASKS_"
_KEPT = frozenset({"CTWORKER_BIN"})


def setting(name: str) -> str | None:
    """Return the value of a setting's environment variable, or None if it is not set.

    A variable also counts as not set if its value is empty or the text `None`, or if an outer
    worker has set it for its tasks. The engine uses the same rules. docs/settings.md describes
    CTWORKER_OUTER_SETTINGS, which lists the variables of the outer worker.
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
    """Remove the variables of an outer worker. The engine sends the variables of this run."""
    for name in list(os.environ):
        if name.startswith(("CTWORKER_", _SETTINGS)) and name not in _KEPT:
            del os.environ[name]
