"""Tests of the features that programs for rms-cloud-tasks use; see docs/porting.md."""

from __future__ import annotations

import argparse
import os
import pickle
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import HEAD, SOURCE, Runner
from ctworker import Worker, WorkerData
from ctworker._data import SHUTDOWN, Notification

SHIMMED = HEAD.replace("from ctworker import", "from cloud_tasks.worker import")


def run_shimmed(runner: Runner, program: str, *arguments: str, **options: object):  # type: ignore[no-untyped-def]
    """Run a program that imports cloud_tasks with python -m ctworker, over one task."""
    path = runner.write_program(program, head=SHIMMED, **options)  # type: ignore[arg-type]
    return runner.run("-m", "ctworker", path, "--task-file", runner.write_tasks([0]), *arguments)


# Worker._data


def test_data_attributes_reach_the_tasks(runner: Runner, isolation: str) -> None:
    program = """
    class Cache:
        def __init__(self, path): self.path = path
    def f(i, d, w):
        return False, [w.results_root, w.cache.path, w.args.mine, w.args.more, w.max_runtime, w.retry_on_exit, w.num_cpus, w.extra, w.flags, w.for_task, w.config, w.trace]
    """
    main = """
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mine")
    worker = Worker(f, args=sys.argv[1:], argparser=parser)
    assert worker._data.args.mine == "m", worker._data
    assert (worker._data.num_cpus, worker._data.max_runtime) == (3, 100), worker._data
    worker._data.results_root = worker._data.args.mine + "/results"
    worker._data.cache = Cache("there")
    worker._data.args.more = [1]
    worker._data.max_runtime = 7
    worker._data.retry_on_exit = True
    # Methods of the class of _data must not have these names.
    worker._data.extra = "e"
    worker._data.flags = "f"
    worker._data.for_task = "t"
    # These are not settings of rms-cloud-tasks, but other settings of ctworker have these names.
    worker._data.config = {"bands": 3}
    worker._data.trace = None
    asyncio.run(worker.start())
"""
    program = "import argparse\n" + program.replace("\n    ", "\n")
    done = runner.run_tasks(
        program,
        [0],
        "--mine=m",
        "--max-runtime=100",
        "--num-cpus=3",
        "--isolation",
        isolation,
        main=main,
    )
    assert done.code == 0, done.err
    assert done.event_of("t0").get("result") == [
        "m/results",
        "there",
        "m",
        [1],
        7,
        True,
        3,
        "e",
        "f",
        "t",
        {"bands": 3},
        None,
    ], done.events


def test_data_settings_take_effect(runner: Runner) -> None:
    main = """
if __name__ == "__main__":
    worker = Worker(f, args=sys.argv[1:])
    worker._data.max_runtime = 0.2
    worker._data.retry_on_timeout = True
    worker._data.event_log_file = "other.log"
    asyncio.run(worker.start())
"""
    done = runner.run_tasks("def f(i, d, w): time.sleep(60)", [0], "--max-runtime=50", main=main)
    assert (done.code, done.events) == (0, []), done.err
    assert '"task_timed_out"' in (runner.folder / "other.log").read_text()
    assert '"retry":true' in (runner.folder / "other.log").read_text()


