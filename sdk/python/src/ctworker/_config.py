"""The user's program and its configuration."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from ctworker._data import Notification, WorkerData
from ctworker._source import Source
from ctworker._task import Function


@dataclass(frozen=True)
class Program:
    """The function, command line and task source of a Worker."""

    function: Function
    args: argparse.Namespace
    engine_flags: list[str]
    source: Source | None
    extra: dict[str, Any] = field(default_factory=dict)
    """The attributes that the program added to the worker data of its tasks."""

    def worker_data(
        self, fields: dict[str, Any], notifications: dict[str, Notification]
    ) -> WorkerData:
        """Return the worker data from fields, which the engine sent, and from extra."""
        data = WorkerData(fields, self.args, notifications)
        data.__dict__.update(self.extra)
        return data

    @property
    def name(self) -> str:
        """The program's name, for messages."""
        return os.path.basename(sys.argv[0] or "worker")


def restart_command() -> list[str]:
    """Return the command that starts this program again with the same arguments.

    The list is empty if Python has read the program from standard input, because standard
    input cannot be read a second time.
    """
    if sys.argv[0] in ("", "-"):
        return []
    return [sys.executable, *sys.orig_argv[1:]]
