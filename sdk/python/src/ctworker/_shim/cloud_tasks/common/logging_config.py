"""The log format, and the configuration of the root logger."""

from __future__ import annotations

import datetime
import logging
import sys

FORMAT = "%(asctime)s %(levelname)s - %(message)s"
TIME_FORMAT = "%Y-%m-%d %H:%M:%S.%f"

_LIBRARIES = ("asyncio", "urllib3", "boto", "boto3", "botocore", "google", "azure")


class MicrosecondFormatter(logging.Formatter):
    """Formats times with a time format in which `.%f` stands for milliseconds.

    Text after `.%f` is ignored. If no time format is set, times have no fraction.
    """

    def formatTime(  # noqa: N802
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        """Return the record's local time in the format datefmt."""
        time = datetime.datetime.fromtimestamp(record.created)
        seconds, fraction, _ = (datefmt or "%Y-%m-%d %H:%M:%S").partition(".%f")
        text = time.strftime(seconds)
        return f"{text}.{time.microsecond // 1000:03}" if fraction else text


def configure_logging(
    level: int = logging.INFO, libraries_level: int = logging.CRITICAL
) -> logging.Logger:
    """Configure the root logger to log to standard error, and return the root logger.

    Existing handlers are removed. level is the level of the root logger. libraries_level is the
    level of the loggers of asyncio, urllib3 and the packages of cloud providers.
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
    """Make the root logger log at level INFO in FORMAT while it has no handler.

    prepare does not add a handler to the root logger. If it did, the program could not configure
    logging itself: logging.basicConfig, for example, does nothing if there is a handler.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    root.setLevel(logging.INFO)
    logging.lastResort = _new_handler()  # logging uses lastResort if there is no other handler
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        if library.level == logging.NOTSET:
            library.setLevel(logging.WARNING)  # at level INFO they log requests and credentials


def add_handler() -> None:
    """Add a handler to the root logger if it has none."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(logging.lastResort or _new_handler())


def _new_handler() -> logging.StreamHandler:  # type: ignore[type-arg]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MicrosecondFormatter(FORMAT, TIME_FORMAT))
    return handler
