"""What Linux would say to the signature of a root hash, found by checking what it checks.

In its order: ``pkcs7_parse_message()`` (form, algorithms, embedded certificates),
``pkcs7_verify()`` (digest, signer, signature, embedded chain) and ``pkcs7_validate_trust()`` (the
keyring), all in ``crypto/asymmetric_keys/``. Linux 7.2 says the same to every case of
``tests/kernel``.

Nothing is accepted on the strength of this: ``envelope.pkcs7`` verifies, and is stricter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509

from dmsign_fast.envelope.linux_keys import (
    RawSignature,
    RefusedError,
    authority_of,
    check_certificate,
    id_of,
    is_self_signed,
    key_identifier_of,
    signature_of,
    verify,
)
from dmsign_fast.envelope.signed_data import SignedData, SignedDataError, parse_signed_data
from dmsign_fast.errors import FormatError, ParameterError, VerificationError
from dmsign_fast.signing.certificates import name_of

__all__ = ["LinuxOutcome", "LinuxVerdict", "linux_verdict", "message_slips", "root_hash_message"]

# The longest digest that dm-verity takes is SHA-512's.
_MAX_ROOT_HASH = 64

# sinfo->sig->hash_algo in pkcs7_sig_note_digest_algo(), by asn1crypto's names
_DIGESTS = ("sha1", "sha224", "sha256", "sha384", "sha512")

_SIGN_ANEW = (
    "sign anew: dmsign-fast verity sign, or openssl smime -sign -binary -noattr -outform DER"
)
_ENROL = "add the certificate of the signer, or of an issuer, to .dm-verity before that is sealed"


class LinuxOutcome(StrEnum):
    """What becomes of the signature."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LinuxVerdict:
    """What Linux would say.

    Attributes:
        outcome: unknown where the trusted certificates would decide and are not given, or where
            the form is one that is not judged.
        errno: the name of the error of a refused signature, such as ``ENOKEY``; else empty.
        reason: why.
        advice: what to do; empty if there is nothing to do.
        signer: the name of the signer's certificate, empty if that is not known.
    """

    outcome: LinuxOutcome
    errno: str
    reason: str
    advice: str = ""
    signer: str = ""


def root_hash_message(root_hash: bytes) -> bytes:
    """Return the bytes to sign for a root hash, which is given raw: its lower-case hex text."""
    if not 0 < len(root_hash) <= _MAX_ROOT_HASH:
        raise ParameterError(f"a root hash has 1 to {_MAX_ROOT_HASH} bytes, not {len(root_hash)}")
    # A digest whose every byte is an ASCII hex digit does not happen; a caller's slip does.
    if len(root_hash) > 8 and not root_hash.strip(b"0123456789abcdefABCDEF"):
        raise ParameterError("the root hash is hex text already; give the raw bytes")
    return root_hash.hex().encode()


def message_slips(message: bytes) -> dict[str, bytes]:
    """Return what others sign in place of ``root_hash_message``, by what it is."""
    return {
        "the root hash and a newline": message + b"\n",
        "the root hash in upper case": message.upper(),
        "the raw bytes of the root hash": bytes.fromhex(message.decode()),
    }


def linux_verdict(
    signature: bytes | None,
    root_hash: bytes,
    trusted: Sequence[x509.Certificate] | None,
) -> LinuxVerdict:
    """Foretell what Linux says when a device with this root hash is opened.

    Args:
        signature: the contents of the signature file; None is none at all.
        root_hash: raw.
        trusted: the certificates in the keyrings that Linux asks, ``.dm-verity`` only if it is
            sealed; None if they are not known.

    Raises:
        ParameterError: the root hash is no such thing.
    """
    message = root_hash_message(root_hash)
    if not signature:
        return LinuxVerdict(
            LinuxOutcome.REFUSED,
            "ENOKEY",
            "there is no signature, and dm_verity.require_signatures asks for one",
            "give the signature: veritysetup open ... --root-hash-signature FILE",
        )
    try:
        parsed = parse_signed_data(signature)
    except SignedDataError as error:
        if not error.errno:
            return _unknown(f"Linux may take this form, dmsign-fast does not: {error}")
        return LinuxVerdict(LinuxOutcome.REFUSED, error.errno, str(error), _SIGN_ANEW)
    except FormatError as error:
        return LinuxVerdict(LinuxOutcome.REFUSED, "EBADMSG", str(error), _SIGN_ANEW)
    except VerificationError as error:
        return LinuxVerdict(LinuxOutcome.REFUSED, "EKEYREJECTED", str(error), _SIGN_ANEW)
    if parsed.digest.startswith("sha3_"):
        return _unknown("whether Linux has SHA-3 depends on its modules; dmsign-fast takes SHA-2")
    signer = _Message(parsed, message)
    try:
        signer.check()
        if trusted is None:
            return _unknown(
                "the signature has the form that Linux takes; whether it is trusted depends on "
                "the certificates in the kernel",
                signer.name,
            )
        signer.check_trust(trusted)
    except RefusedError as refusal:
        return LinuxVerdict(
            LinuxOutcome.REFUSED, refusal.errno, refusal.reason, refusal.advice, signer.name
        )
    reason = "the signature is of this root hash, by a trusted key"
    return LinuxVerdict(LinuxOutcome.ACCEPTED, "", reason, "", signer.name)