def test_data_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("RMS_CLOUD_TASKS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RMS_CLOUD_TASKS_PROVIDER", "aws")
    monkeypatch.setenv("RMS_CLOUD_TASKS_JOB_ID", "job")
    monkeypatch.setenv("RMS_CLOUD_TASKS_INSTANCE_IS_SPOT", "True")
    monkeypatch.setenv("RMS_CLOUD_TASKS_INSTANCE_MEM_GB", "16")
    monkeypatch.setenv("RMS_CLOUD_TASKS_INSTANCE_PRICE", "None")
    monkeypatch.setenv("RMS_CLOUD_TASKS_MAX_NUM_TASKS", "nonsense")
    data = Worker(print, ["--num-cpus=2", "--no-retry-on-exit", "--memory=8"])._data
    assert (data.provider, data.job_id, data.queue_name) == ("AWS", "job", "job")
    assert (data.event_log_to_file, data.event_log_to_queue) == (False, True)
    assert data.event_log_queue_name == "job-events"
    assert (data.is_spot, data.memory_gb, data.price_per_hour) == (True, 8.0, None)
    assert (data.num_cpus, data.num_simultaneous_tasks, data.retry_on_exit) == (2, 2, False)
    assert data.max_num_tasks == "nonsense"  # the engine will reject it
    assert not data.received_shutdown_request
    assert type(pickle.loads(pickle.dumps(data))) is WorkerData
    data = Worker(print, ["--task-file=x", "-j", "auto"])._data
    assert (data.event_log_to_file, data.event_log_queue_name) == (True, None)
    assert data.num_simultaneous_tasks >= 1
    assert Worker(print, [], task_source="x")._data.event_log_to_file is True


# The attributes of WorkerData in rms-cloud-tasks 0.5.0.
ATTRIBUTES = frozenset(
    """
    args provider project_id job_id queue_name exactly_once_queue event_log_to_queue
    event_log_queue_name event_log_to_file event_log_file keepalive_interval instance_type num_cpus
    memory_gb local_ssd_gb boot_disk_gb is_spot price_per_hour num_simultaneous_tasks max_runtime
    max_memory_allowed_per_task shutdown_grace_period retry_on_exit retry_on_exception
    retry_on_timeout simulate_spot_termination_after simulate_spot_termination_delay shutdown_event
    termination_event
    """.split()
)


def test_worker_data_has_the_attributes_of_the_documentation() -> None:
    porting = Path(__file__).parents[3] / "docs" / "porting.md"
    (line,) = re.findall(
        r"`WorkerData` has the additional attributes(.*?)\.\n", porting.read_text(), re.S
    )
    additional = set(re.findall(r"`(\w+)`", line))
    assert not additional & ATTRIBUTES
    worker = WorkerData()
    assert set(WorkerData.__annotations__) | set(vars(worker)) == ATTRIBUTES | additional
    for name in WorkerData.__annotations__:
        setattr(worker, name, name)
        assert getattr(worker, name) == name


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("worker._data.event_log_queue_name = 'x'", "event_log_queue_name cannot be set"),
        (
            "worker._data.max_num_tasks = None",
            "cannot be set to None; set another value",
        ),
        ("worker._data = None", "_data was replaced by a NoneType"),
    ],
)
def test_invalid_data_attributes_are_rejected(runner: Runner, statement: str, text: str) -> None:
    main = f"""
if __name__ == "__main__":
    worker = Worker(f, args=sys.argv[1:])
    {statement}
    asyncio.run(worker.start())
"""
    done = runner.run_tasks("def f(i, d, w): return False, 1", [0], main=main)
    assert (done.code, done.events) == (1, [])
    assert text in done.err


def test_worker_data_without_a_worker() -> None:
    worker = WorkerData()
    assert (worker.args, worker.provider, worker.max_runtime) == (None, None, 600)
    assert (worker.keepalive_interval, worker.num_simultaneous_tasks) == (60.0, 1)
    assert not worker.received_termination_notice
    worker.args = argparse.Namespace(mine=1)
    worker.termination_event = threading.Event()
    assert not worker.received_termination_notice
    worker.termination_event.set()
    assert worker.received_termination_notice
    worker.shutdown_event = None
    assert not worker.received_shutdown_request


