"""The Signer protocol, and the check that every provider's signature goes through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from cryptography import x509

from dmsign_fast.arguments import Kind
from dmsign_fast.errors import SigningError
from dmsign_fast.signing.scheme import KeySpec, Scheme, signature_matches

__all__ = ["SIGNER", "EnvelopeSigner", "Signer", "check_raw_signature"]


class Signer(Protocol):
    """A key that can sign, wherever it lives, and the certificates that vouch for it."""

    @property
    def key_spec(self) -> KeySpec:
        """The kind and size of the key."""

    @property
    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        """The leaf, whose key signs, then the issuer of each certificate as far as known.

        Empty before the first signature where they come with it.
        """

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over the whole ``message``, which the provider hashes.

        RSA: as long as the modulus. ECDSA: the DER sequence of r and s, not r‖s. Raises
        SigningError when the key cannot be used or does not belong to the scheme. What comes back
        is not trusted: ``check_raw_signature`` is called before it is used.
        """


SIGNER = Kind(
    "a Signer, as open_signer returns it",
    lambda value: not isinstance(value, type) and hasattr(value, "sign"),
)


@runtime_checkable
class EnvelopeSigner(Protocol):
    """A Signer that makes whole envelopes and nothing else: its other methods raise SigningError.

    ``annotations`` are for the manifest that will hold the last envelope.
    """

    annotations: Mapping[str, str]

    def sign_envelope(
        self, payload: bytes, payload_type: str, media_type: str, expires_in: int | None
    ) -> bytes:
        """Return an envelope of that media type over the payload, to expire after these seconds.

        What comes back is not trusted: ``sign_manifest`` checks all of it.
        """

    def take_certificates(self, chain: tuple[x509.Certificate, ...]) -> None:
        """Be told the chain of an envelope; SigningError if its leaf is another than before."""


def check_raw_signature(
    certificate: x509.Certificate, message: bytes, signature: bytes, scheme: Scheme
) -> None:
    """Raise SigningError unless the certificate's key made ``signature`` as exactly ``scheme``.

    A provider can answer with another key, RSA-PSS in place of PKCS#1 v1.5, or r‖s.
    """
    if not signature_matches(certificate, message, signature, scheme):
        raise SigningError(
            f"the signer's answer is not a {scheme} signature by the key of its certificate; "
            "check that the key, the certificate and the signing scheme belong together"
        )
