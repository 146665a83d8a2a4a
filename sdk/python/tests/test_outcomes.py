"""Tests of the outcomes of tasks, such as results, exceptions and exits, and of their events."""

from __future__ import annotations

import argparse
import enum
import json
import os

import pytest

from conftest import Runner
from ctworker._data import WorkerData
from ctworker._result import _key_text, encode_value
from ctworker._task import Task, TaskRunner


@pytest.mark.parametrize(
    ("body", "retry", "result"),
    [
        ('return False, "done"', False, "done"),
        ('return True, "later"', True, "later"),
        (
            'return False, {"a": [1, 2.5, None, True], "ü": "€"}',
            False,
            {"a": [1, 2.5, None, True], "ü": "€"},
        ),
        ("return False, None", False, None),
        ("return False, (1, 2)", False, [1, 2]),
        ('return False, data["n"]', False, 7),
        ('return False, data["task_id"] + str(data["data"])', False, "t0{'n': 7}"),
        ("import asyncio; return False, asyncio.run(asyncio.sleep(0, 5))", False, 5),
        (
            "import enum\nclass Key(str, enum.Enum): A = 'a'\nreturn False, {Key.A: 1, 2: {3: 4, None: 5, False: 6, 1.5: 7}}",
            False,
            {"a": 1, "2": {"3": 4, "null": 5, "false": 6, "1.5": 7}},
        ),
        ("return False, 10**5000 == int('1' + '0' * 4000) * 10**1000", False, True),
    ],
)
def test_completed(runner: Runner, body: str, retry: bool, result: object) -> None:
    event = runner.run_body(body, data={"n": 7})
    assert (event["event_type"], event["retry"], event["result"]) == (
        "task_completed",
        retry,
        result,
    )


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("pass", "the function returned None; return a tuple (retry, result), such as"),
        ('return "done"', "the function returned a str"),
        ("return 1, 2, 3", "the function returned a tuple of length 3"),
        ('return "done", False', "a str as retry, the first item of the tuple"),
        ('return {"n": 1}, False', "a dict as retry"),
        (
            "class Odd:\n def __bool__(self): raise ValueError('neither')\nreturn Odd(), 1",
            "which cannot be converted to a bool (neither)",
        ),
        ('return {1: 2, "1": 3}', "the function returned a dict"),
        ('return False, {1: 2, "1": 3}', "result has the keys 1 and '1', which are both \"1\""),
        ('return False, {True: 2, "true": 3}', "the keys True and 'true', which are both"),
        ('return False, {"null": 2, None: 3}', "the keys 'null' and None, which are both"),
        ('return False, {1.0: 2, "1.0": 3}', "the keys 1.0 and '1.0', which are both"),
        (
            'return False, {"a": [0, ({"b": {0: 1, "0": 2}},)]}',
            "result['a'][1][0]['b'] has the keys 0 and '0'",
        ),
        (
            'return False, {"c": {}, 5: {7: {1: 2, "1": 3}}}',
            "result[5][7] has the keys 1 and '1'",
        ),
        (
            'return False, {"a": [0, {1}]}',
            "result['a'][1] is a set, which cannot be represented in JSON",
        ),
        ('return False, float("nan")', "the result is nan, which is not a JSON number"),
        (
            'return False, {"a": {float("nan"): 1}}',
            "result['a'] has the key nan, which is not a JSON",
        ),
        ('return False, {"a": [-float("inf")]}', "result['a'][0] is -inf"),
        ("return False, 10**5000", "the result is an int with too many digits (the limit is 4300)"),
        ('return False, {"a": [0, -(10**5000)]}', "result['a'][1] is an int with too many digits"),
        (
            'return False, {"a": {"b": 1, 10**5000: 2}}',
            "result['a'] has a key that is an int with too many digits",
        ),
        (
            "import enum; return False, [enum.IntEnum('E', {'A': 10**5000}).A]",
            "result[0] is an int with too many digits",
        ),
        ("return False, {(1, 2): 10**5000}", "has a key that is a tuple"),
        ("return False, {(1, 2): 3}", "has a key that is a tuple"),
        ("return False, b'x'", "the result is a bytes"),
        ("a = []; a.append(a); return False, a", "result[0] contains itself"),
        (
            "import functools; return False, functools.reduce(lambda a, _: [a], range(10**5), 0)",
            "nested too deeply",
        ),
        ("return False, 'x' * (17 << 20)", "raise --max-result-size"),
    ],
)
def test_invalid_return_value_is_an_exception(runner: Runner, body: str, text: str) -> None:
    event = runner.run_body(body)
    assert event["event_type"] == "task_exception"
    assert text in event["exception"]