def test_sizes_are_floats_and_shutdown_event_can_be_awaited(
    runner: Runner, isolation: str, wait_for: Callable[[Callable[[], bool]], None]
) -> None:
    program = """
    import pickle
    def f(i, d, w):
        floats = [w.memory_gb, w.local_ssd_gb, w.boot_disk_gb, w.price_per_hour, w.keepalive_interval, w.max_memory_allowed_per_task]
        before = [w.shutdown_event.is_set(), w.shutdown_event.wait(0.01)]
        open("started", "w").close()
        after = [w.shutdown_event.wait(60), pickle.loads(pickle.dumps(w.shutdown_event)).wait(60), w.termination_event.wait(0)]
        return False, [all(type(x) is float for x in floats), floats, before, after, type(w.max_runtime) is int]
    """
    arguments = "--memory 16 --local-ssd 2 --boot-disk 10 --price 1 --keepalive-interval 30 --max-memory-allowed-per-task 8"
    path, tasks = runner.write_program(program), runner.write_tasks([0])
    started = runner.start(path, "--task-file", tasks, *arguments.split(), "--isolation", isolation)
    wait_for((runner.folder / "started").exists)
    started.terminate()
    done = runner.finish(started)
    floats = [16.0, 2.0, 10.0, 1.0, 30.0, 8.0]
    expected = [True, floats, [False, False], [True, True, False], True]
    assert done.event_of("t0").get("result") == expected, done.events


def test_notification_wait(tmp_path: Path) -> None:
    r, w = os.pipe()
    file = tmp_path / "shutdown"
    worker = WorkerData({}, None, {SHUTDOWN: Notification(r, str(file))})
    assert not worker.shutdown_event.wait(0)
    unpickled = pickle.loads(pickle.dumps(worker)).shutdown_event
    assert not unpickled.wait(0.01)
    os.write(w, b"\n")
    file.touch()
    assert worker.shutdown_event.wait()
    assert unpickled.wait()
    os.close(r)
    os.close(w)


# Logging

LOGGING = """
import logging
logger = logging.getLogger("mine")
{before}
logger.info("at import")
def f(i, d, w):
    logger.info("in %s", i)
    logger.debug("detail")
    return False, 1
"""


def test_tasks_log_at_level_info(runner: Runner, isolation: str) -> None:
    done = run_shimmed(runner, LOGGING.format(before=""), "--isolation", isolation)
    assert done.types() == {"task_completed": 1}
    lines = [line for line in done.err.splitlines() if line.endswith(" INFO - in t0")]
    assert len(lines) == 1, done.err
    assert lines[0][:10].count("-") == 2
    assert lines[0][19] == "."
    assert " INFO - at import" in done.err
    assert "detail" not in done.err


def test_verbose_logs_at_level_debug(runner: Runner) -> None:
    assert " DEBUG - detail" in run_shimmed(runner, LOGGING.format(before=""), "-v").err


@pytest.mark.parametrize(
    "before",
    [
        "logging.basicConfig(format='MINE %(message)s', level='INFO', stream=sys.stdout)",
        "h = logging.StreamHandler(sys.stdout); h.setFormatter(logging.Formatter('MINE %(message)s')); logging.getLogger().addHandler(h)",
    ],
)
def test_program_can_configure_logging(runner: Runner, before: str) -> None:
    done = run_shimmed(runner, LOGGING.format(before=before))
    assert "MINE in t0" in done.out, done.err
    assert "INFO - in t0" not in done.err
    # Now the program configures logging before it imports the worker.
    head = "import logging, sys\n" + before + "\n" + SHIMMED
    path = runner.write_program(LOGGING.format(before=""), head=head)
    done = runner.run("-m", "ctworker", path, "--task-file", runner.write_tasks([0]))
    assert "MINE in t0" in done.out, done.err
    assert "INFO - in t0" not in done.err


def test_logging_is_unchanged_without_the_shim(runner: Runner) -> None:
    done = runner.run_tasks(LOGGING.format(before=""), [0])
    assert "in t0" not in done.err


# Names

NAMES = """
import cloud_tasks, cloud_tasks.worker.worker
from cloud_tasks.worker.worker import Worker as W, WorkerData as D, logger
from cloud_tasks.common.logging_config import configure_logging, MicrosecondFormatter
from cloud_tasks.common.time_utils import utc_now, utc_now_iso, parse_utc
assert W is Worker and D is WorkerData
def f(i, d, w):
    configure_logging()
    logger.info("configured")
    times = [parse_utc(t).isoformat() for t in ("2025-05-26T01:56:26.321172", "2025-05-26T01:56:26Z", "2025-05-26T03:56:26+02:00")]
    return False, [*times, parse_utc(""), parse_utc(None), parse_utc(utc_now_iso()) <= utc_now(), isinstance(w, D)]
"""


