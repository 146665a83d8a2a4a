"""The control socket between the program and the engine: JSON lines, some with descriptors.

The lines are private to ctworker and its SDKs; see procexec/forkserver.go.
"""

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
"""The core of json.loads. Calling it directly touches fewer memory pages."""


def _read(line: bytes) -> dict[str, Any]:
    try:
        message: dict[str, Any] = _scan(line.decode(), 0)[0]
    except (StopIteration, ValueError):
        raise RuntimeError(f"the engine sent a line that is not JSON: {line[:100]!r}") from None
    return message


class Control:
    """One end of the control socket. Writes are buffered until flush."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._fd = connection.fileno()
        self._partial = b""
        self._fds: deque[list[int]] = deque()
        self._unsent: list[bytes] = []

    def fileno(self) -> int:
        return self._fd

    def write(self, message: dict[str, Any]) -> None:
        """Buffer a message."""
        self.write_line(json.dumps(message).encode() + b"\n")

    def write_line(self, line: bytes) -> None:
        """Buffer a line that is already encoded, including its newline.

        Messages that are sent for every task use it: json.dumps writes to memory pages that
        would then be copied in every fork.
        """
        self._unsent.append(line)

    def flush(self) -> None:
        """Send the buffered lines. Do nothing if the engine has exited; receive reports that."""
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages received so far; None at end of file. It does not block."""
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                1 << 16, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_DONTWAIT | _CLOEXEC
            )
        except BlockingIOError:
            return []
        except ConnectionResetError:
            return None
        # One recvmsg returns the descriptors of at most one sendmsg, so the groups of
        # descriptors are received in the order of the lines that they belong to.
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.append(_descriptors(payload))
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [_read(line) for line in lines]

    def next_fds(self) -> list[int]:
        """Return the descriptors of the current message; the caller owns them.

        The list is empty if this process had no free descriptors to receive them.
        """
        return self._fds.popleft() if self._fds else []

    def descriptors(self) -> list[int]:
        """Return the socket and the received descriptors that next_fds has not returned.

        A forked child closes them.
        """
        fds = [self._fd]
        for group in self._fds:
            fds += group
        return fds

    def close(self) -> None:
        """Close the socket and the received descriptors that next_fds has not returned."""
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
