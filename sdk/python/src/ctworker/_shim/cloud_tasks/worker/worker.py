"""The class Worker with the logging configuration that programs for rms-cloud-tasks rely on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import Any

from ctworker import worker as _worker
from ctworker._environment import setting
from ctworker.worker import TaskData, WorkerData

from ..common.logging_config import add_handler, prepare

__all__ = ["TaskData", "Worker", "WorkerData", "logger"]

# Configure logging at import, because this module of rms-cloud-tasks does so too.
prepare()

logger = logging.getLogger(__name__)


class Worker(_worker.Worker):
    """ctworker.Worker that also adds a handler to the root logger if the logger has none."""

    def __init__(
        self,
        user_worker_function: Callable[[str, Any, WorkerData], Any],
        args: Sequence[str] | None = None,
        *,
        task_source: Any = None,
        argparser: argparse.ArgumentParser | None = None,
    ) -> None:
        """Create a worker like ctworker.Worker. --verbose sets the root logger's level to DEBUG."""
        super().__init__(user_worker_function, args, task_source=task_source, argparser=argparser)
        add_handler()
        verbose = (setting("RMS_CLOUD_TASKS_VERBOSE") or "").lower()
        if getattr(self._data.args, "verbose", None) or verbose in ("1", "true", "yes", "on"):
            logging.getLogger().setLevel(logging.DEBUG)
