"""The formats of a Notary Project signature, by media type."""

from __future__ import annotations

from dmsign_fast.envelope.claims import EnvelopeFormat
from dmsign_fast.envelope.cose import Cose
from dmsign_fast.envelope.jws import Jws
from dmsign_fast.errors import ParameterError

__all__ = ["FORMATS", "envelope_for"]

_ALL: tuple[EnvelopeFormat, ...] = (Jws(), Cose())

FORMATS = {one.media_type: one for one in _ALL}


def envelope_for(media_type: str) -> EnvelopeFormat:
    """Return the format of a media type; ParameterError, which lists all formats, for another."""
    try:
        return FORMATS[media_type]
    except KeyError:
        raise ParameterError(
            f"no signature envelope has the media type {media_type!r}; use {' or '.join(FORMATS)}"
        ) from None
