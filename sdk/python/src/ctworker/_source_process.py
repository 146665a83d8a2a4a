"""The process that runs the program's task source, and the pipes that it writes to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ctworker._children import ChildExit
from ctworker._exit import exit_process
from ctworker._serve import write_all
from ctworker._source import StreamSource

_SUCCESS = b"\0"
_MAX_REPORT = 32 << 10  # bytes; fits into the buffer of a pipe, so that the write never blocks


class SourceProcess:
    """The process of a task source.

    The object owns two pipes, to which the process writes. On the first pipe, the process sends
    the tasks to the engine. On the second pipe, it reports to the fork server whether the source
    succeeded.
    """

    def __init__(self, source: StreamSource) -> None:
        """Create the pipes. The fork server forks the process later."""
        self._source = source
        self.pid: int | None = None
        self._tasks: int | None
        self.reader, self._tasks = os.pipe()
        self._report_reader, self._report_writer = os.pipe()
        self._reader_open = True
        self.name = source.name
        # Save the state of the module random, because Python reseeds the module in a fork. The
        # process of the source restores the state, so that a seed set by the program takes effect.
        self._random: Any = sys.modules.get("random")
        self._random_state = self._random and self._random.getstate()

    def close_reader(self) -> None:
        """Close the read end of the pipe of tasks. Call it after the engine has inherited it."""
        self._reader_open = False
        os.close(self.reader)

    def close_writer(self) -> None:
        """Close the write end of the pipe of tasks, unless it has been closed before."""
        if self._tasks is not None:
            os.close(self._tasks)
            self._tasks = None

    def on_forked(self, pid: int) -> None:
        """Store the pid of the process, and close the write end of the pipe of tasks.

        After that, only the process holds the write end, so the engine reads end of file when the
        process exits.
        """
        self.pid = pid
        self.close_writer()

    def run_child(self, set_up: Callable[[], None]) -> NoReturn:
        """Run the source, and exit. It is called in the forked process."""
        code = 1
        try:
            set_up()
            if self._random is not None:
                self._random.setstate(self._random_state)
            os.close(self._report_reader)
            assert self._tasks is not None
            error = self._source.run(self._tasks)
            os.close(self._tasks)
            report = _SUCCESS if error is None else error.encode("utf-8", "backslashreplace")
            write_all(self._report_writer, report[:_MAX_REPORT])
            code = 0
        finally:
            exit_process(code)

    def error_of(self, exited: ChildExit) -> str | None:
        """Return the error of the source, or None on success.

        Call it when the process has exited. exited is the exit status of the process.
        """
        self.pid = None
        os.set_blocking(self._report_reader, False)
        try:
            report = os.read(self._report_reader, _MAX_REPORT)
        except BlockingIOError:
            report = b""
        if report and report != _SUCCESS:
            return report.decode("utf-8", "ignore")  # the end of a long report may be cut off
        code = os.waitstatus_to_exitcode(exited.status)
        if code < 0:
            return f"its process was killed by signal {-code} ({_name(-code)})"
        if code > 0 or not report:
            return f"its process exited with code {code} before it had written all tasks"
        return None

    def close(self) -> None:
        """Close the descriptors that are still open."""
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