def test_imports_of_cloud_tasks(runner: Runner) -> None:
    done = run_shimmed(runner, NAMES)
    assert done.event_of("t0").get("result") == [
        "2025-05-26T01:56:26.321172+00:00",
        "2025-05-26T01:56:26+00:00",
        "2025-05-26T01:56:26+00:00",
        None,
        None,
        True,
        True,
    ], done.err
    assert " INFO - configured" in done.err


def test_other_modules_of_an_installed_package_are_found(runner: Runner) -> None:
    site = runner.folder / "site" / "cloud_tasks"
    for name, text in {
        "__init__.py": "raise ImportError('wrong module')",
        "queue_manager.py": "NAME = 'installed'",
        "common/__init__.py": "raise ImportError('wrong module')",
        "common/config.py": "from .time_utils import utc_now\nNAME = 'config'",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)
    program = """
from cloud_tasks.queue_manager import NAME
from cloud_tasks.common.config import NAME as CONFIG
def f(i, d, w): return False, [NAME, CONFIG]
"""
    path = runner.write_program(program, head=SHIMMED)
    paths = f"{SOURCE}{os.pathsep}{runner.folder / 'site'}"
    done = runner.run(
        "-m", "ctworker", path, "--task-file", runner.write_tasks([0]), env={"PYTHONPATH": paths}
    )
    assert done.event_of("t0").get("result") == ["installed", "config"], done.err


# How python -m ctworker runs a program

SHOW_CONTEXT = """
import os, sys
from cloud_tasks.worker import Worker
def f(i, d, w):
    os.chdir("/")
    return False, [os.path.exists(__file__), os.path.isabs(__file__), __name__, __doc__, __spec__ and __spec__.name, sys.argv[0], sibling.NAME]
import sibling
if __name__ == "__main__":
    import asyncio
    os.chdir(sibling.FSHIMMEDER if "fork" in sys.argv else ".")
    asyncio.run(Worker(f, args=sys.argv[1:]).start())
"""


@pytest.fixture
def package(runner: Runner) -> Runner:
    folder = runner.folder / "pkg"
    folder.mkdir()
    for path in (runner.folder / "w.py", folder / "mod.py", folder / "__main__.py"):
        path.write_text(SHOW_CONTEXT)
    (folder / "__init__.py").write_text("")
    (runner.folder / "sibling.py").write_text(f"NAME, FSHIMMEDER = 'b', {str(runner.folder)!r}\n")
    runner.write_tasks([0])
    (runner.folder / "sub").mkdir()
    (runner.folder / "sub" / "tasks.json").write_bytes((runner.folder / "tasks.json").read_bytes())
    return runner


