"""Tests of retries in the same run, and of continuing an interrupted run."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any

from conftest import Runner

SUMMARY = ("--log-format", "json")


def summary(err: str) -> dict[str, Any]:
    """Return the summary in a log of JSON lines."""
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    (found,) = [line for line in lines if line.get("message") == "run ended"]
    return dict(found)


def finals(runner: Runner) -> Counter[str]:
    """Return the number of final events of each task that do not replace an earlier event."""
    return Counter(
        e["task_id"]
        for e in runner.events()
        if "task_id" in e and not e["retry"] and not e.get("rerun")
    )


def test_retries(runner: Runner, isolation: str) -> None:
    done = runner.run_tasks(
        """
        def f(task_id, data, worker):
            if data == "raise" and worker.attempt < 3: raise ValueError("not yet")
            return data == "retry" and worker.attempt < 2, worker.attempt
        """,
        ["", "raise", "retry", ""],
        *("--retries", "3", "--retry-backoff", "0.01", "-j", "2", "--isolation", isolation),
    )
    assert done.code == 0, done.err
    attempts = {e["task_id"]: e["attempt"] for e in done.events if not e["retry"]}
    assert attempts == {"t0": 1, "t1": 3, "t2": 2, "t3": 1}
    assert len(done.events) == 7


def test_follow_the_advice(
    runner: Runner, isolation: str, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    """The printed command continues an interrupted run. No task is lost or repeated."""
    count = 30
    worker = runner.write_program(
        """
        def f(task_id, data, worker):
            time.sleep(0.01 * (data % 4))
            if data % 10 == 7: raise ValueError(data)
            return False, data
        """
    )
    tasks = runner.write_tasks(list(range(count)))
    command = [str(worker), "--task-file", str(tasks), "-j", "3", "--isolation", isolation]
    command += [*SUMMARY, "--shutdown-grace-period", "0.02"]

    def await_events(process: subprocess.Popen[str], target: int) -> None:
        log = runner.folder / "events.log"  # may end in a line that is being written
        wait_for(
            lambda: (
                (log.exists() and log.read_bytes().count(b"\n") >= target)
                or process.poll() is not None
            )
        )

    for _ in range(3):
        started = runner.start(*command)
        target = len(runner.events()) + 3
        await_events(started, target)
        started.send_signal(signal.SIGINT)
        done = runner.finish(started)
        advice = summary(done.err).get("continue_with")
        if not advice:
            break
        assert done.code == 128 + signal.SIGINT
        command = shlex.split(advice)[1:]  # without the interpreter
    done = runner.run(*command)
    assert done.code == 0, done.err
    assert finals(runner) == Counter({f"t{i}": 1 for i in range(count)})
    rerun = summary(done.err)["rerun_failed_with"]
    done = runner.run(*shlex.split(rerun)[1:])
    assert summary(done.err)["task_count"] == 3
    assert finals(runner) == Counter({f"t{i}": 1 for i in range(count)})
    assert sum(e.get("rerun", False) for e in runner.events()) == 3


def test_killed_program_fails_no_task(
    runner: Runner, isolation: str, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    """The tasks that run when the program is killed have no event, so that --resume runs them."""
    worker = runner.write_program(
        """
        def f(task_id, data, worker):
            open(f"started-{task_id}", "w").close()
            time.sleep(1000)
        """
    )
    tasks = runner.write_tasks(list(range(3)))
    for _ in range(4):
        started = runner.start(worker, "--task-file", tasks, "-j", "3", "--isolation", isolation)
        marks = [runner.folder / f"started-t{i}" for i in range(3)]
        wait_for(lambda: all(mark.exists() for mark in marks))  # noqa: B023
        started.kill()
        runner.finish(started)  # the engine holds the pipes until it has ended
        for mark in marks:
            mark.unlink()
    assert {e["event_type"] for e in runner.events()} == {"fatal_exception"}
