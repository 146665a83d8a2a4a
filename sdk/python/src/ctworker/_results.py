"""Read the results in event logs."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from ctworker._engine import find_engine

if TYPE_CHECKING:
    import pandas
    import polars

LogPath = Union[str, "os.PathLike[str]"]


class ResultsError(Exception):
    """The results in an event log cannot be read. The message contains the reason."""


class Results:
    """The results in event logs. Each iteration reads the logs, and yields one dict per row.

    Use `results()` to create an instance.
    """

    def __init__(self, paths: list[str], all_attempts: bool) -> None:
        self._paths = paths
        self._all_attempts = all_attempts

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield one dict per row.

        The keys are the names of the columns. A dict lacks the keys for which the event has no
        value. Rows are read while you iterate, so memory does not depend on their number.

        Raises:
            ResultsError: A log cannot be read, or is not an event log.
        """
        with tempfile.TemporaryFile() as errors:  # a pipe could fill up before it is read
            process = subprocess.Popen(
                self._command("--format", "jsonl"), stdout=subprocess.PIPE, stderr=errors
            )
            assert process.stdout is not None
            try:
                with process.stdout as lines:
                    for line in lines:
                        yield json.loads(line)
            except BaseException:  # also GeneratorExit, if the caller does not read all rows
                process.kill()
                raise
            finally:
                code = process.wait()
            errors.seek(0)
            _check(code, errors.read())

    def to_pandas(self) -> pandas.DataFrame:
        """Return the rows as a pandas DataFrame with nullable types, such as Int64.

        Raises:
            ImportError: pandas or pyarrow is not installed.
            ResultsError: A log cannot be read, or its results have too many different keys.
        """
        try:
            import pandas
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_pandas() needs pandas and pyarrow; install both: pip install pandas pyarrow"
            ) from error
        with self._parquet() as path:
            return pandas.read_parquet(path, engine="pyarrow", dtype_backend="numpy_nullable")

    def to_polars(self) -> polars.DataFrame:
        """Return the rows as a Polars DataFrame.

        Raises:
            ImportError: Polars is not installed.
            ResultsError: A log cannot be read, or its results have too many different keys.
        """
        try:
            import polars
        except ImportError as error:
            raise ImportError("to_polars() needs Polars; install it: pip install polars") from error
        with self._parquet() as path:
            # Without memory_map=False, the data frame could refer to the deleted file.
            return polars.read_parquet(path, memory_map=False)

    @contextmanager
    def _parquet(self) -> Iterator[Path]:
        """Write the rows to a Parquet file, which is deleted at the end of the context."""
        with tempfile.TemporaryDirectory(prefix="ctworker-") as folder:
            path = Path(folder) / "results.parquet"
            done = subprocess.run(
                self._command("--format", "parquet", "--output", str(path)),
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            _check(done.returncode, done.stderr)
            yield path

    def _command(self, *flags: str) -> list[str]:
        more = ["--all-attempts"] if self._all_attempts else []
        return [find_engine(), "results", *flags, *more, "--", *self._paths]


def _check(code: int, errors: bytes) -> None:
    if code:
        text = errors.decode(errors="replace").strip()
        reason = text.splitlines()[-1].removeprefix("ctworker: results: ") if text else ""
        raise ResultsError(reason or f"ctworker results ended with exit code {code}")


def results(path: LogPath, *more: LogPath, all_attempts: bool = False) -> Results:
    """Return the results in one or more event logs.

    Example:
        for row in ctworker.results("events.log"):
            print(row["task_id"], row["outcome"], row.get("sum"))

        frame = ctworker.results("events.log").to_polars()

    There is one row for each task that has a final event. The columns are the fields of this event,
    and the keys of the result, as in `ctworker results`. Lines that are not events are ignored.

    Args:
        path: The event log.
        more: Further logs, in the order in which they were written.
        all_attempts: Return one row for each attempt, also of attempts that were retried.
    """
    # A name that looks like a flag or like standard input means a file.
    return Results([os.path.abspath(p) for p in (path, *more)], all_attempts)