def test_duplicate_keys(runner: Runner, isolation: str) -> None:
    program = 'def f(i, data, w): return False, [{"1": 2, data: 3}]'
    done = runner.run_tasks(program, [1, 2, "1"], "--isolation", isolation)
    assert "result[0] has the keys '1' and 1" in done.event_of("t0")["exception"]
    assert done.event_of("t1")["result"] == [{"1": 2, "2": 3}]
    assert done.event_of("t2")["result"] == [{"1": 3}]


def test_key_text_matches_the_encoder() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "other"

    class Number(enum.IntEnum):
        ONE = 1

    keys = ["ü", Text("b"), 1, -(10**30), Number.ONE, True, None, 1.0, 1e300, False, -0.0]
    for key in keys:
        assert list(json.loads(encode_value({key: 0}))) == [_key_text(key)]


RETRY_VALUES = """
def f(i, data, w):
    match data:
        case "zero": return 0, "z"
        case "one": return 1, "o"
        case "none": return None, "n"
        case "list": return [False, "l"]
"""


def test_truth_values_are_accepted_with_one_warning(runner: Runner, isolation: str) -> None:
    data = "zero one none zero one none".split()
    done = runner.run_tasks(
        RETRY_VALUES, data, "--isolation", isolation, "--max-tasks-per-process", "2"
    )
    assert [
        (done.event_of(f"t{i}")["retry"], done.event_of(f"t{i}")["result"]) for i in range(6)
    ] == [
        (False, "z"),
        (True, "o"),
        (False, "n"),
    ] * 2
    assert done.err.count("is not a bool") == 1, done.err


def test_list_is_accepted_with_one_warning(runner: Runner) -> None:
    done = runner.run_tasks(RETRY_VALUES, ["list"] * 3)
    assert {(e["event_type"], e["retry"], e["result"]) for e in done.events} == {
        ("task_completed", False, "l")
    }
    assert done.err.count("the function returned a list") == 1, done.err


def test_lone_surrogate_is_preserved(runner: Runner) -> None:
    """Lone surrogates, as in a file name that is not UTF-8, may occur in ids, data and results."""
    (runner.folder / "tasks.json").write_text(
        r'[{"task_id": "a\udce9", "data": {"file": "caf\udce9"}}]'
    )
    program = runner.write_program(
        "def f(i, data, w): return False, {'id': i, data['file']: [os.fsencode(data['file']) == b'caf\\xe9']}"
    )
    event = runner.run(program, "--task-file", "tasks.json").event_of("a\udce9")
    assert event["result"] == {"id": "a\udce9", "caf\udce9": [True]}


def test_names_that_are_not_utf8(runner: Runner, isolation: str) -> None:
    program = runner.write_program("def f(i, data, w): return False, data")
    program = program.rename(program.with_name(os.fsdecode(b"w\xe9.py")))
    tasks = runner.folder / os.fsdecode(b"t\xe9.jsonl")
    tasks.write_text('{"task_id": "a", "data": 1}')
    done = runner.run(program, "--task-file", tasks, "--isolation", isolation)
    assert done.event_of("a")["result"] == 1, done.err


def test_ten_megabytes(runner: Runner) -> None:
    assert runner.run_body("return False, 'x' * 10_000_000")["result"] == "x" * 10_000_000


def test_data_of_thousands_of_digits(runner: Runner) -> None:
    (runner.folder / "tasks.json").write_text(
        '[{"task_id": "t0", "data": {"n": 1' + "0" * 6000 + "}}]"
    )
    program = runner.write_program("def f(i, data, w): return False, data['n'] == 10**6000")
    assert runner.run(program, "--task-file", "tasks.json").event_of("t0")["result"] is True


def test_unparsable_data_is_reported() -> None:
    runner = TaskRunner(lambda *_: (False, 1), WorkerData({}, argparse.Namespace(), {}), 100)
    deep = b"[" * 200_000 + b"]" * 200_000
    line = b'{"task_id":"a\\u00e4\\"","attempt":1,"data":%b}' % deep
    reply = json.loads(runner.run(Task(line)))
    assert reply["task_id"] == 'aä"'
    assert "the task's data cannot be parsed: maximum recursion depth" in reply["exception"]


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"[]", b'{"hello":{}}', b'{"task_id":5}', b"nonsense", b"\xff"]
)
def test_line_without_a_task(line: bytes) -> None:
    with pytest.raises(ValueError, match="the line"):
        Task(line)


