"""Trouble that passes, and how long to wait for that."""

from __future__ import annotations

import email.utils
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from dmsign_fast.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TRANSIENT", "Patience", "TransientError", "retry_after"]

# 500 is also what docker-registry says of a tag while another client writes it
TRANSIENT = (408, 429, 500, 502, 503, 504)
_LONGEST_PAUSE = 10.0
_T = TypeVar("_T")


class TransientError(RegistryError):
    """A registry is overloaded, or a connection broke: it may work the next time."""

    def __init__(self, message: str, after: float | None = None) -> None:
        """Take the seconds, if any, for which the registry asked to be left alone."""
        super().__init__(message)
        self.after = after


class Patience:
    """Tries and seconds that are left for one operation."""

    def __init__(self, tries: int, seconds: float, pause: float) -> None:
        """Allow ``tries`` in all, with pauses that double, and last ``seconds`` in all at most."""
        self._tries = tries
        self._left = seconds
        self._pause = pause

    def wait(self, error: TransientError) -> None:
        """Sleep before the next try; raise ``error`` if there is none."""
        self._tries -= 1
        pause = self._pause * random.uniform(0.5, 1)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        pause = max(pause, error.after or 0)
        if self._tries < 1 or pause > self._left:
            raise error
        self._left -= pause
        time.sleep(pause)

    def keep_trying(self, function: Callable[[], _T]) -> _T:
        """Call a function until it raises no TransientError."""
        while True:
            try:
                return function()
            except TransientError as error:
                self.wait(error)


def retry_after(value: str | None) -> float | None:
    """The seconds of a Retry-After header, which may be a number or a date."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):  # no date, or one at the end of time
        return None
