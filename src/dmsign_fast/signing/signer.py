"""The Signer protocol, and the check that every provider's signature goes through."""

from __future__ import annotations

from typing import Protocol

from cryptography import x509

from dmsign_fast.errors import SigningError
from dmsign_fast.signing.scheme import KeySpec, Scheme, signature_matches

__all__ = ["Signer", "check_raw_signature"]


class Signer(Protocol):
    """A key that can sign, wherever it lives, and the certificates that vouch for it."""

    @property
    def key_spec(self) -> KeySpec:
        """The kind and size of the key."""

    @property
    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        """The leaf, whose key signs, then each one's issuer as far as known."""

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over the whole ``message``, which the provider hashes.

        RSA: as long as the modulus. ECDSA: the DER sequence of r and s, not r‖s. Raises
        SigningError when the key cannot be used or does not belong to the scheme. What comes back
        is not trusted: ``check_raw_signature`` is called before it is used.
        """


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
