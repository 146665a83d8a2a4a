"""Make a forked child a process of its own: shed what is the parent's."""

from __future__ import annotations

import asyncio
import atexit
import io
import itertools
import os
import resource
import signal
import sys
import weakref
from collections.abc import Callable
from typing import Any

# What the module signal wraps into enums, which take longer than the calls themselves.
raw_signal: Any = sys.modules["_signal"]

PASSED_ON = (int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP))
"""The signals that the host has handlers for; blocked while it forks."""

_PR_SET_PDEATHSIG = 1

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
    _forget_event_loop(_loop_state())


class Detacher:
    """Prepared once in the parent, as each child is to do as little as possible.

    A page that a child writes to is copied first, so time goes by what is touched.
    """

    def __init__(self, memory_limit: int) -> None:
        """memory_limit is RLIMIT_AS in bytes; 0 is none."""
        self._host = os.getpid()
        self._memory_limit = memory_limit
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._stdin = _open_stdin()
        self._loop_state = _loop_state()
        self._die_with_parent = _death_signal()
        self._handlers = [
            (int(sig), signal.default_int_handler if sig == signal.SIGINT else raw_signal.SIG_DFL)
            for sig in PASSED_ON
            if signal.getsignal(sig) is not signal.SIG_IGN
        ]

    def close(self) -> None:
        os.close(self._null)

    def detach(self) -> None:
        """Detach this process, a child that was forked with PASSED_ON blocked."""
        global _in_child
        _in_child = True
        os.setpgid(0, 0)
        self._die_with_parent()
        if os.getppid() != self._host:
            os._exit(1)  # it died before that was set up
        raw_signal.set_wakeup_fd(-1)
        for sig, handler in self._handlers:
            raw_signal.signal(sig, handler)
        raw_signal.pthread_sigmask(raw_signal.SIG_UNBLOCK, PASSED_ON)
        os.dup2(self._null, 0)
        os.close(self._null)
        if self._stdin is not None:
            sys.stdin = self._stdin
        _forget_event_loop(self._loop_state)
        _forget_exit_hooks()
        _forget_multiprocessing()
        _reseed()
        if self._memory_limit:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = self._memory_limit
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _open_stdin() -> io.TextIOWrapper | None:
    """Return a sys.stdin for the children, whose descriptor 0 is the null device."""
    try:
        return open(0, closefd=False)
    except OSError:
        return None


def _death_signal() -> Callable[[], object]:
    """Return what has this process killed when its parent ends; nothing if that cannot be."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            prctl = ctypes.PyDLL(None).prctl
        except (ImportError, OSError, AttributeError):
            return lambda: None  # the engine kills the groups when it sees the host go
        prctl.argtypes = (ctypes.c_int, ctypes.c_ulong)
        prctl.restype = None
        sigkill = int(signal.SIGKILL)
        return lambda: prctl(_PR_SET_PDEATHSIG, sigkill)
    return lambda: None


def _loop_state() -> Any:
    """Return what asyncio keeps of this thread's event loop, where a fork leaves it as it is."""
    if sys.version_info >= (3, 12):
        return None
    return getattr(asyncio.get_event_loop_policy(), "_local", None)


def _forget_event_loop(state: Any) -> None:
    """Undo that an event loop is running, so that a task can run its own."""
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
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
        util._run_after_forkers()
    forkserver: Any = modules.get("multiprocessing.forkserver")
    if forkserver is not None and forkserver._forkserver._forkserver_pid is not None:
        # What it would start would be in no process group of this task.
        server = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_pid = None
        server._forkserver_alive_fd = None
        server._forkserver_address = None


def _reseed() -> None:
    """Give the task its own random numbers; the module random sees to itself."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        try:
            numpy_random.seed()
        except Exception:
            pass  # the user has put in a generator that takes no seed
