"""Tests of tasks from a queue, with a fake SQS server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Runner

SERVER = Path(__file__).parents[3] / "internal" / "testutil" / "sqstest" / "server.py"


@pytest.fixture(scope="module")
def aws() -> Iterator[dict[str, str]]:
    """Start a fake SQS server, and return the environment variables that select it."""
    server = subprocess.Popen(
        [sys.executable, SERVER, "-H", "127.0.0.1", "-p", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr
        address = next(
            found[1]
            for line in server.stderr
            if (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line))
        )
        yield {
            "AWS_ENDPOINT_URL": address,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RMS_CLOUD_TASKS_PROVIDER": "AWS",
        }
    finally:
        server.kill()
        server.communicate()


def ctworker(runner: Runner, env: dict[str, str], *arguments: str) -> None:
    subprocess.run(
        [os.environ["CTWORKER_BIN"], *arguments],
        cwd=runner.folder,
        env={**os.environ, **env},
        check=True,
        capture_output=True,
        timeout=60,
    )


def test_tasks_from_a_queue(runner: Runner, aws: dict[str, str], isolation: str) -> None:
    env = {**aws, "RMS_CLOUD_TASKS_JOB_ID": f"jobs-{isolation}"}
    runner.write_tasks([{"n": n} for n in range(20)])
    ctworker(runner, env, "load", "--task-file", "tasks.json", "--create")
    program = runner.write_program(
        """
        def f(task_id, data, worker):
            if data["n"] == 7:
                raise ValueError("seven")
            retry = data["n"] == 8 and worker.attempt == 1
            return retry, {"n": data["n"], "queue": worker.queue_name, "attempt": worker.attempt}
        """
    )
    done = runner.run(
        program,
        "-j",
        "2",
        "--idle-timeout",
        "2",
        "--retry-on-exception",
        "--max-attempts",
        "3",
        "--isolation",
        isolation,
        env=env,
    )
    assert done.code == 0, done.err
    assert not done.events  # the events are in the queue
    ctworker(runner, env, "events", "--output", "queue.jsonl", "--idle-timeout", "1")
    everything = [json.loads(line) for line in (runner.folder / "queue.jsonl").open()]
    events = [e for e in everything if "task_id" in e]
    others = [e["event_type"] for e in everything if "task_id" not in e]
    # The load, and a keep_alive event at the start and at the end of the run.
    assert sorted(others) == ["keep_alive", "keep_alive", "tasks_loaded"]
    events.sort(key=lambda e: e["attempt"])  # the queue does not preserve the order
    events_of = {n: [e for e in events if e["task_id"] == f"t{n}"] for n in range(20)}
    for n in range(20):
        assert len(events_of[n]) == {7: 3, 8: 2}.get(n, 1), events_of[n]
    assert [e["retry"] for e in events_of[7]] == [True, True, False]
    assert "attempt 3" in events_of[7][2]["retry_denied"]
    assert "ValueError: seven" in events_of[7][2]["exception"]
    assert [e["result"]["attempt"] for e in events_of[8]] == [1, 2]
    assert events_of[0][0]["result"] == {"n": 0, "queue": f"jobs-{isolation}", "attempt": 1}


def test_missing_queue(runner: Runner, aws: dict[str, str]) -> None:
    program = runner.write_program("def f(task_id, data, worker): return False, 1")
    done = runner.run(program, "--job-id", "nowhere", env=aws)
    assert done.code == 1
    assert "does not exist" in done.err
    assert "ctworker queue create" in done.err