def run_in(runner: Runner, folder: Path, *arguments: str) -> list[object]:
    log = runner.folder / "events.log"
    command = [sys.executable, "-m", "ctworker", *arguments, "--task-file=tasks.json"]
    command.append(f"--event-log-file={log}")
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return runner.events()[-1]["result"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("isolation", ["fork", "spawn"])
def test_program_runs_as_in_python(package: Runner, isolation: str) -> None:
    runner = package
    sub = runner.folder / "sub"
    found = run_in(runner, sub, "../w.py", "--isolation", isolation)
    assert found == [True, True, "__main__", None, None, "../w.py", "b"]
    # If the program is a symbolic link, Python imports modules from the folder of its target.
    (sub / "link.py").symlink_to("../w.py")
    assert run_in(runner, sub, "link.py", "--isolation", isolation)[-2:] == ["link.py", "b"]
    for name, full in (("pkg.mod", "pkg.mod"), ("pkg", "pkg.__main__")):
        found = run_in(runner, runner.folder, "-m", name, "--isolation", isolation)
        assert found[:5] == [True, True, "__main__", None, full]
        assert os.path.isabs(str(found[5]))


def test_archive_can_be_a_program(package: Runner) -> None:
    with zipfile.ZipFile(package.folder / "app.pyz", "w") as archive:
        archive.writestr("__main__.py", SHOW_CONTEXT)
        archive.write(package.folder / "sibling.py", "sibling.py")
    assert run_in(package, package.folder, "app.pyz")[-1] == "b"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-m"], "-m requires the name of a module"),
        (["-m", "no_such_module"], "-m no_such_module: no such module"),
        (["-m", "no_such.module"], "-m no_such.module: No module named 'no_such'"),
        (["-m", "json"], "or a package without __main__"),
        (["-x"], "unknown option -x"),
    ],
)
def test_missing_programs(runner: Runner, arguments: list[str], text: str) -> None:
    done = runner.run("-m", "ctworker", *arguments)
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ("def f(task_id, data): pass", "f has the parameters (task_id, data)"),
        ("def f(a, b, c, d, e=1): pass", "f has the parameters (a, b, c, d, e)"),
        ("def f(a, b, c, *, d): pass", "f has the parameters (a, b, c, d)"),
        ("class C:\n    def f(self, a, b): pass\nf = C().f", "C.f has the parameters (self, a, b)"),
    ],
)
def test_function_with_other_parameters(runner: Runner, function: str, parameters: str) -> None:
    done = runner.run_tasks(function, [1])
    assert (done.code, done.events) == (1, [])
    assert "must accept three arguments, (task_id, task_data, worker_data)" in done.err
    assert parameters in done.err


@pytest.mark.parametrize(
    "function",
    [
        "def f(*args): return False, 1",
        "def f(a, b, c, d=1, *, e=2): return False, 1",
        "class C:\n    def f(self, a, b, c): return False, 1\nf = C().f",
        "class C:\n    def __call__(self, a, b, c): return False, 1\nf = C()",
        "import functools\nf = functools.partial(lambda x, a, b, c: (False, 1), 0)",
        "async def f(a, b, c): return False, 1",
    ],
)
def test_functions_of_any_kind(runner: Runner, function: str) -> None:
    done = runner.run_tasks(function, [1])
    assert (done.code, done.types()) == (0, {"task_completed": 1}), done.err


def test_worker_that_is_not_started(runner: Runner) -> None:
    main = "\nif __name__ == '__main__':\n    Worker(f, args=sys.argv[1:]).start()\n"
    worker = runner.write_program("def f(i, d, w): return False, d", main=main)
    hint = "the Worker was not started, so no task was run: call asyncio.run(worker.start())"
    done = runner.run(worker)
    assert (done.code, done.err.count(hint)) == (0, 1), done.err
    done = runner.run("-m", "ctworker", worker)
    assert (done.code, done.err.count(hint)) == (2, 1), done.err
    worker = runner.write_program("", main="\nWorker(lambda a, b, c: 1, args=[])\n1 / 0\n")
    assert hint not in runner.run(worker).err


def test_program_without_a_worker(runner: Runner) -> None:
    done = runner.run("-m", "ctworker", runner.write_program("", main=""))
    assert done.code == 2
    assert "worker.py created no Worker, so no task was run" in done.err


def test_task_file_without_its_option(runner: Runner) -> None:
    worker = runner.write_program("def f(i, d, w): return False, d")
    done = runner.run(worker, "tasks.json.gz")
    assert done.code == 2
    assert "to run the tasks of this file, use --task-file tasks.json.gz" in done.err


def test_integer_task_ids(runner: Runner) -> None:
    program = """
    import numpy as np
    def tasks():
        yield {"task_id": 5, "data": 1}
        yield {"task_id": np.int64(-6), "data": 2}
    def f(i, d, w): return False, i
    """
    main = """
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:], task_source=tasks).start())
"""
    done = runner.run(runner.write_program(program, main=main))
    assert [e["result"] for e in done.events] == ["5", "-6"], done.err
    assert [e["task_id"] for e in done.events] == ["5", "-6"]
