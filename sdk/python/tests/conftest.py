"""Fixtures that write a worker program to a file, and run the program with the engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "src"
TIMEOUT = 60  # seconds after which a test fails because its program has not exited

HEAD = """
import asyncio, os, signal, sys, time
from ctworker import Worker, WorkerData
"""
MAIN = """
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:]).start())
"""


@dataclass
class CompletedRun:
    """The exit code, output and events of a program that has exited."""

    code: int
    out: str
    err: str
    events: list[dict[str, Any]]

    def event_of(self, task_id: str) -> dict[str, Any]:
        """Return the only event of a task."""
        (event,) = [e for e in self.events if e.get("task_id") == task_id]
        return event

    def types(self) -> dict[str, int]:
        """Return the number of events by event type."""
        kinds: dict[str, int] = {}
        for event in self.events:
            kinds[event["event_type"]] = kinds.get(event["event_type"], 0) + 1
        return kinds


class Runner:
    """Runs worker programs in a folder that also contains their task file and event log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def write_program(self, program: str, *, head: str = HEAD, main: str = MAIN) -> Path:
        path = self.folder / "worker.py"
        path.write_text(head + textwrap.dedent(program) + main)
        return path

    def write_tasks(self, data: list[Any]) -> Path:
        """Write a task file with the tasks t0, t1, …"""
        path = self.folder / "tasks.json"
        path.write_text(json.dumps([{"task_id": f"t{i}", "data": d} for i, d in enumerate(data)]))
        return path

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        environment = {
            # Remove PYTHONUNBUFFERED. With unbuffered output, print writes a line in two parts, and
            # another process can write between the parts.
            **{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"},
            "PYTHONPATH": str(SOURCE),
            **options.pop("env", {}),
        }
        started = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=self.folder,
            env=environment,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        self.running.append(started)
        return started

    def finish(self, started: subprocess.Popen[str]) -> CompletedRun:
        out, err = started.communicate(timeout=TIMEOUT)
        return CompletedRun(started.returncode, out, err, self.events())

    def events(self) -> list[dict[str, Any]]:
        path = self.folder / "events.log"
        return [json.loads(line) for line in path.open()] if path.exists() else []

    def run(self, *arguments: str | Path, **options: Any) -> CompletedRun:
        return self.finish(self.start(*arguments, **options))

    def run_tasks(
        self, program: str, data: list[Any], *arguments: str, **options: Any
    ) -> CompletedRun:
        """Run a program, which defines the function f, over one task for each item of data."""
        source = self.write_program(
            program, **{k: options.pop(k) for k in ("head", "main") if k in options}
        )
        return self.run(source, "--task-file", self.write_tasks(data), *arguments, **options)

    def run_body(self, body: str, *arguments: str, data: Any = None) -> dict[str, Any]:
        """Run one task with a function that has this body, and return the event of the task."""
        program = "def f(task_id, data, worker):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        done = self.run_tasks(program, [data or {}], *arguments)
        assert done.code == 0, done.err
        return done.event_of("t0")


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    for started in runner.running:
        if started.poll() is None:
            started.kill()
            started.wait()


@pytest.fixture(params=["fork", "reuse", "spawn"])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    binary = os.environ.get("CTWORKER_BIN", "")
    if not os.access(binary, os.X_OK):
        pytest.exit("set CTWORKER_BIN to the engine; `make build` builds it", returncode=1)


def alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def wait_gone() -> Callable[[int], None]:
    """Return a function that waits until a process, which need not be a child, has exited."""

    def wait(pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        import select

        try:
            gone, _, _ = select.select([pidfd], [], [], TIMEOUT)
            assert gone, f"process {pid} has not exited"
        finally:
            os.close(pidfd)

    return wait


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Return a function that waits until a condition is true."""

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"the condition is not true after {TIMEOUT} seconds"
            time.sleep(0.01)

    return wait
