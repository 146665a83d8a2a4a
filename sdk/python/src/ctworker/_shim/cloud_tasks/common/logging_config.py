"""The format of the log lines, and the root logger's configuration."""

from __future__ import annotations

import datetime
import logging
import sys

FORMAT = "%(asctime)s %(levelname)s - %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"

_LIBRARIES = ("asyncio", "urllib3", "boto", "boto3", "botocore", "google", "azure")


class MicrosecondFormatter(logging.Formatter):
    """Formats times with the milliseconds where the format of the time has `.%f`.

    What follows `.%f` is left out. Without a format of the time, there are no fractions.
    """

    def formatTime(  # noqa: N802
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """Return the record's local time as datefmt says."""
        time = datetime.datetime.fromtimestamp(record.created)
        seconds, fraction, _ = (datefmt or "%Y-%m-%d %H:%M:%S").partition(".%f")
        text = time.strftime(seconds)
        return f"{text}.{time.microsecond // 1000:03}" if fraction else text


def configure_logging(
    level: int = logging.INFO, libraries_level: int = logging.CRITICAL
) -> logging.Logger:
    """Give the root logger this level and one handler, to standard error, and return it.

    Handlers that it has are removed. libraries_level is the level of the loggers of
    asyncio, urllib3 and the clouds' packages.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(level)
    root.addHandler(_new_handler())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(libraries_level)
    return root


def prepare() -> None:
    """Log from level INFO, in this format, as long as the root logger has no handler.

    The program may still configure logging itself; logging.basicConfig, for one, does
    nothing once there is a handler.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(logging.INFO)
    logging.lastResort = _new_handler()  # used where there is no other
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)  # requests and credentials found, for each task


def add_handler() -> None:
    """Give the root logger a handler if the program has not given it one."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.lastResort or _new_handler())


def _new_handler() -> logging.StreamHandler:  # type: ignore[type-arg]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MicrosecondFormatter(FORMAT, TIME_FORMAT))
    return handler
