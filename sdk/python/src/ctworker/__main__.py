"""Run an existing program unchanged: `python -m ctworker worker.py ARGUMENTS`."""

from __future__ import annotations

import builtins
import importlib.machinery
import importlib.util
import io
import os
import runpy
import sys
import types
from pathlib import Path

HELP = """\
usage: python -m ctworker PROGRAM.py [ARGUMENTS...]
       python -m ctworker -m MODULE [ARGUMENTS...]

Runs, unchanged, a program that was written for the package rms-cloud-tasks, that is, a program
that contains

    from cloud_tasks.worker import Worker, WorkerData

This import loads ctworker, even if rms-cloud-tasks is installed. To run a program that
imports ctworker directly, use python PROGRAM.py instead.

  python -m ctworker worker.py --help                    show the program's options
  python -m ctworker worker.py --task-file tasks.json    run it over a task file
  python -m ctworker -m package.module                   run a module, as python -m does
  python -m ctworker --version                           print the version
"""

SHIM = str(Path(__file__).parent / "_shim")


def main(arguments: list[str]) -> None:
    """Run the program in arguments as `python` would: a file, or -m and a module."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        from ctworker import __version__

        print(f"ctworker {__version__}")
        return
    if arguments[0] == "-m":
        if len(arguments) < 2:
            raise _usage("-m requires the name of a module")
        _run_module(arguments[1:])
        _check_ran(f"the module {arguments[1]}")
        return
    program = arguments[0]
    if program.startswith("-"):
        raise _usage(f"unknown option {program}")
    if not os.path.exists(program):
        raise _usage(f"{program}: no such file")
    _install_shim()
    sys.argv = arguments
    if _is_source(program):
        _run_file(program)
    else:
        runpy.run_path(program, run_name="__main__")
    _check_ran(program)


def _check_ran(program: str) -> None:
    """Exit with code 2 if the program, which has ended, has not run any Worker."""
    from ctworker import worker

    if worker.not_started():
        raise SystemExit(2)  # the message is printed at the exit of every program
    if not worker.has_worker():
        raise _usage(
            f"{program} created no Worker, so no task was run; it must import Worker from "
            "cloud_tasks.worker or ctworker, and start it"
        )


def _usage(message: str) -> SystemExit:
    """Print a usage error, and return the SystemExit for the caller to raise."""
    print(f"ctworker: {message}; see python -m ctworker --help", file=sys.stderr)
    return SystemExit(2)


def _install_shim() -> None:
    """Make imports of cloud_tasks load ctworker's modules."""
    # Processes that multiprocessing spawns inherit sys.path, but not sys.modules. The folder is
    # therefore added to sys.path.
    sys.path.insert(0, SHIM)
    for name in [n for n in sys.modules if n.split(".")[0] == "cloud_tasks"]:
        del sys.modules[name]
    # Import the package now. Later, the program's directory is the first in sys.path, and it may
    # contain another module cloud_tasks.
    __import__("cloud_tasks.worker")


def _run_module(arguments: list[str]) -> None:
    """Run a module as `python -m` does."""
    name = arguments[0]
    _install_shim()
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.getcwd())
    sys.argv = arguments
    try:
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations is not None:
            found = importlib.util.find_spec(f"{name}.__main__")  # a package
    except ModuleNotFoundError as error:
        raise _usage(f"-m {name}: {error}") from None
    if found is None:
        raise _usage(f"-m {name}: no such module, or a package without __main__")
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _is_source(program: str) -> bool:
    """Return whether program is a file of Python source.

    A program can also be a folder, a zip archive or compiled code. Zip archives and compiled
    code contain null bytes.
    """
    if os.path.isdir(program):
        return False
    with open(program, "rb") as file:
        return b"\0" not in file.read(4096)


def _run_file(program: str) -> None:
    """Run a source file as Python does.

    runpy.run_path would set __file__ to the relative path, which is wrong after a task has
    changed the current directory.
    """
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.path.dirname(os.path.realpath(program)))
    path = os.path.join(os.getcwd(), program)
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main = types.ModuleType("__main__")
    main.__dict__.update(
        __file__=path,
        __loader__=importlib.machinery.SourceFileLoader("__main__", path),
        __builtins__=builtins,
        __cached__=None,
    )
    main.__doc__ = None
    sys.modules["__main__"] = main
    exec(code, main.__dict__)


if __name__ == "__main__":
    # python -m has put the current directory first in sys.path. Remove it, because a program
    # expects its own directory there.
    if sys.path and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    main(sys.argv[1:])
