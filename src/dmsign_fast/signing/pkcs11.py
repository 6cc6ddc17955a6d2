"""A signer whose private key is on a PKCS#11 token: a smart card, an HSM, SoftHSM.

The message is hashed here: it may be large, the link to the token slow, and nearly every token
signs a digest while few know each hash.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from asn1crypto.algos import DigestInfo
from asn1crypto.core import Null, OctetString
from asn1crypto.keys import NamedCurve
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from dmsign_fast.errors import FormatError, SigningError
from dmsign_fast.signing.certificates import (
    chain_of_key,
    has_key,
    issued,
    load_certificates,
    moment,
    name_of,
    parse_certificate,
)
from dmsign_fast.signing.pkcs11_token import TokenSession, open_token
from dmsign_fast.signing.pkcs11_uri import TokenUri, describe, parse_token_uri
from dmsign_fast.signing.providers import KeyOptions, extra
from dmsign_fast.signing.scheme import (
    KEYS,
    Family,
    KeySpec,
    Scheme,
    certificate_key_spec,
    from_fixed_width,
    key_spec_of,
)
from dmsign_fast.signing.signer import Signer

with extra("pkcs11"):
    import pkcs11
    from pkcs11.constants import Attribute, CertificateType, ObjectClass
    from pkcs11.mechanisms import MGF, KeyType, Mechanism

__all__ = ["TokenSigner", "open_signer"]

_CURVES = {  # by CKA_EC_PARAMS, an object identifier in DER
    NamedCurve(kind.curve.name).dump(): kind.curve for kind in KEYS.values() if kind.curve
}
_OVER_DIGEST = {
    Family.RSA_PKCS1: Mechanism.RSA_PKCS,
    Family.RSA_PSS: Mechanism.RSA_PKCS_PSS,
    Family.ECDSA: Mechanism.ECDSA,
}
_OVER_MESSAGE = {
    Family.RSA_PKCS1: "{}_RSA_PKCS",
    Family.RSA_PSS: "{}_RSA_PKCS_PSS",
    Family.ECDSA: "ECDSA_{}",
}
_NO_ATTRIBUTE = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeSensitive,
    pkcs11.FunctionFailed,  # so the library says that there is none, whatever the token answered
    ValueError,  # a kind of key that the library does not know
)


@dataclass(frozen=True, slots=True)
class TokenSigner:
    """A Signer over a key on a token; all of one token share its session."""

    key_spec: KeySpec
    certificate_chain: tuple[x509.Certificate, ...]
    _session: TokenSession = field(repr=False)
    _key: pkcs11.SignMixin = field(repr=False)
    _pin: Callable[[], str] | None = field(repr=False)  # for a key that asks each time

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over ``message``; see ``Signer.sign``."""
        scheme.check_key(self.key_spec)
        mechanism, data = self._mechanism(message, scheme)
        parameters = None
        if scheme.family is Family.RSA_PSS:
            digest = scheme.digest.upper()
            parameters = (Mechanism[digest], MGF[digest], scheme.hash_algorithm.digest_size)
        pin = self._pin() if self._pin else None
        with self._session.sign():
            signature: bytes = self._key.sign(
                data, mechanism=mechanism, mechanism_param=parameters, pin=pin
            )
        return from_fixed_width(signature, scheme)

    def _mechanism(self, message: bytes, scheme: Scheme) -> tuple[Mechanism, bytes]:
        """What the token is to do, and over what."""
        over_digest = scheme.named(_OVER_DIGEST, "PKCS#11")
        if over_digest in self._session.mechanisms:
            digest = hashlib.new(scheme.digest, message).digest()
            if over_digest is Mechanism.RSA_PKCS:
                algorithm = {"algorithm": scheme.digest, "parameters": Null()}
                digest = DigestInfo({"digest_algorithm": algorithm, "digest": digest}).dump()
            return over_digest, digest
        over_message = Mechanism[
            scheme.named(_OVER_MESSAGE, "PKCS#11").format(scheme.digest.upper())
        ]
        if over_message in self._session.mechanisms:
            return over_message, message
        raise SigningError(
            f"the {self._session.what} cannot make a {scheme} signature: it has neither "
            f"CKM_{over_digest.name} nor CKM_{over_message.name}; use a key of another kind"
        )


def open_signer(uri: str, options: KeyOptions) -> Signer:
    """Return the signer of a ``pkcs11:`` URI, as RFC 7512 has it.

    The certificates are those of the options, or the one on the token of the same key and its
    issuers there. Raises ParameterError for the URI, and SigningError when it does not name
    exactly one key, when the token refuses, and for a chain that must not sign.
    """
    wanted = parse_token_uri(uri)
    session, pin = open_token(wanted, options)
    key = _find_key(session, wanted)
    with session.use():
        if _attribute(key, Attribute.SIGN) is False:
            raise SigningError(f"the key {_name(key)} is not for signing: its CKA_SIGN is false")
        asks_each_time = _attribute(key, Attribute.ALWAYS_AUTHENTICATE)
    public_key: object = _public_key(session, key)
    try:
        certificates = (
            load_certificates(options.certificates)
            if options.certificates
            else _certificates(session, key, public_key)
        )
        if public_key is None:  # then the leaf is first, and each signature shows whether it is
            certificate_key_spec(certificates[0])
            public_key = certificates[0].public_key()
        chain = chain_of_key(public_key, certificates, moment(options.at))
    except SigningError as error:
        raise SigningError(f"{options.certificates or session.what}: {error}") from None
    return TokenSigner(
        key_spec_of(public_key),
        chain,
        session,
        cast("pkcs11.SignMixin", key),  # what a key that may sign is
        pin if asks_each_time else None,
    )


