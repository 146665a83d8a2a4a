"""Find and start the engine, the program `ctworker`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

BIN_VAR = "CTWORKER_BIN"
CONTROL_FD_VAR = "CTWORKER_CONTROL_FD"


def fatal(message: str, code: int = 2) -> SystemExit:
    """Print message on standard error, and return the SystemExit for the caller to raise."""
    print(f"ctworker: {message}", file=sys.stderr, flush=True)
    return SystemExit(code)


def find_engine() -> str:
    """Return the engine's path.

    The engine is the first of these that exists: the program in $CTWORKER_BIN, the engine in the
    installed package, the program ctworker on the PATH. If $CTWORKER_BIN is set but not an
    executable file, or if none exists, print an error and raise SystemExit(2).
    """
    named = os.environ.get(BIN_VAR)
    if named:
        if found := shutil.which(named):
            return os.path.abspath(found)
        raise fatal(f"{BIN_VAR}={named} is not an executable file; correct or unset the variable")
    inside = Path(__file__).parent / "bin" / "ctworker"
    if os.access(inside, os.X_OK):
        return str(inside)
    if found := shutil.which("ctworker"):
        return os.path.abspath(found)
    raise fatal(
        "could not find the program ctworker, the engine that runs the tasks:\n"
        f"  - the environment variable {BIN_VAR} is not set;\n"
        f"  - the installed Python package does not contain {inside};\n"
        "  - there is no ctworker on the PATH.\n"
        "Install the Python package from a wheel for this platform, which contains the engine, "
        f"or build the engine with `make build` and set {BIN_VAR} to its path."
    )


def start_engine(
    path: str, flags: list[str], control_fd: int, stream_fd: int | None
) -> subprocess.Popen[bytes]:
    """Start the engine with the worker's flags, in its own process group.

    Because the engine is in another process group, the terminal sends Ctrl-C only to this
    process, which forwards it.

    control_fd is the engine's end of the control socket. stream_fd is the read end of the pipe
    to which the program's task source writes; None if the program has no such source. If the
    engine cannot be started, print an error and raise SystemExit(2).
    """
    command = [path, "engine", *flags]
    environment = {**os.environ, CONTROL_FD_VAR: str(control_fd)}
    fds = [control_fd] if stream_fd is None else [control_fd, stream_fd]
    try:
        if sys.version_info >= (3, 11):
            return subprocess.Popen(command, env=environment, pass_fds=fds, process_group=0)
        return subprocess.Popen(
            command, env=environment, pass_fds=fds, preexec_fn=lambda: os.setpgid(0, 0)
        )
    except OSError as error:
        raise fatal(
            f"cannot start the engine {path}: {error}; install a ctworker for this platform, or "
            f"set {BIN_VAR} to its path"
        ) from None


def exit_code(status: int) -> int:
    """Return the exit code for status, the engine's returncode of subprocess.Popen.

    If a signal killed the engine, the exit code is 128 plus the number of the signal. The signal
    is then also reported on standard error.
    """
    if status >= 0:
        return status
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    print(
        f"ctworker: the engine was killed by signal {-status} ({name}); the running tasks were "
        "killed too",
        file=sys.stderr,
        flush=True,
    )
    return 128 - status
