"""Entries that strangers wrote are judged one by one: a bad entry is bad, and nothing more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dmsign_fast.errors import (
    DmsignError,
    NotFoundError,
    ProgramError,
    RegistryError,
    StorageError,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["MAX_SIGNATURES", "Judgement"]

# Of a manifest. A judgement takes a few milliseconds, beside what a registry takes to answer twice.
MAX_SIGNATURES = 10_000

_log = logging.getLogger(__name__)


class Judgement:
    """A block that judges one entry; what is raised in it is the entry's ``flaw``.

    ``flaw`` is None if nothing was raised. What says nothing about the entry leaves the block: that
    a store or program cannot tell, and an interruption. All else is the entry's flaw, also what is
    no DmsignError: parsers of DER, CBOR and JSON raise more than they document, and who wrote the
    entry chooses what.
    """

    flaw: str | None = None

    def __enter__(self) -> Judgement:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        """Keep the flaw."""
        if isinstance(error, NotFoundError):
            self.flaw = str(error)
        elif isinstance(error, StorageError | RegistryError | ProgramError):
            return False
        elif isinstance(error, DmsignError):
            self.flaw = str(error)
        # a panic of cryptography's Rust code is no Exception
        elif isinstance(error, Exception) or (kind and kind.__name__ == "PanicException"):
            _log.debug("an entry cannot be judged", exc_info=error)
            self.flaw = f"it cannot be judged: {type(error).__name__}: {error}"
        return self.flaw is not None
