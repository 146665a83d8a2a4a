"""Run an existing worker program unchanged: python -m ctworker worker.py ARGUMENTS."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

HELP = """\
usage: python -m ctworker PROGRAM.py [ARGUMENTS...]

Runs a worker program that says

    from cloud_tasks.worker import Worker, WorkerData

unchanged: the name cloud_tasks stands for ctworker while it runs, whether or not a
package of that name is installed. A program that imports ctworker itself needs none of
this: run it as python PROGRAM.py.

  python -m ctworker worker.py --help                    what the program understands
  python -m ctworker worker.py --task-file tasks.json    run it over a task file
  python -m ctworker --version                           print the version
"""

SHIM = str(Path(__file__).parent / "_shim")


def main(arguments: list[str]) -> None:
    """Run the program that arguments begin with, as Python itself would run it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="", file=sys.stdout if arguments else sys.stderr)
        raise SystemExit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        from ctworker import __version__

        print(f"ctworker {__version__}")
        return
    program = arguments[0]
    if program.startswith("-"):
        print(f"ctworker: {program} is no option of ctworker; see --help", file=sys.stderr)
        raise SystemExit(2)
    if not os.path.isfile(program):
        print(f"ctworker: {program}: there is no such program", file=sys.stderr)
        raise SystemExit(2)
    # On the path, and not only in sys.modules: processes that a task starts with
    # multiprocessing's spawn are handed the path. Imported now, ours comes first.
    sys.path.insert(0, SHIM)
    for name in [n for n in sys.modules if n.split(".")[0] == "cloud_tasks"]:
        del sys.modules[name]
    __import__("cloud_tasks.worker")
    sys.path.insert(0, os.path.dirname(os.path.abspath(program)))
    sys.argv = arguments
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    # Python has put the current directory in front, which is not the program's.
    if sys.path and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]
    main(sys.argv[1:])
