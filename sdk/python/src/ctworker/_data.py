"""The arguments of a task's function: the task's data, and information about the worker."""

from __future__ import annotations

import argparse
import os
import select
import time
from typing import Any

from ctworker._worker_settings import FLOATS, WorkerSettings

SHUTDOWN = "SHUTDOWN"
TERMINATION = "TERMINATION"


class TaskData(dict[str, Any]):
    """A task's data: a dict with the items of the task's `data`.

    The specification says that a task's function receives a dict with the keys "task_id" and
    "data". Existing programs, however, use the dict as the data itself. TaskData supports both:
    its items are those of the data, and a lookup of "task_id" or "data" returns the task's id or
    the plain data. If the data has an item with that key, the lookup returns the item.

    Iteration, `len`, `in` and conversion to JSON see only the items of the data.
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
        """Return the item with this key, or default if there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle the items in addition to the data, because the program may have changed the items.
        return _restore_task_data, (self._task_id, self._data, dict(self))


def _restore_task_data(task_id: str, data: dict[str, Any], items: dict[str, Any]) -> TaskData:
    restored = TaskData(task_id, data)
    dict.clear(restored)
    dict.update(restored, items)
    return restored


class WorkerData(WorkerSettings):
    """Information for a task: the worker's settings, and the task's id, attempt and slot.

    A setting without a value is None. Times are in seconds. Sizes are in GB of 2^30 bytes.
    WorkerData can be pickled, for example to pass it to another process. To test a task's
    function, create `WorkerData()`, which has the default values, and set its attributes.

    `shutdown_event` is the notification of a shutdown, and `termination_event` the notification
    that the provider will terminate this machine. Call `is_set()` to check for the notification
    without blocking. `wait(timeout)` blocks until the notification is sent. If it is not sent
    within timeout seconds, wait returns False.
    """

    args: argparse.Namespace | None = None
    """The parsed command line: the program's own arguments and the worker's."""
    slot: int = 0
    """The task's slot, from 0 to num_simultaneous_tasks - 1, for example to select a GPU."""
    attempt: int = 1
    """The number of this attempt at the task, from 1."""
    task_id: str = ""

    def __init__(
        self,
        fields: dict[str, Any] | None = None,
        args: argparse.Namespace | None = None,
        notifications: dict[str, Notification] | None = None,
    ) -> None:
        """Create worker data from the settings in fields. Programs pass no arguments.

        Without notifications, shutdown_event and termination_event are never set.
        """
        for name, value in (fields or {}).items():
            # The engine sends 16.0 as 16, which the JSON parser returns as an int.
            self.__dict__[name] = float(value) if name in FLOATS and type(value) is int else value
        notifications = notifications or {}
        self.args = args
        self.shutdown_event: Any = notifications.get(SHUTDOWN) or Notification(None, None)
        self.termination_event: Any = notifications.get(TERMINATION) or Notification(None, None)

    def _for_task(self, task_id: str, attempt: int, slot: int) -> WorkerData:
        """Return a copy for one task. Other tasks do not see attributes set on the copy."""
        copy = WorkerData.__new__(WorkerData)
        # dict.copy is several times as fast as dict.update.
        copy.__dict__ = attributes = self.__dict__.copy()
        attributes["task_id"] = task_id
        attributes["attempt"] = attempt
        attributes["slot"] = slot
        return copy

    @property
    def received_termination_notice(self) -> bool:
        """Whether the provider has announced that it will terminate this machine.

        Check it before you commit results to storage, because the machine can disappear while
        you write. The check takes about a microsecond.
        """
        return _is_set(self.termination_event)

    @property
    def received_shutdown_request(self) -> bool:
        """Whether the worker is shutting down, after SIGINT (Ctrl-C), SIGTERM or SIGHUP.

        The task then has `shutdown_grace_period` seconds to finish. The check takes about a
        microsecond.
        """
        return _is_set(self.shutdown_event)

    def __repr__(self) -> str:
        fields = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return f"WorkerData({', '.join(f'{k}={v!r}' for k, v in fields.items())})"


WorkerData.__annotations__ = {**WorkerSettings.__annotations__, **WorkerData.__annotations__}
"""Programs list the attributes with WorkerData.__annotations__.

By default, __annotations__ does not contain the inherited attributes."""


def _is_set(event: Any) -> bool:
    return event is not None and bool(event.is_set())


class Notification:
    """A notification to tasks: a descriptor becomes readable, or a file appears.

    All processes share the descriptor, a pipe to which the engine writes one byte. No process
    reads the byte, because the pipe must remain readable for the other processes.
    """

    __slots__ = ("_fd", "_file", "_poll", "_received")

    def __init__(self, fd: int | None, file: str | None) -> None:
        """Create a notification that watches fd, or file if fd is None.

        If both are None, the notification is never set.
        """
        self._fd = fd
        self._file = file
        self._received = False
        self._poll: select.poll | None = None

    def is_set(self) -> bool:
        """Return whether the notification has been sent, without blocking."""
        if self._received:
            return True
        if self._fd is not None:
            if self._poll is None:
                self._poll = select.poll()
                self._poll.register(self._fd, select.POLLIN)
            self._received = any(events & select.POLLIN for _, events in self._poll.poll(0))
        elif self._file:
            self._received = os.path.exists(self._file)
        return self._received

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the notification, and return whether it has been sent.

        timeout is the maximum time to wait in seconds. None means no limit.
        """
        deadline = None if timeout is None else time.monotonic() + max(timeout, 0)
        while not self.is_set():
            pause = _POLL_INTERVAL
            if deadline is not None:
                pause = min(deadline - time.monotonic(), _POLL_INTERVAL)
            if pause <= 0:
                return False
            if self._poll is not None:
                self._poll.poll(pause * 1000)
            else:
                time.sleep(pause)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # In the process that unpickles the copy, the number of the descriptor may belong to another
        # file. The copy therefore watches only the notification's file.
        return Notification, (None, self._file)


_POLL_INTERVAL = 0.1
"""The time in seconds between two checks whether the notification has been sent."""


def notifications_from_environment() -> dict[str, Notification]:
    """Return the notifications that the engine has put into the environment of this process."""
    notifications = {}
    for name in (SHUTDOWN, TERMINATION):
        fd = os.environ.get(f"CTWORKER_{name}_FD", "")
        file = os.environ.get(f"CTWORKER_{name}_FILE")
        notifications[name] = Notification(int(fd) if fd.isdigit() else None, file)
    return notifications
