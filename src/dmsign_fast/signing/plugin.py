"""A signer whose key a plugin of notation has: ``plugin:NAME?id=ID``.

A plugin makes raw signatures, over root hashes and manifests alike, or else whole envelopes, which
the Notary Project has for manifests only. A plugin of both kinds is used as the first, as notation
does. Its certificates come with its signature and not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import unquote

from cryptography import x509

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.certificates import (
    load_certificates,
    name_of,
    order_chain,
    parse_certificate,
)
from dmsign_fast.signing.plugin_contract import (
    CONTRACT_VERSION,
    DESCRIBE_KEY,
    ENVELOPE,
    GENERATE_ENVELOPE,
    GENERATE_SIGNATURE,
    RAW,
    SIGNING_SCHEME,
    algorithm_name,
    from_base64,
    hash_name,
    to_base64,
)
from dmsign_fast.signing.plugin_host import Plugin, find_plugin
from dmsign_fast.signing.providers import KeyOptions
from dmsign_fast.signing.scheme import (
    SCHEMES,
    Family,
    KeySpec,
    Scheme,
    certificate_key_spec,
    from_fixed_width,
    signature_matches,
)
from dmsign_fast.signing.signer import Signer
from dmsign_fast.strict_json import Members

__all__ = ["KeyOfPlugin", "PluginEnvelopeSigner", "PluginSigner", "open_signer"]


@dataclass(frozen=True, slots=True)
class KeyOfPlugin:
    """What a plugin must be told to find a key: its id and configuration."""

    plugin: Plugin
    id: str
    config: Mapping[str, str]

    def describe(self) -> KeySpec:
        """Return what the plugin says the kind and size of the key are."""
        said = self.ask(DESCRIBE_KEY, {}, "keyId", "keySpec")
        with self.plugin.answering():
            spec = said.text("keySpec")
            if spec not in list(KeySpec):
                raise said.wrong("keySpec", f"is {spec!r} and not one of {', '.join(KeySpec)}")
        return KeySpec(spec)

    def ask(
        self,
        command: str,
        request: Mapping[str, Any],
        *members: str,
        config: Mapping[str, str] | None = None,
    ) -> Members:
        """Return the ``members`` of the plugin's answer; among them the id must be the key's."""
        asked = {
            "contractVersion": CONTRACT_VERSION,
            "keyId": self.id,
            "pluginConfig": {**self.config, **(config or {})},
        }
        said = self.plugin.ask(command, {**asked, **request}, members)
        if "keyId" in members:
            with self.plugin.answering():
                if said.text("keyId") != self.id:
                    found = said.text("keyId")
                    raise said.wrong("keyId", f"is {found!r} where {self.id!r} was asked for")
        return said


class _Certificates:
    """The key of a plugin, and its certificates once they are known."""

    def __init__(self, key: KeyOfPlugin, chain: tuple[x509.Certificate, ...]) -> None:
        self._key, self._chain = key, chain

    @property
    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates that were given, or else came with the first signature."""
        return self._chain

    def take_certificates(self, chain: tuple[x509.Certificate, ...]) -> None:
        """Keep the certificates that came with a signature; the leaf may not change after."""
        if not self._chain:
            self._chain = chain
        if chain[0] != self._chain[0]:
            raise SigningError(
                f"{self._key.plugin} signed with the certificate {_shown(chain[0])} and not with "
                f"{_shown(self._chain[0])}, which it had before or was given for it"
            )


