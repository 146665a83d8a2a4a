"""Find and start the engine, the program `ctworker`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

BIN_VAR = "CTWORKER_BIN"
HOST_FD_VAR = "CTWORKER_CONTROL_FD"


def fail(message: str, code: int = 2) -> SystemExit:
    """Say message on standard error, and return the exit to raise."""
    print(f"ctworker: {message}", file=sys.stderr, flush=True)
    return SystemExit(code)


def find_engine() -> str:
    """Return the engine's path; SystemExit(2), in words, if there is none.

    It is `$CTWORKER_BIN`, else the one inside the installed package, else the one on
    the PATH.
    """
    named = os.environ.get(BIN_VAR)
    if named:
        if found := shutil.which(named):
            return os.path.abspath(found)
        raise fail(f"{BIN_VAR}={named} is no program that can be run; correct or unset it")
    inside = Path(__file__).parent / "bin" / "ctworker"
    if os.access(inside, os.X_OK):
        return str(inside)
    if found := shutil.which("ctworker"):
        return os.path.abspath(found)
    raise fail(
        "the engine, the program ctworker, was not found. It was looked for\n"
        f"  - in the environment variable {BIN_VAR}, which is not set;\n"
        f"  - inside the installed package, as {inside};\n"
        "  - as ctworker on the PATH.\n"
        "Install the package from a wheel for this platform, which has the engine inside, "
        f"or build it (make build) and set {BIN_VAR} to its path."
    )


def start_engine(
    path: str, flags: list[str], host_fd: int, stream_fd: int | None
) -> subprocess.Popen[bytes]:
    """Start the engine with the worker's flags, in a process group of its own.

    Ctrl-C thus reaches this process alone, which passes it on. host_fd is the engine's
    end of the control socket, stream_fd the end of the pipe that it reads tasks from.
    """
    command = [path, "engine", *flags]
    environment = {**os.environ, HOST_FD_VAR: str(host_fd)}
    fds = [host_fd] if stream_fd is None else [host_fd, stream_fd]
    try:
        if sys.version_info >= (3, 11):
            return subprocess.Popen(command, env=environment, pass_fds=fds, process_group=0)
        return subprocess.Popen(
            command, env=environment, pass_fds=fds, preexec_fn=lambda: os.setpgid(0, 0)
        )
    except OSError as error:
        raise fail(f"the engine {path} cannot be started: {error}") from None


def exit_code(status: int) -> int:
    """Return the exit code that stands for how the engine ended; status is Popen's."""
    if status >= 0:
        return status
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    print(
        f"ctworker: the engine was killed by signal {-status} ({name}); its tasks were ended",
        file=sys.stderr,
        flush=True,
    )
    return 128 - status
