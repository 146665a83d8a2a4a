"""The control socket between this process and the engine: lines of JSON, with descriptors."""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from typing import Any

_MAX_FDS = 16
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_decoder: Any = json.JSONDecoder()
_scan = _decoder.scan_once
"""The heart of json.loads, which touches fewer pages."""


def _read(line: bytes) -> dict[str, Any]:
    try:
        message: dict[str, Any] = _scan(line.decode(), 0)[0]
    except (StopIteration, ValueError):
        raise RuntimeError(f"the engine said what is no JSON: {line[:100]!r}") from None
    return message


class Control:
    """One end of the socket. What is said is sent with the next flush."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._fd = connection.fileno()
        self._partial = b""
        self._fds: deque[list[int]] = deque()
        self._unsent: list[bytes] = []

    def fileno(self) -> int:
        return self._fd

    def say(self, message: dict[str, Any]) -> None:
        """Put a line up for the next flush."""
        self.say_line(json.dumps(message).encode() + b"\n")

    def say_line(self, line: bytes) -> None:
        """Put up a line that is JSON already, with its end.

        For what is said of each task: json.dumps writes to more pages than a fork
        can afford to have copied.
        """
        self._unsent.append(line)

    def flush(self) -> None:
        """Send what has been put up. If the engine is gone, receive says so."""
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the lines that have come; None at the end. It does not block."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                1 << 16, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_DONTWAIT | _CLOEXEC
            )
        except BlockingIOError:
            return []
        except ConnectionResetError:
            return None
        # The system gives what one sendmsg sent with its line, in one piece: so the
        # groups of descriptors come in the order of the lines that need them.
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.append(_descriptors(payload))
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [_read(line) for line in lines]

    def take_fds(self) -> list[int]:
        """Return the descriptors of the line at hand; empty if there was no room for them."""
        return self._fds.popleft() if self._fds else []

    def descriptors(self) -> list[int]:
        """Return the socket and what has come and not been taken, for a child to close."""
        fds = [self._fd]
        for group in self._fds:
            fds += group
        return fds

    def close(self) -> None:
        """Close the socket and what has come and not been taken."""
        self._socket.close()
        for group in self._fds:
            for fd in group:
                os.close(fd)
        self._fds.clear()


def _descriptors(payload: bytes) -> list[int]:
    fds: list[int] = memoryview(payload[: len(payload) // 4 * 4]).cast("i").tolist()
    if not _CLOEXEC:
        for fd in fds:
            os.set_inheritable(fd, False)
    return fds
