"""What a task's function is handed: the task's data, and what it may know of the worker."""

from __future__ import annotations

import argparse
import os
import select
from typing import Any

SHUTDOWN = "SHUTDOWN"
TERMINATION = "TERMINATION"


class TaskData(dict[str, Any]):
    """A task's data: a dict with the items of the task's `data`.

    The specification says that this dict has the fields "task_id" and "data", and
    existing programs use it as the data itself. Both work: `["task_id"]` and
    `["data"]`, also with `get`, answer with the task's id and the plain data, unless
    the data has a key of that name itself. Neither counts as an item.
    """

    __slots__ = ("_data", "_task_id")

    def __init__(self, task_id: str, data: dict[str, Any]) -> None:
        super().__init__(data)
        self._task_id = task_id
        self._data = data

    def __missing__(self, key: str) -> Any:
        if key == "task_id":
            return self._task_id
        if key == "data":
            return self._data
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the item, and default if there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce__(self) -> tuple[Any, ...]:
        # The items are those of now, which need not be those of data any more.
        return _restore_task_data, (self._task_id, self._data, dict(self))


def _restore_task_data(task_id: str, data: dict[str, Any], items: dict[str, Any]) -> TaskData:
    restored = TaskData(task_id, data)
    dict.clear(restored)
    dict.update(restored, items)
    return restored


class WorkerData:
    """What a task may know of the worker that runs it, and of its own run.

    A setting that has no value is None. Times are in seconds, sizes in GB of 2^30
    bytes. It can be pickled, as when a task hands it to a process of its own.
    """

    args: argparse.Namespace
    """The parsed command line: the program's own arguments and the worker's."""
    provider: str | None
    project_id: str | None
    job_id: str | None
    queue_name: str | None
    exactly_once_queue: bool
    event_log_to_file: bool
    event_log_file: str | None
    event_log_to_queue: bool
    instance_type: str | None
    num_cpus: int | None
    memory_gb: float | None
    local_ssd_gb: float | None
    boot_disk_gb: float | None
    is_spot: bool
    price_per_hour: float | None
    """In US dollars."""
    instance_id: str | None
    """What the provider calls this machine; None where its metadata does not say."""
    zone: str | None
    """Where this machine is, such as us-east-1a; None where its metadata does not say."""
    num_simultaneous_tasks: int
    max_runtime: float
    shutdown_grace_period: float
    tasks_to_skip: int
    max_num_tasks: int | None
    retry_on_exit: bool
    retry_on_exception: bool
    retry_on_timeout: bool
    simulate_spot_termination_after: float | None
    simulate_spot_termination_delay: float | None

    slot: int
    """Which of the simultaneous processes this is, from 0: for picking a GPU, say."""
    attempt: int
    """Which attempt at the task this is, from 1."""
    task_id: str

    def __init__(
        self, fields: dict[str, Any], args: argparse.Namespace, notices: dict[str, Notice]
    ) -> None:
        self.__dict__.update(fields)
        self.args = args
        self._notices = notices

    def for_task(self, task_id: str, attempt: int, slot: int) -> WorkerData:
        """Return a copy for one task, so that no task sees what another has set."""
        copy = WorkerData.__new__(WorkerData)
        copy.__dict__.update(self.__dict__)
        copy.task_id = task_id
        copy.attempt = attempt
        copy.slot = slot
        return copy

    @property
    def received_termination_notice(self) -> bool:
        """Whether the machine will soon be taken away, as spot instances are.

        Look before you commit results to storage. It costs about a microsecond.
        """
        return self._notices[TERMINATION].given()

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker has been asked to end (SIGINT, SIGTERM, Ctrl-C).

        The task then has `shutdown_grace_period` seconds to finish. It costs about a
        microsecond.
        """
        return self._notices[SHUTDOWN].given()

    def __repr__(self) -> str:
        fields = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return f"WorkerData({', '.join(f'{k}={v!r}' for k, v in fields.items())})"


class Notice:
    """A notice: a descriptor that becomes readable, and a file that appears.

    The descriptor is never read from, so that one byte reaches all processes.
    """

    __slots__ = ("_fd", "_file", "_given", "_poll")

    def __init__(self, fd: int | None, file: str | None) -> None:
        self._fd = fd
        self._file = file
        self._given = False
        self._poll: select.poll | None = None

    def given(self) -> bool:
        """Whether it has been given. Once it is, it stays so."""
        if self._given:
            return True
        if self._fd is not None:
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self._fd, select.POLLIN)
            self._given = any(events & select.POLLIN for _, events in self._poll.poll(0))
        elif self._file:
            self._given = os.path.exists(self._file)
        return self._given

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may have something else at the descriptor's number, so it
        # looks for the file.
        return Notice, (None, self._file)


def notices_from_environment() -> dict[str, Notice]:
    """Return the notices that the environment names."""
    notices = {}
    for name in (SHUTDOWN, TERMINATION):
        fd = os.environ.get(f"CTWORKER_{name}_FD", "")
        file = os.environ.get(f"CTWORKER_{name}_FILE")
        notices[name] = Notice(int(fd) if fd.isdigit() else None, file)
    return notices
