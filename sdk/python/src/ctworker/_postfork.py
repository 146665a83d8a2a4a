"""Make a new process independent of its parent.

A fork inherits its parent's signal handlers, running event loop, exit hooks and process group.
"""

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
    """Prepare this process, which the engine has spawned, to run tasks.

    It is called inside of asyncio.run, and removes the signal handler and the running event loop
    that asyncio.run has set.
    """
    global _in_child
    _in_child = True
    signal.set_wakeup_fd(-1)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _reset_event_loop()


class _ForkSetup:
    """The part of the setup that all forks share.

    Create the object in the parent, because the constructor stores the parent's pid. The fork
    compares that pid with the pid of its current parent, to detect that the original parent has
    died.
    """

    def __init__(self) -> None:
        self._parent = os.getpid()
        self._die_with_parent = _parent_death_signal()

    def start_process_group(self) -> None:
        """Make this fork the leader of a new process group.

        Also make the kernel kill this fork when its parent dies.
        """
        os.setpgid(0, 0)
        self._die_with_parent()
        if os.getppid() != self._parent:
            os._exit(1)  # the parent died before the kernel was asked to kill this fork


class ForkServerSetup(_ForkSetup):
    """Makes the fork server, a fork of the program, independent of the program."""

    def apply(self) -> None:
        """Reset the signal handlers, event loop, exit hooks and standard input."""
        global _in_child
        _in_child = True
        # The terminal does not send Ctrl-C to this process group. The program receives Ctrl-C, and
        # forwards it to the engine.
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

    Create it once, in the fork server, and call apply in each child. apply must write to few
    memory pages: the system copies each page that a child writes to, and these copies determine
    how long the child takes to start.
    """

    def __init__(self, memory_limit: int) -> None:
        """Prepare the setup.

        memory_limit is the maximum address space (RLIMIT_AS) of a child in bytes. 0 means no
        limit.
        """
        super().__init__()
        self._memory_limit = memory_limit
        modules = sys.modules
        self._multiprocessing_util: Any = modules.get("multiprocessing.util")

    def apply(self) -> None:
        """Set up the calling process. It is called in a child."""
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
    """Set an environment variable like `os.environ[name] = value`, but faster."""
    if type(_environ) is dict:
        os.putenv(name, value)
        _environ[name] = value
    else:
        os.environb[name] = value


def _prctl() -> Any:
    """Return the function prctl(2), or None if the system does not have it."""
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
    """Return a function that makes the kernel kill the calling process when its parent dies.

    On a system without prctl, the function does nothing.
    """
    prctl = _prctl()
    if prctl is None:
        # The engine then kills the process groups of tasks when the fork server exits.
        return lambda: None
    sigkill = int(signal.SIGKILL)
    return lambda: prctl(_PR_SET_PDEATHSIG, sigkill)


def adopt_orphans() -> None:
    """Make this process adopt descendants whose parent exits. It works only on Linux."""
    prctl = _prctl()
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _reset_event_loop() -> None:
    """Remove the running event loop. Otherwise a task could not run a loop of its own."""
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    if sys.version_info < (3, 12):
        # The event loop policy stores the loop of this thread. Python 3.12 and later reset it.
        state: Any = getattr(asyncio.get_event_loop_policy(), "_local", None)
        if state is not None:
            state._loop = None
            state._set_called = False


def _clear_exit_hooks() -> None:
    """Remove the exit hooks of the parent.

    Otherwise each child would run them, and could for example remove a temporary folder that the
    parent still uses.
    """
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
    """Reset the state of multiprocessing, as multiprocessing itself does in a new child."""
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
        # Forget the fork server of multiprocessing, which the parent has started. The processes
        # that it starts are not in the task's process group, so they would survive the task.
        server = forkserver._forkserver
        os.close(server._forkserver_alive_fd)
        server._forkserver_pid = None
        server._forkserver_alive_fd = None
        server._forkserver_address = None
