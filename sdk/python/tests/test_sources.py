"""Tests of the task sources: paths, remote files, iterables and functions."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator

import pytest

from conftest import Runner

F = """
def f(task_id, data, worker): return False, data
"""


def main(source: str) -> str:
    return f"""
if __name__ == "__main__":
    asyncio.run(Worker(f, args=sys.argv[1:], task_source={source}).start())
"""


@pytest.mark.parametrize(
    "source",
    [
        "'tasks.json'",
        "__import__('pathlib').Path('tasks.json')",
        "Remote('gs://bucket/tasks.json')",
        "Remote('tasks.json')",
    ],
)
def test_files(runner: Runner, source: str) -> None:
    program = (
        F
        + """
class Remote:
    def __init__(self, name): self.name = name
    def __str__(self): return self.name
    def open(self, mode="r"): return open(self.name.rsplit("/")[-1], mode)
    """
    )
    runner.write_tasks([1, 2, 3])
    worker = runner.write_program(program, main=main(source))
    done = runner.run(worker, "--task-file", "this-is-ignored.json", "--event-log-to-file")
    assert done.code == 0, done.err
    assert sorted(e["result"] for e in done.events) == [1, 2, 3]


def test_format_of_a_remote_file_follows_its_name(runner: Runner) -> None:
    program = (
        F
        + """
import io
class Remote:
    def __str__(self): return "gs://bucket/tasks.yaml"
    def open(self, mode="r"): return io.BytesIO(b"- {task_id: a, data: 1}\\n" * 10000)
    """
    )
    done = runner.run(
        runner.write_program(program, main=main("Remote()")),
        "--event-log-to-file",
        "--isolation=reuse",
    )
    assert (done.code, done.types()) == (0, {"task_completed": 10000}), done.err


@contextlib.contextmanager
def served(runner: Runner) -> Iterator[str]:
    """Serve the runner's folder over HTTP, and yield the URL."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=runner.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_url_is_read_by_the_engine(runner: Runner) -> None:
    runner.write_tasks([1, 2, 3])
    with served(runner) as address:
        worker = runner.write_program(F, main=main(repr(f"{address}/tasks.json")))
        done = runner.run(worker, "--event-log-to-file")
        assert done.code == 0, done.err
        assert sorted(e["result"] for e in done.events) == [1, 2, 3]
        worker = runner.write_program(F, main=main(repr(f"{address}/none.json")))
        done = runner.run(worker, "--event-log-to-file")
        assert done.code == 2
        assert "none.json: the file does not exist" in done.err


@pytest.mark.parametrize(
    "source",
    [
        "lambda: ({'task_id': f't{i}', 'data': i} for i in range(1, 4))",
        "lambda: [{'task_id': f't{i}', 'data': i, 'more': 0} for i in range(1, 4)]",
        "iter([{'task_id': 't1', 'data': 1}, {'task_id': 't2', 'data': 2}, {'task_id': 't3', 'data': 3}, None]).__next__",
        "[{'task_id': f't{i}', 'data': i} for i in range(1, 4)]",
    ],
)
def test_functions(runner: Runner, source: str, isolation: str) -> None:
    worker = runner.write_program(F, main=main(source))
    done = runner.run(worker, "--event-log-to-file", "--isolation", isolation)
    assert done.code == 0, done.err
    assert sorted(e["result"] for e in done.events) == [1, 2, 3]


def test_plain_values(runner: Runner) -> None:
    program = """
import numbers, pathlib
class Int32:  # like numpy.int32
    def __int__(self): return 32
numbers.Integral.register(Int32)
LONG = "y" * 200
VALUES = ["a.fits", pathlib.Path("b c.fits"), 7, 1.5, True, Int32(), [1, "x"], (2, 3),
    {"lat": 1}, "", "new\\nline", LONG, "caf\\xe9"]
def f(task_id, data, worker): return False, {"data": data}
    """
    for source in ("VALUES", "lambda: iter(VALUES)", "(v for v in VALUES)"):
        done = runner.run(runner.write_program(program, main=main(source)), "--event-log-to-file")
        assert done.code == 0, done.err
        assert {e["task_id"]: e["result"]["data"] for e in done.events} == {
            "a.fits": "a.fits",
            "b c.fits": "b c.fits",
            "7": 7,
            "1.5": 1.5,
            "true": True,
            "32": 32,
            '[1,"x"]': [1, "x"],
            "[2,3]": [2, 3],
            '{"lat":1}': {"lat": 1},
            "#e3b0c44298fc1c14": "",
            "newline#58fb6729e555d21b": "new\nline",
            "y" * 40 + "#8ca9bfd43d61bf0a": "y" * 200,
            "café": "café",
        }
        (runner.folder / "events.log").unlink()


def test_plain_values_can_be_resumed(runner: Runner) -> None:
    program = """
def f(task_id, data, worker): return False, data
N = int(os.environ["N"])
"""
    worker = runner.write_program(program, main=main("[i * 0.5 for i in range(N)]"))
    done = runner.run(worker, "--event-log-to-file", env={"N": "10"})
    assert (done.code, len(done.events)) == (0, 10), done.err
    done = runner.run(worker, "--event-log-to-file", "--resume", env={"N": "12"})
    assert (done.code, len(done.events)) == (0, 12), done.err
    assert '"done_earlier":10' in done.err


