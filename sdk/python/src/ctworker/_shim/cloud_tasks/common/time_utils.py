"""Functions for times in UTC."""

from __future__ import annotations

import datetime


def utc_now() -> datetime.datetime:
    """Return the current time in UTC."""
    return datetime.datetime.now(datetime.timezone.utc)


def utc_now_iso() -> str:
    """Return the current time in UTC in ISO 8601 format."""
    return utc_now().isoformat()


def parse_utc(s: str | None) -> datetime.datetime | None:
    """Parse an ISO 8601 time, and return it in UTC. Return None if s is None or empty.

    A time without a time zone is interpreted as UTC. Raises ValueError if s is not a valid time.
    """
    text = (s or "").strip()
    if not text:
        return None
    if text[-1] in "Zz":
        text = text[:-1] + "+00:00"  # fromisoformat of Python 3.10 does not accept Z
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        return time.replace(tzinfo=datetime.timezone.utc)
    return time.astimezone(datetime.timezone.utc)
