"""Tests of the program in the specification, and of features that the specification names."""

from __future__ import annotations

import pytest

from conftest import Runner

# The program in the specification's section "Basic Usage". Only the imports, which the section
# omits, are added.
BASIC_USAGE = '''import asyncio
from {package} import WorkerData
import sys
from {package} import Worker

def process_task(task_id: str, task_data: dict, worker_data: WorkerData) -> tuple[bool, str | dict]:
    """Process a single task.

    Args:
        task_id: Unique identifier for the task
        task_data: Dictionary containing task data; will have the fields:
            - "task_id": Unique identifier for the task
            - "data": Dictionary containing task data
        worker_data: WorkerData object (useful for retrieving information about the local
            environment and polling for shutdown notifications)

    Returns:
        Tuple of (retry: bool, result: str or dict)
        - retry: False if task succeeded or failed in a way that it should not be re-queued for
          some other process to try it again; True to indicate that the task failed in a way that
          it should be re-queued for some other process to try it again
        - result: String or dict describing the result; this will be sent to the local log file or
          the result queue to be picked up by the pool manager
    """
    print(f"Processing task {{task_id}}")
    # Your processing logic here
    print(f"Task data: {{task_data}}")
    return False, "Task completed successfully"

# Create and start the worker
if __name__ == "__main__":
    worker = Worker(process_task, args=sys.argv[1:])
    asyncio.run(worker.start())
'''


def test_basic_usage_over_a_thousand_tasks(runner: Runner) -> None:
    program = runner.folder / "worker.py"
    program.write_text(BASIC_USAGE.format(package="ctworker"))
    tasks = runner.write_tasks([{"n": i} for i in range(1000)])
    done = runner.run(program, "--task-file", tasks, "-j", "2")
    assert done.code == 0, done.err
    assert sorted(e["task_id"] for e in done.events) == sorted(f"t{i}" for i in range(1000))
    assert {(e["event_type"], e["retry"], e["result"]) for e in done.events} == {
        ("task_completed", False, "Task completed successfully")
    }
    printed = sorted(done.out.splitlines())
    assert printed == sorted(
        [f"Processing task t{i}" for i in range(1000)]
        + [f"Task data: {{'n': {i}}}" for i in range(1000)]
    )


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_unchanged_program_that_imports_cloud_tasks(runner: Runner, isolation: str) -> None:
    (runner.folder / "folder").mkdir()
    program = runner.folder / "folder" / "worker.py"
    # The folder of the program contains two modules. cloud_tasks must not be imported from it, and
    # sibling must be.
    (runner.folder / "folder" / "cloud_tasks.py").write_text("raise ImportError('wrong module')")
    (runner.folder / "folder" / "sibling.py").write_text("")
    program.write_text("import sibling\n" + BASIC_USAGE.format(package="cloud_tasks.worker"))
    tasks = runner.write_tasks([{"n": i} for i in range(4)])
    done = runner.run("-m", "ctworker", program, "--task-file", tasks, "--isolation", isolation)
    assert done.code == 0, done.err
    assert done.types() == {"task_completed": 4}


def test_module_help(runner: Runner) -> None:
    done = runner.run("-m", "ctworker", "--help")
    assert (done.code, "unchanged" in done.out) == (0, True)
    done = runner.run("-m", "ctworker")
    assert (done.code, "usage:" in done.err) == (2, True)
    done = runner.run("-m", "ctworker", "missing.py")
    assert (done.code, "missing.py: no such file" in done.err) == (2, True)


WORKER_DATA = """
import dataclasses, pickle
def f(task_id, data, worker):
    worker = pickle.loads(pickle.dumps(worker))
    names = [n for n in WorkerData.__annotations__ if n != "args"]
    notifications = [worker.received_termination_notice, worker.received_shutdown_request]
    return False, {n: getattr(worker, n) for n in names} | {"mine": worker.args.mine, "notifications": notifications}
"""
WITH_PARSER = """
if __name__ == "__main__":
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("--mine", type=int, required=True)
    worker = Worker(f, args=sys.argv[1:], argparser=parser)
    asyncio.run(worker.start())
"""
EXPECTED = {
    "provider": "AWS",
    "project_id": "p",
    "job_id": "j",
    "queue_name": "q",
    "exactly_once_queue": True,
    "event_log_to_file": True,
    "event_log_file": "events.log",
    "event_log_to_queue": False,
    "event_log_queue_name": None,
    "keepalive_interval": 60.0,
    "instance_type": "t3",
    "num_cpus": 3,
    "memory_gb": 1.5,
    "local_ssd_gb": 2.5,
    "boot_disk_gb": 10,
    "is_spot": True,
    "price_per_hour": 0.25,
    "instance_id": None,
    "zone": None,
    "num_simultaneous_tasks": 1,
    "max_runtime": 100,
    "max_memory_allowed_per_task": None,
    "shutdown_grace_period": 12.5,
    "tasks_to_skip": 0,
    "max_num_tasks": 1,
    "retry_on_exit": True,
    "retry_on_exception": False,
    "retry_on_timeout": True,
    "simulate_spot_termination_after": 1000,
    "simulate_spot_termination_delay": 2000,
    "slot": 0,
    "attempt": 1,
    "task_id": "t0",
    "mine": 7,
    "notifications": [False, False],
}


def test_worker_data(runner: Runner, isolation: str) -> None:
    arguments = (
        "--provider AWS --project-id p --job-id j --queue-name q --exactly-once-queue --event-log-to-file "
        "--no-event-log-to-queue --instance-type t3 --num-cpus 3 --memory 1.5 --local-ssd 2.5 --boot-disk 10 "
        "--is-spot --price 0.25 -j 1 --max-runtime 100 --shutdown-grace-period 12.5 --max-num-tasks 1 "
        "--retry-on-exit --no-retry-on-exception --retry-on-timeout --mine 7 "
        "--simulate-spot-termination-after 1000 --simulate-spot-termination-delay 2000"
    ).split()
    done = runner.run_tasks(
        WORKER_DATA, [{}], *arguments, "--isolation", isolation, main=WITH_PARSER
    )
    assert done.code == 0, done.err
    assert done.event_of("t0")["result"] == EXPECTED


def test_settings_from_the_environment(runner: Runner) -> None:
    program = runner.write_program(WORKER_DATA, main=WITH_PARSER)
    environment = {
        "RMS_CLOUD_TASKS_TASK_FILE": str(runner.write_tasks([{}])),
        "RMS_CLOUD_TASKS_INSTANCE_NUM_VCPUS": "2",
        "RMS_CLOUD_TASKS_INSTANCE_IS_SPOT": "1",
        "RMS_CLOUD_TASKS_ISOLATION": "reuse",
    }
    done = runner.run(program, "--mine", "1", "--num-cpus", "3", env=environment)
    result = done.event_of("t0")["result"]
    assert (result["num_cpus"], result["is_spot"]) == (3, True)
