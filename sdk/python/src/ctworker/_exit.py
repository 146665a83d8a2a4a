"""End a child as the interpreter would end: what the task registered for the end runs."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from ctworker._serve import EngineGoneError, flush_standard_streams


def leave(code: int) -> NoReturn:
    """End the process with code, after threads and exit hooks, in the interpreter's order.

    The interpreter itself is not torn down: that takes longer than most tasks.
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
            _try(logging.shutdown)  # the one is that of last resort
        flush_standard_streams()
    finally:
        os._exit(code)


def leave_after(tasks: Callable[..., None], *args: Any) -> NoReturn:
    """Call tasks(*args), which runs tasks, and end the process as it and they would have it."""
    code = 1
    try:
        tasks(*args)
        code = 0
    except SystemExit as exit:
        code = exit_code(exit)
    except EngineGoneError:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        leave(code)


def _try(step: Callable[[], object]) -> None:
    try:
        step()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()


def exit_code(exit: SystemExit) -> int:
    """Return the exit code that sys.exit asked for; a text is printed, as Python does."""
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
