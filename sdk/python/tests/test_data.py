"""Tests of TaskData, WorkerData and notifications, without an engine."""

from __future__ import annotations

import argparse
import copy
import json
import os
import pickle
from pathlib import Path

import pytest

from ctworker import TaskData, Worker, WorkerData
from ctworker._data import SHUTDOWN, TERMINATION, Notification


def test_task_data_is_the_data() -> None:
    data = TaskData("t1", {"num1": 1, "num2": None})
    assert (data["num1"], data.get("num2", 5), data.get("num3"), data.get("num3", 5)) == (
        1,
        None,
        None,
        5,
    )
    assert json.dumps(data) == '{"num1": 1, "num2": null}'
    assert str(data) == "{'num1': 1, 'num2': None}"
    assert data == {"num1": 1, "num2": None}
    assert list(data) == ["num1", "num2"]


def test_task_data_has_the_fields_of_the_specification() -> None:
    data = TaskData("t1", {"num1": 1})
    assert (data["task_id"], data.get("task_id")) == ("t1", "t1")
    assert (data["data"], data.get("data")) == ({"num1": 1}, {"num1": 1})
    assert type(data["data"]) is dict
    with pytest.raises(KeyError, match="other"):
        data["other"]


def test_keys_of_the_data_take_precedence() -> None:
    data = TaskData("t1", {"task_id": 5, "data": [1]})
    assert (data["task_id"], data["data"], data.get("task_id")) == (5, [1], 5)


@pytest.mark.parametrize(
    "copy_data", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
def test_task_data_can_be_copied(copy_data: object) -> None:
    data = TaskData("t1", {"num1": 1, "gone": 2})
    data["more"] = 3
    del data["gone"]
    other = copy_data(data)  # type: ignore[operator]
    assert (dict(other), other["task_id"], other["data"]) == (
        dict(data),
        "t1",
        {"num1": 1, "gone": 2},
    )


def test_notifications(tmp_path: Path) -> None:
    r, w = os.pipe()
    file = tmp_path / "termination"
    worker = WorkerData(
        {},
        argparse.Namespace(),
        {SHUTDOWN: Notification(None, None), TERMINATION: Notification(r, str(file))},
    )
    unpickled: WorkerData = pickle.loads(pickle.dumps(worker))
    for seen in (worker, unpickled):
        assert (seen.received_termination_notice, seen.received_shutdown_request) == (False, False)
    os.write(w, b"\n")
    assert worker.received_termination_notice
    assert not unpickled.received_termination_notice  # the copy watches only the file
    file.touch()
    assert unpickled.received_termination_notice
    assert os.read(r, 9) == b"\n"  # received_termination_notice has not read the byte
    assert worker.received_termination_notice  # stays true when the byte has been read
    os.close(r)
    os.close(w)


def test_tasks_do_not_share_worker_data() -> None:
    worker = WorkerData({"provider": "AWS"}, argparse.Namespace(), {})
    first, second = worker._for_task("a", 1, 0), worker._for_task("b", 2, 1)
    first.provider = "GCP"
    assert (second.provider, second.task_id, second.attempt, second.slot) == ("AWS", "b", 2, 1)


@pytest.mark.parametrize(
    ("size", "gigabytes"),
    [
        ("4", 4.0),
        ("0.5", 0.5),
        ("512M", 0.5),
        ("512mb", 0.5),
        ("2GiB", 2.0),
        ("2 gib", 2.0),
        ("1T", 1024.0),
        ("1B", "1B"),
        ("x", "x"),
    ],
)
@pytest.mark.parametrize(
    ("flag", "attribute"),
    [
        ("--max-memory-allowed-per-task", "max_memory_allowed_per_task"),
        ("--memory", "memory_gb"),
        ("--local-ssd", "local_ssd_gb"),
        ("--boot-disk", "boot_disk_gb"),
    ],
)
def test_sizes_of_data_are_in_gigabytes(
    flag: str, attribute: str, size: str, gigabytes: object
) -> None:
    data = Worker(print, [f"{flag}={size}", "--task-file=x"])._data
    value = getattr(data, attribute)
    assert (value, type(value)) == (gigabytes, type(gigabytes))
