"""Make a forked process independent of its parent: signals, event loop, hooks, process group."""

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

FORWARDED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that the program forwards to the engine during a run."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

_in_child = False


def in_child() -> bool:
    """Return whether this process was started or forked to run tasks or a task source."""
    return _in_child


def set_up_spawned() -> None:
    """Prepare a process that the engine spawned to run tasks, within asyncio.run."""
    global _in_child
    _in_child = True
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _reset_event_loop()


class _ForkSetup:
    """The part of the setup that all forks share.

    It is created in the parent, because the fork must know its parent's pid to notice that
    the parent has already died.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._die_with_parent = _parent_death_signal()

    def start_process_group(self) -> None:
        """Make this fork the leader of a process group, to be killed if its parent dies."""
        os.setpgid(0, 0)
        self._die_with_parent()
        if os.getppid() != self._parent:
            os._exit(1)  # the parent died before the death signal was set


class ForkServerSetup(_ForkSetup):
    """Makes the fork server, a fork of the program, independent of the program."""

    def apply(self) -> None:
        """Reset the signal handlers, event loop, exit hooks and standard input."""
        global _in_child
        _in_child = True
        # In its own process group it does not receive Ctrl-C; the program forwards it.
        self.start_process_group()
        signal.set_wakeup_fd(-1)
        for sig in (*FORWARDED_SIGNALS, signal.SIGTSTP):
            if signal.getsignal(sig) is not signal.SIG_IGN:
                default: Any = signal.SIG_DFL
                signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else default)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        _reset_event_loop()
        _clear_exit_hooks()
        _reset_multiprocessing()


class ChildSetup(_ForkSetup):
    """Makes a child of the fork server independent of the fork server.

    It is created once, in the fork server, so that each child has little to do. A child's
    start-up time depends on the number of memory pages that it writes to, because each is
    copied first.
    """

    def __init__(self, memory_limit: int) -> None:
        """Prepare the setup. memory_limit is RLIMIT_AS in bytes; 0 means no limit."""
        super().__init__()
        self._memory_limit = memory_limit
        modules = sys.modules
        self._multiprocessing_util: Any = modules.get("multiprocessing.util")

    def apply(self) -> None:
        """Set up the calling process, a child."""
        self.start_process_group()
        if self._multiprocessing_util is not None:
            self._multiprocessing_util._run_after_forkers()
        if self._memory_limit:
            _, hard = resource.getrlimit(resource.RLIMIT_AS)
            limit = self._memory_limit
            if hard != resource.RLIM_INFINITY:
                limit = min(limit, hard)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


_environ: Any = getattr(os.environ, "_data", None)


def set_variable(name: bytes, value: bytes) -> None:
    """Set an environment variable like os.environ, but with fewer function calls."""
    if type(_environ) is dict:
        os.putenv(name, value)
        _environ[name] = value
    else:
        os.environb[name] = value


def _prctl() -> Any:
    """Return prctl(2), or None if it is not available."""
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


def _parent_death_signal() -> Callable[[], object]:
    """Return a function that makes the kernel kill this process when its parent dies.

    Without prctl the function does nothing.
    """
    prctl = _prctl()
    if prctl is None:
        return lambda: None  # the engine kills the process groups if the fork server exits
    sigkill = int(signal.SIGKILL)
    return lambda: prctl(_PR_SET_PDEATHSIG, sigkill)


def adopt_orphans() -> None:
    """Make orphaned descendants become children of this process, on Linux."""
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _reset_event_loop() -> None:
    """Clear the running event loop, so that a task can run its own."""
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    if sys.version_info < (3, 12):
        # The event loop policy's state for this thread; later versions reset it themselves.
        state: Any = getattr(asyncio.get_event_loop_policy(), "_local", None)
        if state is not None:
            state._loop = None
            state._set_called = False


def _clear_exit_hooks() -> None:
    """Remove the parent's exit hooks, such as the removal of a temporary folder."""
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


def _reset_multiprocessing() -> None:
    """Reset multiprocessing to the state that it has in a child that it starts itself."""
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
        # Processes started by the parent's fork server of multiprocessing would not belong
        # to the task's process group.
        server = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_pid = None
        server._forkserver_alive_fd = None
        server._forkserver_address = None
