"""The rules for the protected headers of a Notary Project signature (signature specification).

A signature of the scheme ``notary.x509.signingAuthority`` has an authentic signing time, which its
signer vouches for, in place of a signing time. One that names a verification plugin may have
headers of any name, which that plugin must process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dmsign_fast.envelope.claims import (
    AUTHENTIC_SIGNING_TIME,
    CONTENT_TYPE,
    CRITICAL,
    EXPIRY,
    PAYLOAD_TYPE,
    SCHEME_AUTHORITY,
    SCHEME_X509,
    SIGNING_SCHEME,
    SIGNING_TIME,
    VERIFICATION_PLUGIN,
    VERIFICATION_PLUGIN_MIN_VERSION,
)
from dmsign_fast.errors import FormatError
from dmsign_fast.signing.plugin_contract import precedence

if TYPE_CHECKING:
    from dmsign_fast.envelope.notary import Envelope

__all__ = ["KNOWN", "PluginDemand", "header_problem", "plugin_demand"]

_RESERVED = "io.cncf.notary"
_PLUGIN = (VERIFICATION_PLUGIN, VERIFICATION_PLUGIN_MIN_VERSION)
KNOWN = {CRITICAL, CONTENT_TYPE, SIGNING_SCHEME, SIGNING_TIME, AUTHENTIC_SIGNING_TIME, EXPIRY}
# What must be critical where it is there, besides the scheme.
_CRITICAL = (EXPIRY, AUTHENTIC_SIGNING_TIME, *_PLUGIN)
_TIME_OF = {SCHEME_X509: SIGNING_TIME, SCHEME_AUTHORITY: AUTHENTIC_SIGNING_TIME}


@dataclass(frozen=True, slots=True)
class PluginDemand:
    """The plugin that must verify a signature, and the headers that it must process."""

    name: str
    min_version: str | None
    attributes: Mapping[str, Any]


def plugin_demand(envelope: Envelope) -> PluginDemand | None:
    """Return the plugin that an envelope names, which has passed ``header_problem``, or None."""
    name = envelope.extended.get(VERIFICATION_PLUGIN)
    if name is None:
        return None
    return PluginDemand(
        name,
        envelope.extended.get(VERIFICATION_PLUGIN_MIN_VERSION),
        {key: value for key, value in envelope.extended.items() if key not in _PLUGIN},
    )


def header_problem(envelope: Envelope) -> str | None:
    """Say which rule for the protected headers is broken, or None."""
    if envelope.content_type != PAYLOAD_TYPE:
        return f"the content type {envelope.content_type!r} is not {PAYLOAD_TYPE}"
    if envelope.signing_scheme not in _TIME_OF:
        possible = " and ".join(_TIME_OF)
        return f"no support for the signing scheme {envelope.signing_scheme!r}; only {possible}"
    wanted = _TIME_OF[envelope.signing_scheme]
    if wanted not in envelope.headers:
        return f"the {'authentic ' * (wanted != SIGNING_TIME)}signing time is missing"
    for other in {*_TIME_OF.values()} - {wanted}:
        if other in envelope.headers:
            return f"the header {other} does not belong to {envelope.signing_scheme}"
    if (
        envelope.expiry is not None
        and envelope.signing_time is not None
        and envelope.expiry <= envelope.signing_time
    ):
        return "the signature expires before it was made"
    return _critical_problem(envelope) or _extended_problem(envelope)


def _critical_problem(envelope: Envelope) -> str | None:
    needed = {SIGNING_SCHEME, *(name for name in _CRITICAL if name in envelope.headers)}
    critical = set(envelope.critical)
    if len(critical) != len(envelope.critical):
        return "a critical header is listed more than once"
    if missing := needed - critical:
        return f"headers are not marked critical and must be: {', '.join(sorted(missing))}"
    # what a plugin processes
    plugin = VERIFICATION_PLUGIN in envelope.extended
    processed = {name for name in envelope.extended if plugin}
    if unknown := critical - needed - processed:
        return f"critical headers are unknown or absent: {', '.join(sorted(unknown))}"
    return None


def _extended_problem(envelope: Envelope) -> str | None:
    reserved = [
        name for name in envelope.extended if name.startswith(_RESERVED) and name not in _PLUGIN
    ]
    if reserved:
        return f"headers of the Notary Project are unknown: {', '.join(sorted(reserved))}"
    name, version = (envelope.extended.get(one) for one in _PLUGIN)
    if name is None and version is not None:
        return f"the header {VERIFICATION_PLUGIN_MIN_VERSION} is of no plugin"
    if name is not None and (type(name) is not str or not name.strip()):
        return f"the header {VERIFICATION_PLUGIN} is not the name of a plugin"
    if version is not None and not _is_version(version):
        return f"the header {VERIFICATION_PLUGIN_MIN_VERSION} is not a semantic version"
    return None


def _is_version(value: Any) -> bool:
    try:
        return type(value) is str and bool(precedence(value))
    except FormatError:
        return False
