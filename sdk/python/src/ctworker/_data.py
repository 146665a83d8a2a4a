"""What a task's function is handed: the task's data, and what it may know of the worker."""

from __future__ import annotations

import argparse
import os
import select
import time
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
    bytes. `WorkerData()` has the defaults, so that a test can call a task's function; its
    attributes can be set. It can be pickled, for example to pass it to another process.

    `shutdown_event` and `termination_event` are the notifications behind the two properties.
    They have `is_set()`, and `wait(timeout)`, which returns False if the time is over first.
    """

    args: argparse.Namespace | None = None
    """The parsed command line: the program's own arguments and the worker's."""
    provider: str | None = None
    project_id: str | None = None
    job_id: str | None = None
    queue_name: str | None = None
    exactly_once_queue: bool = False
    event_log_to_file: bool = False
    event_log_file: str | None = "events.log"
    event_log_to_queue: bool = False
    event_log_queue_name: str | None = None
    """The name of the event queue; None if no events are sent to one."""
    keepalive_interval: float = 60.0
    """The time between two keep_alive events; 0 disables them."""
    instance_type: str | None = None
    num_cpus: int | None = None
    memory_gb: float | None = None
    local_ssd_gb: float | None = None
    boot_disk_gb: float | None = None
    is_spot: bool = False
    price_per_hour: float | None = None
    """In US dollars."""
    instance_id: str | None = None
    """What the provider calls this machine; None where its metadata does not say."""
    zone: str | None = None
    """Where this machine is, such as us-east-1a; None where its metadata does not say."""
    num_simultaneous_tasks: int = 1
    max_runtime: float = 600
    max_memory_allowed_per_task: float | None = None
    """The limit of a task's address space in GB; None if there is no limit."""
    shutdown_grace_period: float = 30
    tasks_to_skip: int = 0
    max_num_tasks: int | None = None
    retry_on_exit: bool = False
    retry_on_exception: bool = False
    retry_on_timeout: bool = False
    simulate_spot_termination_after: float | None = None
    simulate_spot_termination_delay: float | None = None

    slot: int = 0
    """Which of the simultaneous processes this is, from 0: for picking a GPU, say."""
    attempt: int = 1
    """Which attempt at the task this is, from 1."""
    task_id: str = ""

    def __init__(
        self,
        fields: dict[str, Any] | None = None,
        args: argparse.Namespace | None = None,
        notices: dict[str, Notice] | None = None,
    ) -> None:
        """Create the data; programs pass no arguments. Without notices the events are never set."""
        for name, value in (fields or {}).items():
            # JSON does not distinguish 16 from 16.0.
            self.__dict__[name] = float(value) if name in _FLOATS and type(value) is int else value
        notices = notices or {}
        self.args = args
        self.shutdown_event: Any = notices.get(SHUTDOWN) or Notice(None, None)
        self.termination_event: Any = notices.get(TERMINATION) or Notice(None, None)

    def _for_task(self, task_id: str, attempt: int, slot: int) -> WorkerData:
        """Return a copy for one task, so that no task sees what another has set."""
        copy = WorkerData.__new__(WorkerData)
        # dict.copy is several times as fast as dict.update.
        copy.__dict__ = attributes = self.__dict__.copy()
        attributes["task_id"] = task_id
        attributes["attempt"] = attempt
        attributes["slot"] = slot
        return copy

    @property
    def received_termination_notice(self) -> bool:
        """Whether the provider will soon terminate the machine, as it does with spot instances.

        Check it before you commit results to storage. It takes about a microsecond.
        """
        return _is_set(self.termination_event)

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker has been asked to end (SIGINT, SIGTERM, Ctrl-C).

        The task then has `shutdown_grace_period` seconds to finish. It costs about a
        microsecond.
        """
        return _is_set(self.shutdown_event)

    def __repr__(self) -> str:
        fields = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return f"WorkerData({', '.join(f'{k}={v!r}' for k, v in fields.items())})"


_FLOATS = frozenset(
    """
    memory_gb local_ssd_gb boot_disk_gb price_per_hour keepalive_interval
    max_memory_allowed_per_task simulate_spot_termination_after
    simulate_spot_termination_delay
    """.split()
)
"""The attributes that are floats even if they are whole numbers, as in `cloud_tasks`."""


def _is_set(event: Any) -> bool:
    return event is not None and bool(event.is_set())


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

    is_set = given

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most timeout seconds for the notice; return whether it was given."""
        until = None if timeout is None else time.monotonic() + max(timeout, 0)
        while not self.given():
            left = _PAUSE if until is None else min(until - time.monotonic(), _PAUSE)
            if left <= 0:
                return False
            if self._poll is not None:
                self._poll.poll(left * 1000)
            else:
                time.sleep(left)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process may have something else at the descriptor's number, so it
        # looks for the file.
        return Notice, (None, self._file)


_PAUSE = 0.1
"""The interval in seconds at which a file is checked for."""


def notices_from_environment() -> dict[str, Notice]:
    """Return the notices that the environment names."""
    notices = {}
    for name in (SHUTDOWN, TERMINATION):
        fd = os.environ.get(f"CTWORKER_{name}_FD", "")
        file = os.environ.get(f"CTWORKER_{name}_FILE")
        notices[name] = Notice(int(fd) if fd.isdigit() else None, file)
    return notices