def _find_key(session: TokenSession, wanted: TokenUri) -> pkcs11.Object:
    template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    named = dict(template)
    for name, attribute in (("object", Attribute.LABEL), ("id", Attribute.ID)):
        if name in wanted.path:
            named[attribute] = wanted.path[name]
    found = session.objects(named)
    if len(found) == 1:
        return found[0]
    with session.use():
        listed = ", ".join(sorted(_name(one) for one in found or session.objects(template)))
    if found:
        raise SigningError(
            f"{len(found)} private keys of the {session.what} are as the URI says; "
            f"name one of {listed}"
        )
    raise SigningError(
        f"no private key of the {session.what} is as the URI says; it has {listed or 'none'}"
    )


def _public_key(
    session: TokenSession, key: pkcs11.Object
) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey | None:
    """The public half, from the private key or the public key object beside it, or None."""
    template: dict[Attribute, object] = {Attribute.CLASS: ObjectClass.PUBLIC_KEY}
    with session.use():
        kind = _attribute(key, Attribute.KEY_TYPE)
        if kind not in (KeyType.RSA, KeyType.EC):
            raise SigningError(
                f"no support for a key of the kind {getattr(kind, 'name', 'unknown')}; "
                f"use one of {', '.join(KeySpec)}"
            )
        for attribute in (Attribute.ID, Attribute.LABEL):
            if value := _attribute(key, attribute):
                beside = session.objects({**template, attribute: value})
                break
        else:
            beside = []
        for holder in (key, *beside):
            if kind is KeyType.RSA:
                modulus = _attribute(holder, Attribute.MODULUS)
                exponent = _attribute(holder, Attribute.PUBLIC_EXPONENT)
                if modulus and exponent:
                    return _rsa_key(modulus, exponent)
            else:
                parameters = _attribute(holder, Attribute.EC_PARAMS)
                point = _attribute(holder, Attribute.EC_POINT)
                if parameters and point:
                    return _ec_key(parameters, point)
    return None


def _rsa_key(modulus: bytes, exponent: bytes) -> rsa.RSAPublicKey:
    numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
    try:
        return numbers.public_key()
    except ValueError as error:
        raise SigningError(f"the token's public key is no RSA key: {error}") from None


def _ec_key(parameters: bytes, point: bytes) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(parameters)
    if curve is None:
        raise SigningError(
            f"no support for the curve of this key (CKA_EC_PARAMS {parameters.hex()}); "
            f"use one of {', '.join(KeySpec)}"
        )
    coordinate = (curve.key_size + 7) // 8
    try:
        # PKCS#11 has the point in an OCTET STRING; some modules leave that off.
        if len(point) not in (1 + coordinate, 1 + 2 * coordinate):
            point = OctetString.load(point, strict=True).native
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
    except (ValueError, TypeError) as error:
        raise SigningError(f"the token's public key is no point of its curve: {error}") from None


def _certificates(
    session: TokenSession, key: pkcs11.Object, public_key: object
) -> tuple[x509.Certificate, ...]:
    """The certificate on the token of this key, then those that issued it, as far as there."""
    everything: dict[x509.Certificate, bytes | None] = {}
    template: dict[Attribute, object] = {
        Attribute.CLASS: ObjectClass.CERTIFICATE,
        Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
    }
    with session.use():
        key_id = _attribute(key, Attribute.ID)
        for one in session.objects(template):
            with contextlib.suppress(FormatError):  # what cannot be read is of no use, and no harm
                certificate = parse_certificate(_attribute(one, Attribute.VALUE) or b"")
                everything[certificate] = _attribute(one, Attribute.ID)
    beside = [one for one, its_id in everything.items() if key_id and its_id == key_id]
    leaves = [one for one in everything if has_key(one, public_key)] if public_key else beside
    if len(leaves) > 1:
        names = ", ".join(f"{name_of(one)} (serial {one.serial_number:x})" for one in leaves)
        raise SigningError(f"it has {len(leaves)} certificates of this key, {names}; give --cert")
    if not leaves:
        others = ", ".join(name_of(one) for one in beside)
        wrong = f": {others} has the key's id and is of another key" if beside else ""
        raise SigningError(f"it has no certificate of the key {_name(key)}{wrong}; give --cert")
    chain = leaves
    while issuer := next(
        (one for one in everything if one not in chain and issued(one, chain[-1])), None
    ):
        chain.append(issuer)
    return tuple(chain)


def _attribute(holder: pkcs11.Object, attribute: Attribute) -> Any:
    """The value, or None where the token does not have or show it."""
    try:
        return holder[attribute]
    except _NO_ATTRIBUTE:
        return None


def _name(key: pkcs11.Object) -> str:
    label, key_id = (_attribute(key, one) or b"" for one in (Attribute.LABEL, Attribute.ID))
    return describe({"object": label, "id": key_id})
