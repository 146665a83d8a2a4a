"""`Worker._data`: the settings, which the program can read and change before the run.

Programs written for rms-cloud-tasks use this attribute. They read `worker._data.args`, and set
attributes on `worker._data` that their tasks then read from worker_data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from ctworker._data import WorkerData
from ctworker._environment import setting as setting_variable
from ctworker._settings import SETTINGS, Setting

_BY_FLAG = {setting.flags[0]: setting for setting in SETTINGS}

_BY_ATTRIBUTE = {setting.attribute: setting for setting in SETTINGS if setting.attribute}


class ConfiguredData(WorkerData):
    """The settings of the command line and the environment, and attributes set by the program."""

    _changed: set[str]
    """The names of the attributes that the program has set."""

    def __init__(self, args: Any, flag_values: Mapping[str, Any], *, has_source: bool) -> None:
        """Combine the settings. A flag takes precedence over an environment variable.

        flag_values are the values of the worker's flags on the command line. has_source is
        true if the program has passed a task_source to Worker.
        """
        values: dict[str, Any] = {}
        for name, setting in _BY_ATTRIBUTE.items():
            value = flag_values.get(setting.flags[0])
            if value is None:
                value = _from_environment(setting)
            if value is not None:
                is_size = setting.metavar in ("GB", "SIZE") and isinstance(value, str)
                values[name] = _gigabytes(value) if is_size else value
        has_task_file = has_source or bool(
            flag_values.get("--task-file") or _variable("--task-file")
        )
        _derive(values, has_task_file)
        self.__dict__["_changed"] = set()
        super().__init__(values, args)
        self._changed.clear()

    def __setattr__(self, name: str, value: Any) -> None:
        self._changed.add(name)
        super().__setattr__(name, value)

    def _flags(self) -> list[str]:
        """Return the flags for the settings that the program set as attributes.

        Raises ValueError if the program set event_log_queue_name, or set a setting to None.
        """
        flags: list[str] = []
        for name in sorted(self._changed):
            setting = _BY_ATTRIBUTE.get(name)
            value = getattr(self, name)
            if name == "event_log_queue_name":
                raise ValueError(
                    "_data.event_log_queue_name cannot be set, because the event queue is named "
                    "after the task queue, with -events appended; set _data.queue_name instead"
                )
            if setting is None:
                continue
            flag = setting.flags[0]
            if value is None:
                raise ValueError(
                    f"_data.{name} cannot be set to None; set another value. To use the default, "
                    f"remove the assignment, and omit {flag} and {setting.env}"
                )
            if setting.metavar is not None:
                flags.append(f"{flag}={value}")
            elif value:
                flags.append(flag)
            else:
                flags.append(setting.negated or f"{flag}=false")
        return flags

    def _extra(self) -> dict[str, Any]:
        """Return the attributes that the program set for its tasks, other than settings."""
        return {
            name: self.__dict__[name]
            for name in self._changed
            if name in self.__dict__ and name != "args" and name not in _BY_ATTRIBUTE
        }

    def __reduce__(self) -> Any:
        state = {k: v for k, v in self.__dict__.items() if k != "_changed"}
        return _plain, (state,)


def _plain(state: dict[str, Any]) -> WorkerData:
    """Return an unpickled copy.

    The copy is a plain WorkerData, which does not record changes, because only changes of the
    original have an effect on the run.
    """
    data = WorkerData()
    data.__dict__.update(state)
    return data


def _variable(flag: str) -> str | None:
    env = _BY_FLAG[flag].env
    return setting_variable(env) if env else None


def _from_environment(setting: Setting) -> Any:
    """Return the value of the setting's environment variable, or None if it is not set.

    An invalid value is returned as text; the engine reports it.
    """
    text = setting_variable(setting.env) if setting.env else None
    if text is None:
        return None
    if setting.kind == "bool":
        return text.lower() in ("1", "true", "yes", "on")
    try:
        return {"int": int, "float": float}.get(setting.kind, str)(text)
    except ValueError:
        return text


_SIZE = re.compile(r"([0-9.]+(?:e[-+]?[0-9]+)?) *(?:([KMGT])(?:i?B)?)?", re.IGNORECASE)


def _gigabytes(size: str) -> Any:
    """Return a size such as 4, 500M or 2GiB in GB. A size without a unit is in GB.

    An invalid size is returned unchanged; the engine reports it.
    """
    if (match := _SIZE.fullmatch(size)) is None:
        return size
    try:
        return float(match[1]) * 1024.0 ** ("KMGT".index((match[2] or "G").upper()) - 2)
    except ValueError:
        return size


def _derive(values: dict[str, Any], has_task_file: bool) -> None:
    """Set the values that depend on other settings. The engine derives the same values."""
    if isinstance(provider := values.get("provider"), str):
        values["provider"] = provider.upper()
    if queue := values.setdefault("queue_name", values.get("job_id")):
        queue = str(queue).removesuffix(".fifo")
    values.setdefault("event_log_to_file", has_task_file)
    values.setdefault("event_log_to_queue", not has_task_file)
    if values["event_log_to_queue"] and queue:
        values["event_log_queue_name"] = f"{queue}-events"
    tasks = values.setdefault("num_simultaneous_tasks", values.get("num_cpus") or 1)
    if tasks == "auto":
        values["num_simultaneous_tasks"] = _usable_cpus()


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
