"""The child that runs the program's task source, and the pipes to and from it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ctworker._children import Ended
from ctworker._exit import leave
from ctworker._serve import write_all
from ctworker._source import StreamSource

_ORDERLY = b"\0"
_MAX_REPORT = 32 << 10  # what any pipe takes at once, so that the child need not wait


class SourceChild:
    """Owns the pipe of tasks and the pipe on which the child says how it ended."""

    def __init__(self, source: StreamSource) -> None:
        self._source = source
        self.pid: int | None = None
        self._tasks: int | None
        self.reader, self._tasks = os.pipe()
        self._report_reader, self._report_writer = os.pipe()
        self._reader_open = True
        self.name = source.name
        # The source runs only once, so it gets the random state of the program: Python
        # reseeds the module random in a fork.
        self._random: Any = sys.modules.get("random")
        self._random_state = self._random and self._random.getstate()

    def close_reader(self) -> None:
        """The engine has it."""
        self._reader_open = False
        os.close(self.reader)

    def close_writer(self) -> None:
        if self._tasks is not None:
            os.close(self._tasks)
            self._tasks = None

    def started(self, pid: int) -> None:
        """The child has been forked: its end of the pipe is its own now."""
        self.pid = pid
        self.close_writer()

    def be_child(self, shed: Callable[[], None]) -> NoReturn:
        """Run the source, in the forked child."""
        code = 1
        try:
            shed()
            if self._random is not None:
                self._random.setstate(self._random_state)
            os.close(self._report_reader)
            assert self._tasks is not None
            error = self._source.run(self._tasks)
            os.close(self._tasks)
            report = _ORDERLY if error is None else error.encode("utf-8", "backslashreplace")
            write_all(self._report_writer, report[:_MAX_REPORT])
            code = 0
        finally:
            leave(code)

    def ended(self, ended: Ended) -> str | None:
        """Return what went wrong, of a child that has ended; None if nothing did."""
        self.pid = None
        os.set_blocking(self._report_reader, False)
        try:
            report = os.read(self._report_reader, _MAX_REPORT)
        except BlockingIOError:
            report = b""
        if report and report != _ORDERLY:
            return report.decode("utf-8", "ignore")  # the last character may be incomplete
        code = os.waitstatus_to_exitcode(ended.status)
        if code < 0:
            return f"its process was killed by signal {-code} ({_name(-code)})"
        if code > 0 or not report:
            return f"its process ended before it, with exit code {code}"
        return None

    def close(self) -> None:
        """Close what is still open."""
        self.close_writer()
        if self._reader_open:
            self.close_reader()
        os.close(self._report_reader)
        os.close(self._report_writer)


def _name(sig: int) -> str:
    try:
        return signal.Signals(sig).name
    except ValueError:
        return "unknown"
