"""What the tests share: a worker program is written to a file and run with the engine."""

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
TIMEOUT = 60  # of a program that hangs; no test comes near it

HEAD = """
import asyncio, os, signal, sys, time
from ctworker import Worker, WorkerData
"""
MAIN = """
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:]).start())
"""


@dataclass
class Done:
    """A program that has ended."""

    code: int
    out: str
    err: str
    events: list[dict[str, Any]]

    def of(self, task_id: str) -> dict[str, Any]:
        """The one event of a task."""
        (event,) = [e for e in self.events if e.get("task_id") == task_id]
        return event

    def types(self) -> dict[str, int]:
        kinds: dict[str, int] = {}
        for event in self.events:
            kinds[event["event_type"]] = kinds.get(event["event_type"], 0) + 1
        return kinds


class Lab:
    """A folder with a program, its tasks and its events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []

    def write(self, program: str, *, head: str = HEAD, main: str = MAIN) -> Path:
        path = self.folder / "worker.py"
        path.write_text(head + textwrap.dedent(program) + main)
        return path

    def tasks(self, data: list[Any]) -> Path:
        """Write a task file; the tasks are t0, t1, …"""
        path = self.folder / "tasks.json"
        path.write_text(json.dumps([{"task_id": f"t{i}", "data": d} for i, d in enumerate(data)]))
        return path

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        environment = {
            # Unbuffered, a line is written in two pieces, between which others' can come.
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

    def finish(self, started: subprocess.Popen[str]) -> Done:
        out, err = started.communicate(timeout=TIMEOUT)
        return Done(started.returncode, out, err, self.events())

    def events(self) -> list[dict[str, Any]]:
        path = self.folder / "events.log"
        return [json.loads(line) for line in path.open()] if path.exists() else []

    def run(self, *arguments: str | Path, **options: Any) -> Done:
        return self.finish(self.start(*arguments, **options))

    def over(self, program: str, data: list[Any], *arguments: str, **options: Any) -> Done:
        """Run a program with the function f over tasks with these data."""
        source = self.write(
            program, **{k: options.pop(k) for k in ("head", "main") if k in options}
        )
        return self.run(source, "--task-file", self.tasks(data), *arguments, **options)

    def outcome(self, body: str, *arguments: str, data: Any = None) -> dict[str, Any]:
        """The event of one task whose function has this body."""
        program = "def f(task_id, data, worker):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        done = self.over(program, [data or {}], *arguments)
        assert done.code == 0, done.err
        return done.of("t0")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    for started in lab.running:
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
        pytest.exit("set CTWORKER_BIN to the engine, which `make build` makes", returncode=1)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@pytest.fixture
def wait_gone() -> Callable[[int], None]:
    """Wait for the end of a process that is not our child."""

    def wait(pid: int) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        import select

        try:
            gone, _, _ = select.select([pidfd], [], [], TIMEOUT)
            assert gone, f"process {pid} is still there"
        finally:
            os.close(pidfd)

    return wait


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Look again and again for what nobody tells of."""

    def wait(condition: Callable[[], bool]) -> None:
        until = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < until, "it has not come about"
            time.sleep(0.01)

    return wait
