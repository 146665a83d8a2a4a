"""Exit a child process like the interpreter: first run the exit hooks that tasks registered."""

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

    Unlike sys.exit, exit_process does not finalize the interpreter, because that can take
    longer than the task itself.
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
            _try(logging.shutdown)  # needed only if there are handlers other than lastResort
        flush_standard_streams()
    finally:
        os._exit(code)


def run_and_exit(run_tasks: Callable[..., None], *args: Any) -> NoReturn:
    """Call run_tasks(*args), and exit.

    If run_tasks raises SystemExit, the exit code is that of the SystemExit. If it raises another
    exception, the exit code is 1. Otherwise it is 0.
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
    """Return the exit code of a SystemExit.

    If the SystemExit has a message instead, print the message and return 1, as Python does.
    """
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
