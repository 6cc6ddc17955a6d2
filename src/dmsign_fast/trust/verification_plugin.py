"""Plugins that verify what they signed: trusted identities and revocation of their own kinds.

Requests and answers are those of notaryproject/specifications, ``specs/plugin-extensibility.md``,
"Verification", as notation writes them. A signature names its plugin; whether it is started is for
``trust.verdict`` to say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.claims import SCHEME_AUTHORITY
from dmsign_fast.envelope.cose import Cose
from dmsign_fast.envelope.headers import PluginDemand
from dmsign_fast.envelope.notary import Envelope
from dmsign_fast.errors import (
    FormatError,
    ParameterError,
    ProgramError,
    SigningError,
    VerificationError,
)
from dmsign_fast.signing.plugin_contract import (
    CONTRACT_VERSION,
    REVOCATION_CHECK,
    TRUSTED_IDENTITY,
    VERIFY_SIGNATURE,
    precedence,
    to_base64,
)
from dmsign_fast.signing.plugin_host import Plugin, find_plugin
from dmsign_fast.strict_json import Members

__all__ = ["PluginOptions", "PluginResult", "VerificationPlugin"]

# As notation sends it where there is no expiry: the zero time of its language.
_NO_EXPIRY = "0001-01-01T00:00:00Z"
# What a plugin that does not serve raises, or one that is not there.
_FAILED = (ProgramError, SigningError, ParameterError, FormatError)


@dataclass(frozen=True, slots=True)
class PluginOptions:
    """What a verification plugin is told, and how many seconds an answer takes."""

    config: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 60


@dataclass(frozen=True, slots=True)
class PluginResult:
    """What a plugin said of one capability; ``reason`` may be empty."""

    success: bool
    reason: str


class VerificationPlugin:
    """The installed plugin that a signature names."""

    def __init__(self, demand: PluginDemand, options: PluginOptions) -> None:
        """Find it and ask what it can: ``capabilities`` are those for verification.

        Raises VerificationError for one that is not installed, too old, or verifies nothing.
        """
        self._demand, self._config = demand, dict(options.config)
        try:
            self._plugin: Plugin = find_plugin(demand.name, options.timeout)
            said = self._plugin.metadata(self._config)
            old = demand.min_version is not None and (
                precedence(said.version) < precedence(demand.min_version)
            )
        except _FAILED as error:
            raise VerificationError(
                f"the signature must be verified by the plugin {demand.name}: {error}"
            ) from error
        if old:
            raise VerificationError(
                f"the signature must be verified by version {demand.min_version} or later of the "
                f"plugin {demand.name}, and {said.version} is installed: install a newer one"
            )
        possible = (TRUSTED_IDENTITY, REVOCATION_CHECK)
        self.capabilities = tuple(one for one in possible if one in said.capabilities)
        if not self.capabilities:
            raise VerificationError(
                f"the signature must be verified by {self._plugin}, which has neither "
                f"{' nor '.join(possible)}"
            )

    def verify(
        self, envelope: Envelope, identities: Sequence[str], wanted: Sequence[str]
    ) -> dict[str, PluginResult]:
        """Ask for the capabilities that are wanted and return the result of each.

        ``identities`` are those of the policy, of every kind. Raises VerificationError where the
        plugin fails, leaves a result out, or does not process a header that it must.
        """
        missing = sorted(self._demand.attributes)
        if not wanted:
            if missing:
                raise VerificationError(
                    f"{self._plugin} is asked for nothing, so nobody processes {', '.join(missing)}"
                )
            return {}
        request = self._request(envelope, identities, wanted)
        try:
            said = self._plugin.ask(
                VERIFY_SIGNATURE, request, ("verificationResults", "processedAttributes")
            )
            with self._plugin.answering():
                processed = said.array("processedAttributes")
                results = Members(said.value("verificationResults"), wanted, "verificationResults")
                found = {one: _result(results, one) for one in wanted}
        except _FAILED as error:
            raise VerificationError(f"{self._plugin} does not verify: {error}") from error
        missing = [name for name in missing if name not in processed]
        if missing:
            raise VerificationError(
                f"{self._plugin} did not process {', '.join(missing)}, which it must"
            )
        return found

    def _request(
        self, envelope: Envelope, identities: Sequence[str], wanted: Sequence[str]
    ) -> dict[str, Any]:
        attributes = dict(self._demand.attributes)
        if envelope.media_type == Cose().media_type:
            attributes = {name: _to_json(value, name) for name, value in attributes.items()}
        critical: dict[str, Any] = {
            "contentType": envelope.content_type,
            "signingScheme": envelope.signing_scheme,
            "expiry": _text(envelope.expiry) if envelope.expiry else _NO_EXPIRY,
        }
        if envelope.signing_scheme == SCHEME_AUTHORITY and envelope.signing_time:
            critical["authenticSigningTime"] = _text(envelope.signing_time)
        if attributes:
            critical["extendedAttributes"] = attributes
        return {
            "contractVersion": CONTRACT_VERSION,
            "signature": {
                "criticalAttributes": critical,
                "unprocessedAttributes": sorted(attributes),
                "certificateChain": [
                    to_base64(one.public_bytes(Encoding.DER)) for one in envelope.certificate_chain
                ],
            },
            "trustPolicy": {
                "trustedIdentities": list(identities),
                "signatureVerification": list(wanted),
            },
            **({"pluginConfig": self._config} if self._config else {}),
        }


def _result(results: Members, capability: str) -> PluginResult:
    what = f"the result of {capability}"
    result = Members(results.value(capability), ("success", "reason"), what)
    return PluginResult(result.flag("success"), result.optional_text("reason") or "")


def _to_json(value: Any, name: str) -> Any:
    """Return the value of a header of COSE as JSON; VerificationError for what has no such form.

    That is also a map, whose keys notation takes for anything.
    """
    if isinstance(value, bytes):
        return to_base64(value)
    if isinstance(value, list):
        return [_to_json(one, name) for one in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise VerificationError(f"the header {name} has a value that no plugin can be told")


def _text(time: datetime) -> str:
    """Return a time in the form of RFC 3339, as Go writes it."""
    return time.isoformat().replace("+00:00", "Z")
