"""The user's program, as the other modules need it."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from ctworker._data import Notice, WorkerData
from ctworker._source import Source
from ctworker._task import Function


@dataclass(frozen=True)
class Program:
    """What a Worker was made with."""

    function: Function
    args: argparse.Namespace
    engine_flags: list[str]
    source: Source | None
    extra: dict[str, Any] = field(default_factory=dict)
    """The attributes that the program added to the worker data of its tasks."""

    def worker_data(self, fields: dict[str, Any], notices: dict[str, Notice]) -> WorkerData:
        """Return the engine's worker data with the attributes that the program added."""
        data = WorkerData(fields, self.args, notices)
        data.__dict__.update(self.extra)
        return data

    @property
    def name(self) -> str:
        """What messages call the program."""
        return os.path.basename(sys.argv[0] or "worker")


def start_again() -> list[str]:
    """Return the command that starts this program again, with its arguments.

    It is empty if the program was read from standard input.
    """
    if sys.argv[0] in ("", "-"):
        return []
    return [sys.executable, *sys.orig_argv[1:]]
