"""Tests of what tasks print: the output log, and the lines at a terminal."""

from __future__ import annotations

import base64
import json
import os
import pty
import subprocess
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from conftest import Runner

PROGRAM = """
import multiprocessing, subprocess

def child(task_id):
    print("forked by", task_id)

def f(task_id, data, worker):
    print("begin", task_id)
    sys.stderr.write(f"error {task_id}\\n")
    os.write(1, b"bytes \\xff of " + task_id.encode() + b"\\n")
    subprocess.run(["echo", "child of", task_id], check=True)
    if data == "fork":
        process = multiprocessing.get_context("fork").Process(target=child, args=(task_id,))
        process.start()
        process.join()
    sys.stdout.write(f"no newline {task_id}")
    if data == "exit": os._exit(3)
    if data == "raise": raise ValueError(task_id)
    return False, None
"""


def recorded(log: Path) -> dict[str, list[str]]:
    """Return the recorded lines by task, in order. Standard error is marked with an asterisk."""
    lines: dict[str, list[str]] = defaultdict(list)
    for line in log.read_text().splitlines():
        record: dict[str, Any] = json.loads(line)
        assert "uncertain" not in record
        text = record.get("text")
        if text is None:
            text = base64.b64decode(record["text_base64"]).decode("latin-1")
        mark = "*" if record["stream"] == "stderr" else ""
        lines[record.get("task_id", "")].append(mark + text)
    return dict(lines)


def test_output_log(runner: Runner, isolation: str) -> None:
    data = ["", "fork", "raise", "exit", ""] * 4
    done = runner.run_tasks(
        PROGRAM, data, "--output-log", "out.jsonl", "-j", "2", "--isolation", isolation
    )
    assert done.types() == {"task_completed": 12, "task_exception": 4, "task_exited": 4}, done.err
    lines = recorded(runner.folder / "out.jsonl")
    assert set(lines) == {f"t{i}" for i in range(len(data))}
    for i, kind in enumerate(data):
        task = f"t{i}"
        expected = {f"begin {task}", f"*error {task}", f"bytes ÿ of {task}", f"child of {task}"}
        if kind == "fork":
            expected.add(f"forked by {task}")
        if kind != "exit":  # os._exit may discard the buffer of sys.stdout
            expected.add(f"no newline {task}")
        missing = expected - set(lines[task])
        if kind == "exit":
            missing.discard(f"begin {task}")
        assert not missing, (task, lines[task])
        assert all(task in line for line in lines[task])
    for event in done.events:
        if event["event_type"] == "task_exited":
            assert event["stderr_line"] == f"error {event['task_id']}"
    assert "begin" not in done.out + done.err


def test_output_without_a_task(runner: Runner) -> None:
    """A spawned process imports the program before it runs a task."""
    program = 'print("importing", os.getpid())\n' + PROGRAM
    done = runner.run_tasks(program, [""], "--output-log", "out.jsonl", "--isolation", "spawn")
    assert done.code == 0, done.err
    lines = recorded(runner.folder / "out.jsonl")
    assert [line.split()[0] for line in lines[""]] == ["importing"]
    assert "begin t0" in lines["t0"]


def test_terminal(runner: Runner, isolation: str) -> None:
    """At a terminal, each line is whole and has its task, and the progress bar is below them."""
    path = runner.write_program(
        """
        def f(task_id, data, worker):
            sys.stdout.write("one ")
            sys.stdout.flush()
            time.sleep(0.02)
            print("line", sys.stdout.isatty(), "\\x1b]0;title\\x07")
            for i in range(3): sys.stderr.write(f"\\r{i} of 3")
            return False, None
        """
    )
    tasks = runner.write_tasks([""] * 20)
    screen, terminal = pty.openpty()
    process = subprocess.Popen(
        ["python3", str(path), "--task-file", str(tasks), "-j", "2", "--isolation", isolation],
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
        cwd=runner.folder,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            "TERM": "xterm",
            "NO_COLOR": "1",
        },
    )
    os.close(terminal)
    text = b""
    while True:
        try:
            chunk = os.read(screen, 1 << 16)
        except OSError:  # the terminal has no writer any more
            break
        if not chunk:
            break
        text += chunk
    os.close(screen)
    assert process.wait() == 0, text
    shown = text.decode()
    for i in range(20):
        assert f"t{i}: one line False \\u001b]0;title\\u0007\r\n" in shown, shown
        assert f"t{i}: 2 of 3\r\n" in shown
    assert "\x1b]0" not in shown
    assert "20 tasks in" in shown


@pytest.mark.parametrize("count", [3000])
def test_many_short_tasks_print(runner: Runner, count: int) -> None:
    """Processes with --isolation reuse get tasks in advance, but the attribution is exact."""
    done = runner.run_tasks(
        """
        def f(task_id, data, worker):
            if data % 3 == 0: print(task_id)
            return False, None
        """,
        list(range(count)),
        *("--output-log", "out.jsonl.zst", "-j", "2", "--isolation", "reuse"),
    )
    assert done.code == 0, done.err
    engine = os.environ["CTWORKER_BIN"]
    shown = subprocess.run(
        [engine, "output", "--output-log", str(runner.folder / "out.jsonl.zst")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(shown.stdout.split("\n")) == sorted(
        [f"t{i}: t{i}" for i in range(0, count, 3)] + [""]
    )
