"""The control socket between the fork server and the engine.

Each message is a line of JSON. Some messages are sent with file descriptors. The messages are
private to ctworker and its SDKs; internal/procexec/forkserver.go lists them.
"""

from __future__ import annotations

import json
import os
import socket
from collections import deque
from typing import Any

_MAX_FDS = 16  # more than the engine sends with one message
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

_decoder: Any = json.JSONDecoder()
_scan = _decoder.scan_once
"""The function that json.loads calls to parse text.

It is called directly, because json.loads writes to more memory pages. After a fork, the system
copies each page that a process writes to."""


def _read(line: bytes) -> dict[str, Any]:
    try:
        message: dict[str, Any] = _scan(line.decode(), 0)[0]
    except (StopIteration, ValueError):
        raise RuntimeError(f"the engine sent a line that is not JSON: {line[:100]!r}") from None
    return message


class Control:
    """The fork server's end of the control socket. Writes are buffered until flush."""

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
        """Buffer an encoded line, including its newline.

        Use it for messages that are sent for every task. write calls json.dumps, which writes to
        memory pages. After a fork, the system copies each page that a process writes to.
        """
        self._unsent.append(line)

    def flush(self) -> None:
        """Send the buffered lines. If the engine has exited, discard them.

        receive reports that the engine has exited.
        """
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def receive(self) -> list[dict[str, Any]] | None:
        """Return the messages that have arrived, without blocking.

        Return None if the engine has closed the socket or has exited.
        """
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                1 << 16, socket.CMSG_SPACE(_MAX_FDS * 4), socket.MSG_DONTWAIT | _CLOEXEC
            )
        except BlockingIOError:
            return []
        except ConnectionResetError:
            return None
        # A call of recvmsg returns the descriptors of at most one message. The groups in _fds
        # are therefore in the order of the messages that they were sent with.
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._fds.append(_descriptors(payload))
        if not data:
            return None
        *lines, self._partial = (self._partial + data).split(b"\n")
        return [_read(line) for line in lines]

    def next_fds(self) -> list[int]:
        """Return the descriptors that were sent with the current message.

        The caller owns the descriptors. Call next_fds once for each message with descriptors, in
        the order of the messages. If this process had reached its limit of open descriptors, the
        system has discarded the descriptors, and the list is empty.
        """
        return self._fds.popleft() if self._fds else []

    def descriptors(self) -> list[int]:
        """Return all open descriptors, which a forked child must close.

        They are the socket, and the received descriptors that next_fds has not returned.
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