class PluginSigner(_Certificates):
    """A Signer over a plugin that makes raw signatures."""

    def __init__(
        self, key: KeyOfPlugin, key_spec: KeySpec, chain: tuple[x509.Certificate, ...]
    ) -> None:
        """Take a key that was described, and its certificates if they are known."""
        super().__init__(key, chain)
        self.key_spec = key_spec

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over ``message``; see ``Signer.sign``."""
        scheme.check_key(self.key_spec)
        pkcs1 = scheme.family is Family.RSA_PKCS1
        said = self._key.ask(
            GENERATE_SIGNATURE,
            {
                "keySpec": self.key_spec,
                "hashAlgorithm": hash_name(scheme),
                "payload": to_base64(message),
            },
            *("keyId", "signature", "signingAlgorithm", "certificateChain"),
            config={SIGNING_SCHEME: scheme.family} if pkcs1 else None,
        )
        with self._key.plugin.answering():
            answer = from_base64(said.text("signature"), "the signature")
            algorithm = said.text("signingAlgorithm")
            found = [
                parse_certificate(from_base64(one, "a certificate"))
                for one in said.texts("certificateChain")
            ]
            if not found:
                raise said.wrong("certificateChain", "is empty")
        self._check_key(found[0])
        signature = from_fixed_width(answer, scheme)
        if not signature_matches(found[0], message, signature, scheme):
            raise self._mismatch(found[0], message, answer, scheme)
        # PKCS#1 v1.5 has no name in the contract: what a plugin calls it says nothing
        if not pkcs1 and algorithm != algorithm_name(scheme):
            with self._key.plugin.answering():
                wanted = algorithm_name(scheme)
                raise said.wrong("signingAlgorithm", f"is {algorithm!r} and not {wanted}")
        self.take_certificates(self._ordered(found))
        return signature

    def _check_key(self, leaf: x509.Certificate) -> None:
        found = certificate_key_spec(leaf)
        if found is not self.key_spec:
            raise SigningError(
                f"{self._key.plugin} says that the key {self._key.id} is {self.key_spec}, and "
                f"shows the certificate {name_of(leaf)} of a key {found}"
            )

    def _ordered(self, found: list[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        try:
            return order_chain(found[0], found[1:])
        except SigningError as error:
            raise SigningError(f"{self._key.plugin}: {error}") from None

    def _mismatch(
        self, leaf: x509.Certificate, message: bytes, answer: bytes, scheme: Scheme
    ) -> SigningError:
        """Say what the answer is in place of the signature that was asked for."""
        what = f"{self._key.plugin} was asked for a {scheme} signature and answered with"
        if scheme.family is Family.ECDSA:
            if signature_matches(leaf, message, answer, scheme):
                return SigningError(f"{what} the DER of r and s; the contract has r and s alone")
            return SigningError(
                f"{what} {len(answer)} bytes, which are no such signature by the key of "
                f"{name_of(leaf)}"
            )
        for family in (Family.RSA_PSS, Family.RSA_PKCS1):
            for digest in dict.fromkeys(one.digest for one in SCHEMES):
                other = Scheme(family, digest, (self.key_spec,), None)
                if signature_matches(leaf, message, answer, other):
                    return SigningError(f"{what} a {other} signature; {_remedy(scheme, other)}")
        return SigningError(f"{what} something else, or another key than that of {name_of(leaf)}")


class PluginEnvelopeSigner(_Certificates):
    """An EnvelopeSigner over a plugin that makes whole envelopes only.

    ``annotations`` are what the plugin wants on the manifest of the last envelope.
    """

    def __init__(self, key: KeyOfPlugin, chain: tuple[x509.Certificate, ...]) -> None:
        """Take a key, and its certificates if they are known."""
        super().__init__(key, chain)
        self.annotations: Mapping[str, str] = {}

    @property
    def key_spec(self) -> KeySpec:
        """The contract has no question for it: SigningError."""
        self._refuse()

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Raise SigningError."""
        self._refuse()

    def sign_envelope(
        self, payload: bytes, payload_type: str, media_type: str, expires_in: int | None
    ) -> bytes:
        """Return an envelope over the payload, not believed yet; see ``EnvelopeSigner``."""
        said = self._key.ask(
            GENERATE_ENVELOPE,
            {
                "payload": to_base64(payload),
                "payloadType": payload_type,
                "signatureEnvelopeType": media_type,
                **({} if expires_in is None else {"expiryDurationInSeconds": expires_in}),
            },
            *("signatureEnvelope", "signatureEnvelopeType", "annotations"),
        )
        with self._key.plugin.answering():
            found = said.text("signatureEnvelopeType")
            if found != media_type:
                raise said.wrong("signatureEnvelopeType", f"is {found!r} and not {media_type}")
            self.annotations = said.annotations()
            return from_base64(said.text("signatureEnvelope"), "the envelope")

    def _refuse(self) -> NoReturn:
        raise SigningError(
            f"{self._key.plugin} makes envelopes of the Notary Project and no raw signatures, so "
            "it cannot sign root hashes: sign the manifest alone with --no-dm-verity, and the "
            "layers with another key"
        )


def open_signer(uri: str, options: KeyOptions) -> Signer:
    """Return the signer of ``plugin:NAME?id=ID``, percent-encoded if need be.

    The certificates are taken from the options, leaf first, or else from the plugin's signature.
    """
    name, _, query = uri.removeprefix("plugin:").partition("?")
    key_id = unquote(query.removeprefix("id="))
    if not query.startswith("id=") or not key_id:
        raise ParameterError(f"{uri} is not plugin:NAME?id=ID")
    if SIGNING_SCHEME in options.config:
        raise ParameterError(
            f"leave {SIGNING_SCHEME} out of the configuration of the plugin: it is set for root "
            "hashes of RSA keys, and only for them"
        )
    plugin = find_plugin(unquote(name), options.timeout)
    capabilities = plugin.metadata(options.config).capabilities
    key = KeyOfPlugin(plugin, key_id, options.config)
    if RAW in capabilities:
        key_spec = key.describe()
        chain = _given(options, key_spec)
        return PluginSigner(key, key_spec, chain)
    if ENVELOPE in capabilities:
        return PluginEnvelopeSigner(key, _given(options))
    raise SigningError(f"{plugin} does not sign: it has {', '.join(capabilities) or 'nothing'}")


def _given(options: KeyOptions, key_spec: KeySpec | None = None) -> tuple[x509.Certificate, ...]:
    """The certificates of the options, of which the first must be of such a key."""
    if options.certificates is None:
        return ()
    leaf, *others = load_certificates(options.certificates)
    found = certificate_key_spec(leaf)
    if key_spec not in (None, found):
        raise SigningError(
            f"{options.certificates}: the first certificate is of a key {found}, and the plugin "
            f"has one that is {key_spec}"
        )
    try:
        return order_chain(leaf, others)
    except SigningError as error:
        raise SigningError(f"{options.certificates}: {error}") from None


def _remedy(asked: Scheme, found: Scheme) -> str:
    if found.family is not asked.family is Family.RSA_PKCS1:
        return (
            f"it does not know {SIGNING_SCHEME}={asked.family}, which the kernel needs: install a "
            "version of the plugin that does, use an EC key, or sign the layers with another key "
            "and the manifest alone with --no-dm-verity"
        )
    if asked.family is Family.RSA_PKCS1:
        return f"it chooses the hash by itself: give --digest {found.digest}"
    return "the Notary Project has one algorithm for each size of key"


def _shown(certificate: x509.Certificate) -> str:
    return f"{name_of(certificate)} (serial {certificate.serial_number:x})"