def _unknown(reason: str, signer: str = "") -> LinuxVerdict:
    advice = "give the certificates of the keyrings with --cert" if signer else _SIGN_ANEW
    return LinuxVerdict(LinuxOutcome.UNKNOWN, "", reason, advice, signer)


class _Message:
    """A parsed signature and what it is to be over."""

    def __init__(self, parsed: SignedData, message: bytes) -> None:
        self._parsed, self._message = parsed, message
        self._chain: list[x509.Certificate] = []

    @property
    def name(self) -> str:
        """The name of the signer, or all that the message says of it."""
        signer = next(filter(self._parsed.names, self._parsed.certificates), None)
        return name_of(signer) if signer else f"serial {self._parsed.serial:x}"

    def check(self) -> None:
        """What Linux checks before it looks at its keyrings; RefusedError if it would refuse."""
        self._check_algorithms()
        for certificate in self._parsed.certificates:
            check_certificate(certificate)
        self._check_attributes()
        signer = next(filter(self._parsed.names, self._parsed.certificates), None)
        if signer is None:
            return
        self._check_signing_time(signer)
        self._verify(signer)
        self._chain = list(self._climb(signer))

    def check_trust(self, trusted: Sequence[x509.Certificate]) -> None:
        """``pkcs7_validate_trust_one()``: RefusedError unless the chain meets a trusted key."""
        keyring = [one for one in trusted if _is_loadable(one)]
        below: RawSignature | None = None
        for certificate in self._chain:
            known = next((one for one in keyring if id_of(one) == id_of(certificate)), None)
            identifier = key_identifier_of(certificate)
            if known and identifier in (None, key_identifier_of(known)):
                return self._match(known, below)
            if is_self_signed(certificate):
                raise RefusedError(
                    "ENOKEY",
                    f"the certificate {name_of(certificate)} is self-signed and not trusted"
                    + (", another with its name and serial number is" if known else ""),
                    _ENROL,
                )
            below = signature_of(certificate)
        if self._chain:
            issuer = _find_authority(keyring, self._chain[-1])
            if issuer is not None:
                return self._match(issuer, below)
        known = next(filter(self._parsed.names, keyring), None)
        if known is not None:
            return self._match(known, None)
        raise RefusedError("ENOKEY", self._why_unknown(trusted), _ENROL)

    def _check_algorithms(self) -> None:
        digest, algorithm = self._parsed.digest, self._parsed.signature_algorithm
        if digest not in _DIGESTS:
            raise RefusedError("ENOPKG", f"Linux has no digest {digest} for signatures", _SIGN_ANEW)
        if algorithm == "rsassa_pkcs1v15" or algorithm.endswith("_ecdsa"):
            return
        raise RefusedError("ENOPKG", f"Linux has no signature algorithm {algorithm}", _SIGN_ANEW)

    def _check_attributes(self) -> None:
        attributes = self._parsed.attributes
        if attributes is None:
            return
        made = hashlib.new(self._parsed.digest, self._message).digest()
        if len(attributes.message_digest) != len(made):
            raise RefusedError(
                "EBADMSG", "the digest in the attributes has a wrong size", _SIGN_ANEW
            )
        if attributes.message_digest != made:
            raise RefusedError("EKEYREJECTED", *self._why_other(None))

    def _check_signing_time(self, signer: x509.Certificate) -> None:
        attributes = self._parsed.attributes
        if attributes is None or attributes.signing_time is None:
            return
        time = attributes.signing_time
        if not signer.not_valid_before_utc <= time <= signer.not_valid_after_utc:
            reason = "the signing time is not in the validity of the signer's certificate"
            raise RefusedError("EKEYREJECTED", reason, _SIGN_ANEW)

    def _climb(self, signer: x509.Certificate) -> Iterator[x509.Certificate]:
        """``pkcs7_verify_sig_chain()``: the signer and its embedded issuers."""
        seen = [signer]
        yield signer
        while not is_self_signed(seen[-1]):
            issuer = _find_authority(self._parsed.certificates, seen[-1])
            if issuer is None or issuer in seen:
                return
            child = signature_of(seen[-1])
            if errno := verify(issuer, child):
                raise RefusedError(
                    errno,
                    f"the embedded certificate {name_of(issuer)} did not issue "
                    f"{name_of(seen[-1])}, which names it",
                    "embed the true issuers, or none: dmsign-fast verity sign --no-certs",
                )
            seen.append(issuer)
            yield issuer

    def _raw(self, message: bytes) -> RawSignature:
        attributes = self._parsed.attributes
        family = "ecdsa" if self._parsed.signature_algorithm.endswith("_ecdsa") else "rsa"
        return RawSignature(
            attributes.encoding if attributes else message,
            self._parsed.signature,
            self._parsed.digest,
            family,
        )

    def _verify(self, signer: x509.Certificate) -> None:
        if errno := verify(signer, self._raw(self._message)):
            raise RefusedError(errno, *self._why_other(signer))

    def _match(self, known: x509.Certificate, below: RawSignature | None) -> None:
        """Verify with a trusted key what it is to have signed: a certificate, or the message."""
        if below is None:
            if verify(known, self._raw(self._message)):
                # in pkcs7_validate_trust_one() every error becomes this one
                raise RefusedError("EKEYREJECTED", *self._why_other(known))
        elif verify(known, below):
            raise RefusedError(
                "EKEYREJECTED",
                f"the trusted certificate {name_of(known)} is named as the issuer and has another "
                "key",
                "enrol the certificate that issued the signer's",
            )

    def _why_other(self, signer: x509.Certificate | None) -> tuple[str, str]:
        """Say what else the signature is over, if that can be found, and what to do."""
        attributes = self._parsed.attributes
        for slip, wrong in message_slips(self._message).items():
            if attributes:
                found = hashlib.new(self._parsed.digest, wrong).digest()
                over = found == attributes.message_digest
            else:
                over = signer is not None and not verify(signer, self._raw(wrong))
            if over:
                return (
                    f"the signature is over {slip}; Linux wants lower-case hex text alone",
                    "sign the output of: printf %s ROOT_HASH",
                )
        by = f", or not by the key of {name_of(signer)}" if signer else ""
        return (
            f"the signature is not over this root hash{by}",
            "compare the root hash with the one that was signed, and sign that of this image",
        )

    def _why_unknown(self, trusted: Sequence[x509.Certificate]) -> str:
        unfit = [name_of(one) for one in trusted if not _is_loadable(one)]
        more = f"; Linux cannot load the certificate {', '.join(unfit)}" if unfit else ""
        if not trusted:
            more = "; no certificate is trusted: the keyring is empty, or .dm-verity not sealed"
        if not self._chain:
            return (
                "the signature does not hold the signer's certificate, serial "
                f"{self._parsed.serial:x}, and that is not trusted{more}"
            )
        top = self._chain[-1]
        if authority_of(top) == (None, None):
            return (
                f"the certificate {name_of(top)} is not trusted, and names no issuer by key "
                f"identifier, which is the only way Linux looks for one{more}"
            )
        return f"neither {name_of(top)} nor its issuer is trusted{more}"


def _is_loadable(certificate: x509.Certificate) -> bool:
    try:
        check_certificate(certificate)
    except RefusedError:
        return False
    return True


def _find_authority(
    certificates: Sequence[x509.Certificate], child: x509.Certificate
) -> x509.Certificate | None:
    """Return the one that the child names as its issuer; RefusedError if it names two."""
    by_name, by_key = authority_of(child)
    for one in certificates:
        if by_name is None:
            if by_key is not None and key_identifier_of(one) == by_key:
                return one
        elif id_of(one) == by_name:
            if by_key is not None and key_identifier_of(one) != by_key:
                raise RefusedError(
                    "EKEYREJECTED",
                    f"the certificate {name_of(child)} names {name_of(one)} as its issuer, but "
                    "another key identifier",
                    "enrol, or embed, the certificate that issued it",
                )
            return one
    return None
