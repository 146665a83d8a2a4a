"""Tests of ctworker.results, with the engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ctworker


def event(task_id: str, kind: str = "task_completed", **fields: Any) -> str:
    return json.dumps(
        {
            "timestamp": "2026-11-27T08:00:00.000001",
            "hostname": "h",
            "event_type": kind,
            "task_id": task_id,
            "elapsed_time": 1.5,
            "retry": False,
            **fields,
        }
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "-events.log"
    lines = [
        event("a", "task_exited", retry=True, exit_code=3, attempt=1),
        event("a", result={"sum": 2**70, "slot": "x", "n": None}, attempt=2),
        event("b", "task_exception", exception="KeyError: 'x'"),
        event("c", result="caf\udce9"),
        '{"torn',
    ]
    path.write_text("\n".join(lines))
    return path


def test_rows_are_final_events(log: Path) -> None:
    rows = ctworker.results(log)
    for _ in range(2):  # the logs are read again
        a, b, c = rows
        assert (a["task_id"], a["outcome"], a["attempt"]) == ("a", "task_completed", 2)
        assert (a["sum"], a["result_slot"], a["n"]) == (2**70, "x", None)
        assert (b["exception"], b["retry"]) == ("KeyError: 'x'", False)
        assert "sum" not in b
        assert c["result"] == "caf\udce9"


def test_all_attempts_and_several_logs(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    other.write_text(event("a", result=7) + "\n")
    assert len(list(ctworker.results(str(log), other))) == 3
    rows = list(ctworker.results(log, other, all_attempts=True))
    assert [r["task_id"] for r in rows] == ["a", "a", "b", "c", "a"]
    assert rows[-1]["result"] == 7


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    path = tmp_path / "events.log"
    path.write_text("\n".join(event(str(i), result="x" * 1000) for i in range(5000)))
    rows = iter(ctworker.results(path))
    assert next(rows)["task_id"] == "0"
    rows.close()  # type: ignore[attr-defined] # must not block, although the engine still writes


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ctworker.ResultsError, match="no such file"):
        next(iter(ctworker.results(tmp_path / "none.log")))
    path = tmp_path / "notes.txt"
    path.write_text("notes\n")
    with pytest.raises(ctworker.ResultsError, match="not an event log"):
        list(ctworker.results(path))


@pytest.mark.parametrize("method", ["to_pandas", "to_polars"])
def test_missing_module(log: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="pip install"):
        getattr(ctworker.results(log), method)()


def test_data_frames_are_read_from_a_parquet_file(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The modules are stubs that return the bytes of the file; Go tests check its content."""

    def read_parquet(path: Path, **_: object) -> bytes:
        return path.read_bytes()

    for name in ("pandas", "polars", "pyarrow"):
        stub = ModuleType(name)
        stub.read_parquet = read_parquet  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, stub)
    for frame in (ctworker.results(log).to_pandas(), ctworker.results(log).to_polars()):
        assert isinstance(frame, bytes)
        assert frame[:4] == frame[-4:] == b"PAR1"
