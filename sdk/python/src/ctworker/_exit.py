"""Exit a child process as the interpreter would, running the exit hooks of its tasks."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ctworker._serve import EngineDisconnectedError, flush_standard_streams


def exit_process(code: int) -> NoReturn:
    """Wait for threads, run exit hooks in the interpreter's order, and exit with code.

    The interpreter itself is not finalized, because that takes longer than most tasks.
    """
    try:
        threads: Any = threading
        if getattr(threads, "_threading_atexits", True) or threads.active_count() > 1:
            _try(threads._shutdown)
        _try(atexit._run_exitfuncs)
        modules: Any = sys.modules
        if (util := modules.get("multiprocessing.util")) is not None:
            _try(util._exit_function)
        if (logging := modules.get("logging")) is not None and len(logging._handlerList) > 1:
            _try(logging.shutdown)  # if there are handlers in addition to logging.lastResort
        flush_standard_streams()
    finally:
        os._exit(code)


def run_and_exit(run_tasks: Callable[..., None], *args: Any) -> NoReturn:
    """Call run_tasks(*args), and exit with the code that it requests by SystemExit.

    Without SystemExit the code is 0, or 1 if run_tasks raises another exception.
    """
    code = 1
    try:
        run_tasks(*args)
        code = 0
    except SystemExit as exit:
        code = exit_code(exit)
    except EngineDisconnectedError:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        exit_process(code)


def _try(step: Callable[[], object]) -> None:
    try:
        step()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()


def exit_code(exit: SystemExit) -> int:
    """Return the exit code of a SystemExit; print its message if it has one, as Python does."""
    code = exit.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 255
    try:
        print(code, file=sys.stderr, flush=True)
    except Exception:
        pass
    return 1
