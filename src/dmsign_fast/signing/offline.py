"""Signatures that are made elsewhere, such as behind an air gap.

Whatever asks a Signer runs twice with the same input: with a Recorder, which stops it where a
signature is needed, and, when all are there, with Answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from dmsign_fast.errors import SigningError
from dmsign_fast.signing.scheme import (
    SCHEMES,
    Family,
    KeySpec,
    Scheme,
    certificate_key_spec,
    from_fixed_width,
    signature_matches,
)

__all__ = ["Answers", "NotSignedError", "Recorder", "check_answer"]


class NotSignedError(Exception):
    """There is no signature yet; whoever has a Recorder expects this."""


class Recorder:
    """A Signer that notes what is to be signed, each once, and raises NotSignedError."""

    def __init__(self, chain: Sequence[x509.Certificate]) -> None:
        """Take the certificates of the key, leaf first."""
        self.certificate_chain = tuple(chain)
        self.key_spec: KeySpec = certificate_key_spec(chain[0])
        self.asked: list[tuple[bytes, Scheme]] = []

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Note it; see ``Signer.sign``."""
        if (message, scheme) not in self.asked:
            self.asked.append((message, scheme))
        raise NotSignedError


class Answers:
    """A Signer that has the signatures already, each as ``check_answer`` returned it."""

    def __init__(
        self,
        chain: Sequence[x509.Certificate],
        signatures: Mapping[tuple[bytes, Scheme], bytes],
    ) -> None:
        """Take the certificates of the key, leaf first, and signatures by what they are of."""
        self.certificate_chain = tuple(chain)
        self.key_spec: KeySpec = certificate_key_spec(chain[0])
        self._signatures = dict(signatures)
        self._used: set[tuple[bytes, Scheme]] = set()

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the signature; SigningError if there is none of exactly this."""
        if (message, scheme) not in self._signatures:
            raise SigningError(
                f"no {scheme} signature was prepared for what is to be signed now, "
                f"{message[:70]!r}: the record was changed; prepare again"
            )
        self._used.add((message, scheme))
        return self._signatures[message, scheme]

    def check_used(self) -> None:
        """Raise SigningError unless every signature was asked for."""
        if len(self._used) < len(self._signatures):
            raise SigningError(
                f"attaching asks for {len(self._used)} of {len(self._signatures)} signatures: "
                "the record was changed; prepare again"
            )


def check_answer(
    certificate: x509.Certificate, message: bytes, answer: bytes, scheme: Scheme
) -> bytes:
    """Return a signature as ``Signer.sign`` does; an ECDSA answer may be DER or r‖s.

    Raises SigningError, with the likely reason, for an answer that is not by the certificate's key
    over the message in that scheme.
    """
    for signature in (answer, from_fixed_width(answer, scheme)):
        if signature and signature_matches(certificate, message, signature, scheme):
            return signature
    raise SigningError(_reason(certificate, message, answer, scheme))


def _reason(certificate: x509.Certificate, message: bytes, answer: bytes, scheme: Scheme) -> str:
    for other in SCHEMES:
        if signature_matches(certificate, message, answer, other):
            return f"it is a {other} signature, and should be {scheme}"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if len(answer) != key.key_size // 8:
            return f"it has {len(answer)} bytes, and a signature by this key {key.key_size // 8}"
        if scheme.family is Family.RSA_PSS:
            digest = scheme.hash_algorithm
            any_salt = padding.PSS(padding.MGF1(digest), padding.PSS.AUTO)
            try:
                key.verify(answer, message, any_salt, digest)
            except InvalidSignature:
                pass
            else:
                return f"its salt should be as long as the digest, {digest.digest_size} bytes"
    return f"it is not a {scheme} signature over these bytes by the key of the certificate"
