"""What Linux would say to the signature of a root hash or policy, by checking what it checks.

In its order: ``pkcs7_parse_message()`` (``linux_message``), ``pkcs7_verify()`` (digest, signer,
signature, embedded chain) and ``pkcs7_validate_trust()`` (the keyring), all in
``crypto/asymmetric_keys/`` of Linux 7.2. It says the same to every case of ``tests/kernel``.

This is the only place that decides it: for signing, verifying and doctor. ``envelope.pkcs7`` adds
rules of our own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope import linux_certificates, linux_message
from dmsign_fast.envelope.linux_asn1 import Asn1Error
from dmsign_fast.envelope.linux_certificates import LinuxCertificate
from dmsign_fast.envelope.linux_keys import RawSignature, RefusedError, UnknownError, verify
from dmsign_fast.envelope.linux_message import SIGN_ANEW, LinuxMessage, LinuxSigner
from dmsign_fast.envelope.linux_ml_dsa import ML_DSA_PARAMETERS
from dmsign_fast.envelope.linux_trust import Keyring, climb
from dmsign_fast.envelope.signed_data import MAX_SIZE, parse_signed_data
from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.signing.certificates import name_of

__all__ = [
    "LinuxOutcome",
    "LinuxVerdict",
    "certificate_problem",
    "linux_content_verdict",
    "linux_verdict",
    "message_slips",
    "root_hash_message",
]

# The longest digest that dm-verity takes is SHA-512's.
_MAX_ROOT_HASH = 64

_WITH_ML_DSA = "Linux 7.0 or newer, built with CONFIG_CRYPTO_MLDSA"
# 6.12 refuses such a message whole; 7.0 passes over a signer whose certificate it does not have
_BESIDE_ML_DSA = "Linux 7.0 or newer, for the signature of another signer with ML-DSA beside it"

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
        outcome: unknown if the trusted certificates decide and are not given, or if the
            configuration of the kernel decides.
        errno: the name of the error of a refused signature, such as ``ENOKEY``; else empty.
        reason: why.
        advice: what to do; empty if there is nothing to do.
        signer: the name of the signer's certificate, empty if that is not known.
        path: of an accepted signature, the certificates from the signer's up to below a trusted
            one, in DER; empty if the signer's is itself trusted.
        anchors: the trusted certificates that it leads to, in DER: of one key, and any may serve.
        needs: what Linux must be, beyond what every kernel with signatures is; empty if nothing.
    """

    outcome: LinuxOutcome
    errno: str
    reason: str
    advice: str = ""
    signer: str = ""
    path: tuple[bytes, ...] = ()
    anchors: tuple[bytes, ...] = ()
    needs: str = ""

    @property
    def json(self) -> dict[str, str]:
        """What reports show of it."""
        return {
            "outcome": self.outcome,
            "errno": self.errno,
            "reason": self.reason,
            "advice": self.advice,
            "signer": self.signer,
            "needs": self.needs,
        }


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
    trusted: Sequence[x509.Certificate | bytes] | None,
) -> LinuxVerdict:
    """Foretell what Linux says when a device with this root hash is opened.

    Args:
        signature: the contents of the signature file; None is none at all.
        root_hash: raw.
        trusted: the certificates in the keyrings that Linux asks, or their DER, ``.dm-verity`` only
            if it is sealed; None if they are not known.

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
    if len(signature) > MAX_SIZE:
        reason = f"the signature has {len(signature)} bytes; the kernel takes at most {MAX_SIZE}"
        return LinuxVerdict(LinuxOutcome.REFUSED, "EINVAL", reason, SIGN_ANEW)
    judge = _Judge(message, "root hash", message_slips(message))
    return _verdict(judge, signature, trusted, detached=True)


def linux_content_verdict(
    data: bytes, content: bytes, trusted: Sequence[x509.Certificate | bytes] | None
) -> LinuxVerdict:
    """Foretell what Linux says to a message that holds what is signed, such as a policy of IPE.

    ``verify_pkcs7_signature()`` in ``certs/system_keyring.c``. ``trusted`` is as for
    ``linux_verdict``, without ``.dm-verity``.
    """
    return _verdict(_Judge(content, "content", {}), data, trusted, detached=False)


def _verdict(
    judge: _Judge,
    signature: bytes,
    trusted: Sequence[x509.Certificate | bytes] | None,
    *,
    detached: bool,
) -> LinuxVerdict:
    try:
        message = linux_message.parse(signature)
        if detached and message.content is not None:
            reason = "the signature holds its content; make it detached, without -nodetach"
            raise RefusedError("EBADMSG", reason, SIGN_ANEW)
        if not detached and message.content is None:
            reason = "the message does not hold what is signed; sign with -nodetach"
            raise RefusedError("EKEYREJECTED", reason, SIGN_ANEW)
        if message.is_authenticode:
            raise RefusedError("EKEYREJECTED", "the signed content is Authenticode's", SIGN_ANEW)
        judge.check(message)
        if trusted is None:
            return judge.unknown(
                "the signature has the form that Linux takes; whether it is trusted depends on "
                "the certificates in the kernel",
                "give the certificates of the keyrings with --trust",
            )
        judge.check_trust(trusted)
    except RefusedError as refusal:
        return judge.refused(refusal)
    except Asn1Error as error:
        return judge.refused(RefusedError("EBADMSG", _why_malformed(signature, error), SIGN_ANEW))
    except UnknownError as error:
        return judge.unknown(str(error), SIGN_ANEW)
    return judge.accepted()


def certificate_problem(certificate: x509.Certificate) -> str | None:
    """Say why Linux refuses a message or a keyring with this certificate, and what to do, or None.

    Also where that depends on what is not known, such as the configuration of Linux.
    """
    try:
        parsed = linux_certificates.parse(certificate.public_bytes(Encoding.DER))
        linux_certificates.check_key(parsed)
    except RefusedError as refusal:
        return f"{refusal.reason} (Linux: {refusal.errno}); {refusal.advice}"
    except UnknownError as error:
        return str(error)
    except Asn1Error as error:
        return f"Linux cannot read the certificate {name_of(certificate)}: {error}"
    return None


def _why_malformed(signature: bytes, error: Asn1Error) -> str:
    """Say it in the words of the stricter parser, which knows what people mistake for it."""
    try:
        parse_signed_data(signature)
    except FormatError as stricter:
        return str(stricter)
    return f"the signature is not the PKCS#7 that Linux reads: {error}"


class _Judge:
    """What is known of a message while it is judged."""

    def __init__(self, content: bytes, what: str, slips: Mapping[str, bytes]) -> None:
        self._content = content
        self._what = what
        self._slips = slips
        self._signers: tuple[LinuxSigner, ...] = ()
        self._embedded: tuple[LinuxCertificate, ...] = ()
        self._chains: dict[int, list[LinuxCertificate]] = {}
        self._path: tuple[LinuxCertificate, ...] = ()
        self._anchors: tuple[LinuxCertificate, ...] = ()
        self._name = ""

    def refused(self, refusal: RefusedError) -> LinuxVerdict:
        return LinuxVerdict(
            LinuxOutcome.REFUSED, refusal.errno, refusal.reason, refusal.advice, self._name
        )

    def unknown(self, reason: str, advice: str) -> LinuxVerdict:
        return LinuxVerdict(
            LinuxOutcome.UNKNOWN, "", reason, advice, self._name, needs=self._needs()
        )

    def accepted(self) -> LinuxVerdict:
        reason = f"the signature is of this {self._what}, by a trusted key"
        return LinuxVerdict(
            LinuxOutcome.ACCEPTED,
            "",
            reason,
            "",
            self._name,
            tuple(one.encoding for one in self._path),
            tuple(one.encoding for one in self._anchors),
            self._needs(),
        )

    def _needs(self) -> str:
        used = (*self._embedded, *self._path, *self._anchors)
        families = {one.key.family for one in used} | {one.signature.family for one in used}
        if not self._embedded and not self._anchors:
            families |= {one.family for one in self._signers}
        if families & ML_DSA_PARAMETERS.keys():
            return _WITH_ML_DSA
        beside = any(one.family in ML_DSA_PARAMETERS for one in self._signers)
        return _BESIDE_ML_DSA if beside else ""

    def check(self, message: LinuxMessage) -> None:
        """``pkcs7_verify()``: what Linux checks before it looks at its keyrings."""
        self._signers, self._embedded = message.signers, message.certificates
        for number, signer in enumerate(message.signers):
            found = next(
                (one for one in message.certificates if one.identifier == signer.identifier), None
            )
            if not self._name:
                self._name = found.name if found else f"serial {_hex(signer.serial)}"
            self._check_attributes(signer)
            self._chains[number] = []
            if found is None:
                continue
            time = signer.signing_time
            if time is not None and not found.valid_from <= time <= found.valid_to:
                reason = "the signing time is not in the validity of the signer's certificate"
                raise RefusedError("EKEYREJECTED", reason, SIGN_ANEW)
            if errno := verify(found.key, self._raw(signer)):
                raise RefusedError(errno, *self._why_other(signer, found))
            self._chains[number] = climb(found, message.certificates)

    def check_trust(self, trusted: Sequence[x509.Certificate | bytes]) -> None:
        """``pkcs7_validate_trust()``: RefusedError unless a chain meets a trusted key."""
        keyring = Keyring(trusted)
        seen: dict[bytes, bool] = {}
        accepted = False
        refusal: RefusedError | None = None
        for number, signer in enumerate(self._signers):
            try:
                self._check_trust_of(signer, self._chains[number], keyring, seen)
                accepted = True
            except RefusedError as error:
                if error.errno != "ENOKEY":
                    raise
                refusal = refusal or error
        if not accepted and refusal is not None:
            raise refusal

    def _check_trust_of(
        self,
        signer: LinuxSigner,
        chain: Sequence[LinuxCertificate],
        keyring: Keyring,
        seen: dict[bytes, bool],
    ) -> None:
        """``pkcs7_validate_trust_one()``."""
        below = self._raw(signer)
        for number, certificate in enumerate(chain):
            # what another signer's chain led to as well is not asked for again
            if seen.get(certificate.encoding):
                return
            if certificate.encoding in seen:
                raise RefusedError("ENOKEY", self._why_unknown(signer, chain, keyring), _ENROL)
            seen[certificate.encoding] = False
            if known := keyring.find(certificate.identifier, certificate.key_identifier):
                self._match(signer, known, below, chain[:number])
                seen.update({one.encoding: True for one in chain[: number + 1]})
                return
            if certificate.is_self_signed:
                raise RefusedError("ENOKEY", keyring.why_other(chain[0], certificate), _ENROL)
            below = certificate.signature
        if chain:
            top = chain[-1]
            if top.authority is not None or top.authority_key is not None:
                if known := keyring.find(top.authority, top.authority_key):
                    self._match(signer, known, below, chain)
                    seen.update({one.encoding: True for one in chain})
                    return
                keyring.check_identifier(top.authority, top.authority_key)
                if keyring.misses_the_key(top.authority, top.authority_key):
                    raise RefusedError(
                        "EKEYREJECTED",
                        f"the certificate {top.name} names a trusted certificate as its issuer, "
                        "but another key identifier",
                        "enrol, or embed, the certificate that issued it",
                    )
        known = keyring.find(signer.identifier, None)
        keyring.check_identifier(signer.identifier, None)
        if not known:
            raise RefusedError("ENOKEY", self._why_unknown(signer, chain, keyring), _ENROL)
        self._match(signer, known, self._raw(signer), ())

    def _match(
        self,
        signer: LinuxSigner,
        known: Sequence[LinuxCertificate],
        below: RawSignature,
        path: Sequence[LinuxCertificate],
    ) -> None:
        """Verify by a trusted key the top of the chain or, without a chain, the message."""
        if verify(known[0].key, below):
            # in pkcs7_validate_trust_one() every error becomes this one
            if not path:
                raise RefusedError("EKEYREJECTED", *self._why_other(signer, known[0]))
            raise RefusedError(
                "EKEYREJECTED",
                f"the trusted certificate {known[0].name} is named as the issuer, but its key "
                "did not sign",
                "enrol the certificate that issued the signer's",
            )
        if not self._anchors:  # of several signers the first that is trusted
            self._path, self._anchors = tuple(path), tuple(known)
            self._name = (*path, known[0])[0].name

    def _check_attributes(self, signer: LinuxSigner) -> None:
        """``pkcs7_digest()``."""
        if signer.digest.startswith("sha3_"):
            raise UnknownError(
                "whether Linux has SHA-3 depends on its modules; dmsign-fast takes SHA-2"
            )
        if signer.attributes is None:
            return
        made = hashlib.new(signer.digest, self._content).digest()
        if signer.message_digest is None or len(signer.message_digest) != len(made):
            raise RefusedError(
                "EBADMSG", "the digest in the attributes has a wrong size", SIGN_ANEW
            )
        if signer.message_digest != made:
            raise RefusedError("EKEYREJECTED", *self._why_other(signer, None))

    def _raw(self, signer: LinuxSigner, message: bytes | None = None) -> RawSignature:
        if signer.attributes is not None:
            message = signer.attributes
        elif message is None:
            message = self._content
        return RawSignature(message, signer.signature, signer.digest, signer.family)

    def _why_other(self, signer: LinuxSigner, by: LinuxCertificate | None) -> tuple[str, str]:
        """Say what else the signature is over, if that can be told, and what to do."""
        for slip, wrong in self._slips.items():
            if signer.attributes is not None:
                made = hashlib.new(signer.digest, wrong).digest()
                over = made == signer.message_digest
            else:
                over = by is not None and not verify(by.key, self._raw(signer, wrong))
            if over:
                return (
                    f"the signature is over {slip}; Linux wants lower-case hex text alone",
                    "sign the output of: printf %s ROOT_HASH",
                )
        name = f", or not by the key of {by.name}" if by else ""
        return (
            f"the signature is not over this {self._what}{name}",
            f"compare the {self._what} with what was signed, and sign this image's {self._what}"
            if self._slips
            else SIGN_ANEW,
        )

    def _why_unknown(
        self, signer: LinuxSigner, chain: Sequence[LinuxCertificate], keyring: Keyring
    ) -> str:
        if not chain:
            return (
                f"signed by the certificate with the serial number {_hex(signer.serial)}, not "
                f"trusted; {keyring.trusts}, and the signature does not hold the signer's "
                "certificate: give that certificate as a trust anchor"
            )
        return keyring.why_other(chain[0], chain[-1])


def _hex(serial: bytes) -> str:
    return f"{int.from_bytes(serial):x}"
