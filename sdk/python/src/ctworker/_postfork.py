"""Make a fork a process of its own: shed what is the parent's."""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import resource
import signal
import sys
import weakref
from collections.abc import Callable
from typing import Any

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that the program has handlers for while it runs."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_in_child = False


def in_child() -> bool:
    """Whether this process has been forked to run a task or a task source."""
    return _in_child


def take_over() -> None:
    """Make a process that the engine has started ready for tasks, within asyncio.run."""
    global _in_child
    _in_child = True
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _forget_event_loop()


class _Fork:
    """Prepared in the parent, as a fork has to know that it still lives."""

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._die_with_parent = _death_signal()

    def stand_alone(self) -> None:
        """Make this process, a fork, lead a group of its own, and end with its parent."""
        os.setpgid(0, 0)
        self._die_with_parent()
        if os.getppid() != self._parent:
            os._exit(1)  # it died before that was set up


class Shedder(_Fork):
    """Makes a fork of the program a process of its own."""

    def shed(self) -> None:
        """Shed what is the program's: its signals, event loop, exit hooks and input."""
        global _in_child
        _in_child = True
        # In a group of its own: Ctrl-C is for the program, which passes it on.
        self.stand_alone()
        signal.set_wakeup_fd(-1)
        for sig in (*PASSED_ON, signal.SIGTSTP):
            if signal.getsignal(sig) is not signal.SIG_IGN:
                default: Any = signal.SIG_DFL
                signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else default)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        _forget_event_loop()
        _forget_exit_hooks()
        _forget_multiprocessing()


class Detacher(_Fork):
    """Makes each of the fork server's children a process of its own.

    It is prepared once in the server, as each child is to do as little as possible: a
    page that a child writes to is copied first, so time goes by what is touched.
    """

    def __init__(self, memory_limit: int) -> None:
        """memory_limit is RLIMIT_AS in bytes; 0 is none."""
        super().__init__()
        self._memory_limit = memory_limit
        modules = sys.modules
        self._after_fork: Any = modules.get("multiprocessing.util")

    def detach(self) -> None:
        """Detach this process, a child."""
        self.stand_alone()
        if self._after_fork is not None:
            self._after_fork._run_after_forkers()
        if self._memory_limit:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = self._memory_limit
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_environ: Any = getattr(os.environ, "_data", None)


def set_variable(name: bytes, value: bytes) -> None:
    """Set a variable of the environment, as os.environ does by way of three functions more."""
    if type(_environ) is dict:
        os.putenv(name, value)
        _environ[name] = value
    else:
        os.environb[name] = value


def _prctl() -> Any:
    """Return prctl(2), or None where there is none that can be called."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        prctl = ctypes.PyDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
    prctl.restype = None
    return prctl


def _death_signal() -> Callable[[], object]:
    """Return what has this process killed when its parent ends; nothing if that cannot be."""
    prctl = _prctl()
    if prctl is None:
        return lambda: None  # the engine kills the groups when it sees the host go
    sigkill = int(signal.SIGKILL)
    return lambda: prctl(_PR_SET_PDEATHSIG, sigkill)


def adopt_orphans() -> None:
    """Have what the children leave behind become children of this process, on Linux."""
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _forget_event_loop() -> None:
    """Undo that an event loop is running, so that a task can run its own."""
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    if sys.version_info < (3, 12):
        # What asyncio keeps of this thread's loop; later versions see to it themselves.
        state: Any = getattr(asyncio.get_event_loop_policy(), "_local", None)
        if state is not None:
            state._loop = None
            state._set_called = False


def _forget_exit_hooks() -> None:
    """Forget what the parent has to do at its end, such as to delete its temporary folder."""
    atexit._clear()
    finalize: Any = weakref.finalize
    if finalize._registered_with_atexit:
        for info in finalize._registry.values():
            info.atexit = False
        finalize._registered_with_atexit = False
    for name, table in (
        ("concurrent.futures.thread", "_threads_queues"),
        ("concurrent.futures.process", "_threads_wakeups"),
    ):
        module = sys.modules.get(name)
        if module is not None:
            getattr(module, table, {}).clear()


def _forget_multiprocessing() -> None:
    """Give multiprocessing the state that it has in a child of its own."""
    modules = sys.modules
    process: Any = modules.get("multiprocessing.process")
    if process is None:
        return
    process._children = set()
    process._process_counter = itertools.count(1)
    util: Any = modules.get("multiprocessing.util")
    if util is not None:
        util._finalizer_registry.clear()
    forkserver: Any = modules.get("multiprocessing.forkserver")
    if forkserver is not None and forkserver._forkserver._forkserver_pid is not None:
        # What it would start would be in no process group of this task.
        server = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_pid = None
        server._forkserver_alive_fd = None
        server._forkserver_address = None
