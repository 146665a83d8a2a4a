"""Tasks from the program itself: paths, remote files and functions."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from collections.abc import Iterator

import pytest

from conftest import Lab

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
def test_files(lab: Lab, source: str) -> None:
    program = (
        F
        + """
class Remote:
    def __init__(self, name): self.name = name
    def __str__(self): return self.name
    def open(self, mode="r"): return open(self.name.rsplit("/")[-1], mode)
    """
    )
    lab.tasks([1, 2, 3])
    worker = lab.write(program, main=main(source))
    done = lab.run(worker, "--task-file", "this-is-ignored.json", "--event-log-to-file")
    assert done.code == 0, done.err
    assert sorted(e["result"] for e in done.events) == [1, 2, 3]


def test_a_remote_file_is_read_in_the_format_of_its_name(lab: Lab) -> None:
    program = (
        F
        + """
import io
class Remote:
    def __str__(self): return "gs://bucket/tasks.yaml"
    def open(self, mode="r"): return io.BytesIO(b"- {task_id: a, data: 1}\\n" * 10000)
    """
    )
    done = lab.run(
        lab.write(program, main=main("Remote()")), "--event-log-to-file", "--isolation=reuse"
    )
    assert (done.code, done.types()) == (0, {"task_completed": 10000}), done.err


@contextlib.contextmanager
def served(lab: Lab) -> Iterator[str]:
    """Serve the lab's folder, and yield the address."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=lab.folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_an_address_is_read_by_the_engine(lab: Lab) -> None:
    lab.tasks([1, 2, 3])
    with served(lab) as address:
        worker = lab.write(F, main=main(repr(f"{address}/tasks.json")))
        done = lab.run(worker, "--event-log-to-file")
        assert done.code == 0, done.err
        assert sorted(e["result"] for e in done.events) == [1, 2, 3]
        worker = lab.write(F, main=main(repr(f"{address}/none.json")))
        done = lab.run(worker, "--event-log-to-file")
        assert done.code == 2
        assert "none.json: there is no such file" in done.err


@pytest.mark.parametrize(
    "source",
    [
        "lambda: ({'task_id': f't{i}', 'data': i} for i in range(1, 4))",
        "lambda: [{'task_id': f't{i}', 'data': i, 'more': 0} for i in range(1, 4)]",
        "iter([{'task_id': 't1', 'data': 1}, {'task_id': 't2', 'data': 2}, {'task_id': 't3', 'data': 3}, None]).__next__",
        "[{'task_id': f't{i}', 'data': i} for i in range(1, 4)]",
    ],
)
def test_functions(lab: Lab, source: str, isolation: str) -> None:
    worker = lab.write(F, main=main(source))
    done = lab.run(worker, "--event-log-to-file", "--isolation", isolation)
    assert done.code == 0, done.err
    assert sorted(e["result"] for e in done.events) == [1, 2, 3]


def test_no_tasks_at_all(lab: Lab) -> None:
    for source in ("lambda: None", "lambda: []"):
        done = lab.run(lab.write(F, main=main(source)), "--event-log-to-file")
        assert (done.code, done.events) == (0, []), done.err


def test_a_source_is_asked_for_no_more_than_is_run(lab: Lab) -> None:
    program = (
        F
        + """
import resource
def endless():
    n = 0
    asked = open("asked", "w")
    while True:
        print(f"{n:9}", end="", file=asked, flush=True)  # in place: it may be killed here
        asked.seek(0)
        yield {"task_id": f"t{n}", "data": "x" * 10_000}
        n += 1
    """
    )
    done = lab.run(
        lab.write(program, main=main("endless")), "--event-log-to-file", "--max-num-tasks", "50"
    )
    assert (done.code, done.types()) == (0, {"task_completed": 50}), done.err
    # What fits into the pipe and the engine's buffers, and no more.
    assert int((lab.folder / "asked").read_text()) < 500


BEFORE = "[{'task_id': 'ok', 'data': 1}] + "


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("['x']", "task 2 of the task source is no dict, but a str"),
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
def test_invalid_tasks_are_named(lab: Lab, tasks: str, words: str) -> None:
    done = lab.run(lab.write(F, main=main(f"lambda: {BEFORE}{tasks}")), "--event-log-to-file")
    assert done.code == 1
    assert done.of("ok")["result"] == 1
    assert words in done.err.encode().decode("unicode_escape"), done.err


FAILING = """
def fail():
    yield {"task_id": "ok", "data": 1}
    END
"""


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("raise ValueError('no more')", "ValueError: no more"),
        ("os.kill(os.getpid(), 9)", "its process was killed by signal 9 (SIGKILL)"),
        ("os._exit(0)", "its process ended before it, with exit code 0"),
        ("os._exit(7)", "its process ended before it, with exit code 7"),
        ("sys.exit(0)", "the task source called sys.exit(0)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('x' * 100_000)", "ValueError: xxx"),
    ],
)
def test_sources_that_fail(lab: Lab, end: str, words: str) -> None:
    done = lab.run(
        lab.write(F + FAILING.replace("END", end), main=main("fail")), "--event-log-to-file"
    )
    assert done.code == 1
    assert done.of("ok")["result"] == 1
    assert words in done.err, done.err
    assert "ctworker/_" not in done.err


@pytest.mark.parametrize("source", ["5", "b'x'", "{}"])
def test_what_is_no_source(lab: Lab, source: str) -> None:
    done = lab.run(lab.write(F, main=main(source)))
    assert (done.code, "TypeError: task_source must be" in done.err) == (1, True)


def test_a_function_that_returns_nonsense(lab: Lab) -> None:
    done = lab.run(lab.write(F, main=main("lambda: 5")), "--event-log-to-file")
    assert (done.code, "must return an iterator of tasks" in done.err) == (1, True)


def test_a_task_that_is_too_large(lab: Lab) -> None:
    program = """
    def f(i, d, w): return False, len(d)
    def source():
        yield {"task_id": "a", "data": "x"}
        yield {"task_id": "b", "data": "x" * (70 << 20)}
    """
    done = lab.run(lab.write(program, main=main("source")))
    assert done.code == 1
    assert "task_source: entry 2" in done.err
    assert "64 MiB" in done.err
    assert done.types() == {"task_completed": 1, "fatal_exception": 1}


def test_a_source_that_leaves_a_daemon_behind_has_ended(lab: Lab) -> None:
    program = """
    def f(i, d, w): return False, d
    def source():
        yield {"task_id": "a", "data": 1}
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        yield {"task_id": "b", "data": 2}
    """
    done = lab.run(lab.write(program, main=main("source")))
    assert (done.code, done.types()) == (0, {"task_completed": 2}), done.err
