"""Where Linux looks for an issuer: in the message, and in its keyrings.

``pkcs7_verify_sig_chain()`` in ``crypto/asymmetric_keys/pkcs7_verify.c``, and
``find_asymmetric_key()`` in ``asymmetric_type.c``. It goes by the serial number and name of the
issuer or by its key identifier, byte by byte, never by its name alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope import linux_certificates
from dmsign_fast.envelope.linux_asn1 import Asn1Error
from dmsign_fast.envelope.linux_certificates import LinuxCertificate
from dmsign_fast.envelope.linux_keys import RefusedError, UnknownError, verify
from dmsign_fast.envelope.linux_message import SIGN_ANEW
from dmsign_fast.signing.certificates import issuer_in, name_in

__all__ = ["Keyring", "climb"]

_MOST_NAMES = 3  # in a message

# trusted certificates are the same for every signature
_load = functools.lru_cache(512)(linux_certificates.parse)


class Keyring:
    """The certificates in the keyrings that Linux can load.

    ``trusts`` says which they are, and which it cannot load, for a part of a sentence.
    """

    def __init__(self, trusted: Sequence[x509.Certificate | bytes]) -> None:
        self._loaded: list[LinuxCertificate] = []
        unfit = []
        for one in dict.fromkeys(trusted):
            der = one if isinstance(one, bytes) else one.public_bytes(Encoding.DER)
            try:
                self._loaded.append(_load(der))
            except (RefusedError, UnknownError, Asn1Error):
                unfit.append(name_in(der))
        names = list(dict.fromkeys(one.name for one in self._loaded))
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        self.trusts = f"you trust {', '.join(names[:_MOST_NAMES]) or 'no certificate'}{more}"
        if unfit:
            self.trusts += f"; Linux cannot load the certificate {', '.join(unfit)}"
        elif not trusted:
            self.trusts += ": the keyring is empty, or .dm-verity not sealed"

    def find(
        self, identifier: bytes | None, key_identifier: bytes | None
    ) -> tuple[LinuxCertificate, ...]:
        """``find_asymmetric_key()``: the certificates with these identifiers, all of one key."""
        named = self._named(identifier, key_identifier)
        if len({(one.key, one.key_identifier) for one in named}) > 1:
            raise UnknownError(
                "several trusted certificates have one name and serial number, or one key "
                f"identifier, and different keys: {', '.join(one.name for one in named)}; which "
                "of them Linux takes is not known"
            )
        if identifier is None or key_identifier is None:
            return named
        return tuple(one for one in named if one.key_identifier == key_identifier)

    def _named(
        self, identifier: bytes | None, key_identifier: bytes | None
    ) -> tuple[LinuxCertificate, ...]:
        wanted = key_identifier if identifier is None else identifier
        return tuple(one for one in self._loaded if wanted in (one.identifier, one.key_identifier))

    def check_identifier(self, identifier: bytes | None, key_identifier: bytes | None) -> None:
        """Raise RefusedError for an identifier without bytes, for which Linux cannot look."""
        if not (key_identifier if identifier is None else identifier):
            reason = "an issuer or signer is named by no bytes"
            raise RefusedError("EINVAL", reason, SIGN_ANEW)

    def misses_the_key(self, identifier: bytes | None, key_identifier: bytes | None) -> bool:
        """Tell whether a certificate has the name and serial number, and another key."""
        named = self._named(identifier, key_identifier)
        return bool(named) and not self.find(identifier, key_identifier)

    def why_other(self, signer: LinuxCertificate, top: LinuxCertificate) -> str:
        """Say who signed, up to which certificate Linux climbed in vain, and what is trusted."""
        signed = f"signed by {signer.name}"
        if top.is_self_signed:
            under = f" under {top.name}, not trusted" if top is not signer else ", not trusted"
            named = self._named(top.identifier, None)
            other = ", another with its name and serial number" if named else ""
            return f"{signed}{under}; {self.trusts}{other}"
        if top.authority is None and top.authority_key is None:
            return (
                f"{signed}, not trusted; {self.trusts}; {top.name} names no issuer by key "
                "identifier, and Linux looks for its issuer in no other way"
            )
        return f"{signed}, issued by {issuer_in(top.encoding)}, neither trusted; {self.trusts}"


def climb(
    signer: LinuxCertificate, certificates: Sequence[LinuxCertificate]
) -> list[LinuxCertificate]:
    """``pkcs7_verify_sig_chain()``: the signer and its embedded issuers."""
    chain = [signer]
    while not chain[-1].is_self_signed:
        child = chain[-1]
        issuer = _find_authority(certificates, child)
        if issuer is None or issuer in chain:
            break
        if errno := verify(issuer.key, child.signature):
            raise RefusedError(
                errno,
                f"the embedded certificate {issuer.name} did not issue {child.name}, which names "
                "it, or its key is of no use to Linux",
                "embed the true issuers, or none: dmsign-fast verity sign --no-certs",
            )
        chain.append(issuer)
    return chain


def _find_authority(
    certificates: Sequence[LinuxCertificate], child: LinuxCertificate
) -> LinuxCertificate | None:
    """Return the certificate that the child names as its issuer; RefusedError if it names two."""
    for one in certificates:
        if child.authority is None:
            if child.authority_key is not None and one.key_identifier == child.authority_key:
                return one
        elif one.identifier == child.authority:
            if child.authority_key is not None and one.key_identifier != child.authority_key:
                raise RefusedError(
                    "EKEYREJECTED",
                    f"the certificate {child.name} names {one.name} as its issuer, but another "
                    "key identifier",
                    "enrol, or embed, the certificate that issued it",
                )
            return one
    return None