@pytest.mark.parametrize("data", [[1, 2], "text", 5, None, True])
def test_data_that_is_not_an_object(runner: Runner, data: object) -> None:
    done = runner.run_tasks("def f(i, data, w): return False, [data]", [data])
    assert done.event_of("t0")["result"] == [data]


EXCEPTIONS = """
class Mine(BaseException): pass
class Odd(Exception):
    def __str__(self): raise RuntimeError("odd")
class Odder(Exception):
    @property
    def __cause__(self): raise RuntimeError("odd")
def fail(): raise ValueError("first")
async def later(): await asyncio.sleep(0); fail()
def f(task_id, data, worker):
    match data:
        case "value": fail()
        case "cause":
            try: fail()
            except ValueError as e: raise KeyError("second") from e
        case "mine": raise Mine("third")
        case "keyboard": raise KeyboardInterrupt
        case "generator": raise GeneratorExit
        case "odd": raise Odd
        case "odder": raise Odder
        case "recursion": return f(task_id, data, worker)
        case "surrogate": raise ValueError("\\udcff")
        case "long": raise ValueError("x" * (5 << 20))
"""


def test_exceptions(runner: Runner) -> None:
    data = "value cause mine keyboard generator odd odder recursion surrogate long".split()
    done = runner.run_tasks(EXCEPTIONS, data)
    assert done.types() == {"task_exception": len(data)}
    texts = {d: done.event_of(f"t{i}")["exception"] for i, d in enumerate(data)}
    worker = str(runner.folder / "worker.py")
    lines = texts["value"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{worker}", line ')
    assert lines[1].endswith(", in f")
    assert lines[-1] == "ValueError: first"
    assert "direct cause" in texts["cause"]
    assert texts["mine"].endswith("Mine: third")
    assert texts["keyboard"].endswith("KeyboardInterrupt")
    assert "Odd" in texts["odd"]
    assert "Odder" in texts["odder"]
    assert "RecursionError" in texts["recursion"]
    assert r"ValueError: \udcff" in texts["surrogate"]
    assert "characters omitted" in texts["long"]
    for text in texts.values():
        assert "ctworker/_" not in text
        assert len(text) < 1 << 20


def test_coroutine_function(runner: Runner) -> None:
    program = """
    async def f(task_id, data, worker):
        await asyncio.sleep(0)
        if data: raise ValueError("inside")
        return False, "async"
    """
    done = runner.run_tasks(program, [0, 1])
    assert done.event_of("t0")["result"] == "async"
    trace = done.event_of("t1")["exception"].splitlines()
    assert trace[1].endswith("in f")
    assert trace[-1] == "ValueError: inside"


def test_memory_error_is_reported_and_not_retried(runner: Runner, isolation: str) -> None:
    program = """
    def f(task_id, data, worker):
        if data:
            full = []
            while True: full.append(bytearray(1 << 16))
        return False, "small"
    """
    done = runner.run_tasks(
        program,
        [1, 0],
        "--max-memory-allowed-per-task=0.5",
        "--retry-on-exception",
        f"--isolation={isolation}",
    )
    event = done.event_of("t0")
    assert event["event_type"] == "task_exception", event
    assert event["retry"] is False
    assert event["exception"].endswith("MemoryError")
    assert done.event_of("t1")["result"] == "small"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("sys.exit(3)", 3),
        ("sys.exit()", 0),
        ("sys.exit('why')", 1),
        ("os._exit(4)", 4),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15),
        ("os.abort()", -6),
        ("asyncio.run(asyncio.to_thread(os._exit, 5))", 5),
    ],
)
def test_exits(runner: Runner, body: str, code: int) -> None:
    event = runner.run_body(body)
    assert (event["event_type"], event["exit_code"]) == ("task_exited", code)


def test_exit_in_coroutine(runner: Runner) -> None:
    done = runner.run_tasks("async def f(i, d, w): sys.exit(6)", [0])
    assert (done.event_of("t0")["event_type"], done.event_of("t0")["exit_code"]) == (
        "task_exited",
        6,
    )