def test_no_tasks(runner: Runner) -> None:
    for source in ("lambda: None", "lambda: []"):
        done = runner.run(runner.write_program(F, main=main(source)), "--event-log-to-file")
        assert (done.code, done.events) == (0, []), done.err


def test_source_is_read_only_as_fast_as_tasks_run(runner: Runner) -> None:
    program = (
        F
        + """
import resource
def endless():
    n = 0
    produced = open("produced", "w")
    while True:
        # Overwrite the previous number, because this process may be killed at any time.
        print(f"{n:9}", end="", file=produced, flush=True)
        produced.seek(0)
        yield {"task_id": f"t{n}", "data": "x" * 10_000}
        n += 1
    """
    )
    done = runner.run(
        runner.write_program(program, main=main("endless")),
        "--event-log-to-file",
        "--max-num-tasks",
        "50",
    )
    assert (done.code, done.types()) == (0, {"task_completed": 50}), done.err
    # The source may produce more than 50 tasks, because the pipe and the engine buffer some. 500
    # is well above the capacity of these buffers.
    assert int((runner.folder / "produced").read_text()) < 500


VALID = "[{'task_id': 'ok', 'data': 1}] + "


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ("[None]", "task 2 of the task source is a NoneType; a task is a dict such as"),
        ("[b'x']", "task 2 of the task source is a bytes; a task is a dict such as"),
        ("[{'x': {1}}]", "cannot be written as JSON: data['x'] is a set"),
        ("[float('inf')]", "cannot be written as JSON: its data is inf"),
        ("[{'data': 1}]", 'task 2 of the task source has no "task_id"'),
        ("[{'task_id': 5.0, 'data': 1}]", 'has the "task_id" 5.0'),
        ("[{'task_id': True, 'data': 1}]", 'has the "task_id" True'),
        (
            "[{'task_id': 'b', 'data': {1: 2, '1': 3}}]",
            "(b) cannot be written as JSON: data has the keys 1 and '1'",
        ),
        ("[{'task_id': '', 'data': 1}]", "has the \"task_id\" ''"),
        ("[{'task_id': 'b'}]", 'task 2 of the task source (b) has no "data"'),
        (
            "[{'task_id': 'b', 'data': {'x': {1}}}]",
            "(b) cannot be written as JSON: data['x'] is a set",
        ),
        ("[{'task_id': 'b', 'data': float('nan')}]", "cannot be written as JSON: its data is nan"),
    ],
)
def test_invalid_task_error_names_the_task(runner: Runner, tasks: str, text: str) -> None:
    done = runner.run(
        runner.write_program(F, main=main(f"lambda: {VALID}{tasks}")), "--event-log-to-file"
    )
    assert done.code == 1
    assert done.event_of("ok")["result"] == 1
    assert text in done.err.encode().decode("unicode_escape"), done.err


FAILING = """
def fail():
    yield {"task_id": "ok", "data": 1}
    END
"""


@pytest.mark.parametrize(
    ("end", "text"),
    [
        ("raise ValueError('no more')", "ValueError: no more"),
        ("os.kill(os.getpid(), 9)", "its process was killed by signal 9 (SIGKILL)"),
        ("os._exit(0)", "its process exited with code 0 before it had written all tasks"),
        ("os._exit(7)", "its process exited with code 7 before it had written all tasks"),
        ("sys.exit(0)", "the task source called sys.exit(0)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('x' * 100_000)", "ValueError: xxx"),
    ],
)
def test_failing_sources(runner: Runner, end: str, text: str) -> None:
    done = runner.run(
        runner.write_program(F + FAILING.replace("END", end), main=main("fail")),
        "--event-log-to-file",
    )
    assert done.code == 1
    assert done.event_of("ok")["result"] == 1
    assert text in done.err, done.err
    assert "ctworker/_" not in done.err


@pytest.mark.parametrize("source", ["5", "b'x'", "{}"])
def test_invalid_source(runner: Runner, source: str) -> None:
    done = runner.run(runner.write_program(F, main=main(source)))
    assert (done.code, "TypeError: task_source must be" in done.err) == (1, True)


def test_invalid_return_value_of_a_function(runner: Runner) -> None:
    done = runner.run(runner.write_program(F, main=main("lambda: 5")), "--event-log-to-file")
    assert (done.code, "must return an iterator of tasks" in done.err) == (1, True)


def test_too_large_task(runner: Runner) -> None:
    program = """
    def f(i, d, w): return False, len(d)
    def source():
        yield {"task_id": "a", "data": "x"}
        yield {"task_id": "b", "data": "x" * (70 << 20)}
    """
    done = runner.run(runner.write_program(program, main=main("source")))
    assert done.code == 1
    assert "task_source: entry 2" in done.err
    assert "64 MiB" in done.err
    assert done.types() == {"task_completed": 1, "fatal_exception": 1}


def test_source_that_leaves_a_daemon_has_ended(runner: Runner) -> None:
    program = """
    def f(i, d, w): return False, d
    def source():
        yield {"task_id": "a", "data": 1}
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        yield {"task_id": "b", "data": 2}
    """
    done = runner.run(runner.write_program(program, main=main("source")))
    assert (done.code, done.types()) == (0, {"task_completed": 2}), done.err
