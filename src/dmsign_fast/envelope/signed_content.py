"""PKCS#7 messages that hold what is signed, as Linux takes a policy of IPE, made and verified.

The form is that of ``openssl smime -sign -nodetach -noattr -binary -outform der``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dmsign_fast.envelope.facts import CertificateFacts, facts_of
from dmsign_fast.envelope.linux import linux_content_verdict
from dmsign_fast.envelope.pkcs7 import check_held, check_signer
from dmsign_fast.envelope.signed_data import (
    RawSigned,
    SignedData,
    build_signed_data,
    parse_signed_content,
)
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError, FormatError, SigningError
from dmsign_fast.signing.certificates import moment
from dmsign_fast.signing.signer import Signer, check_raw_signature

__all__ = ["MAX_MESSAGE", "VerifiedContent", "content_of", "sign_content", "verify_content"]

MAX_MESSAGE = 65535
"""Of bytes that ``new_policy`` and ``update`` take: more are EMSGSIZE (measured, Linux 7.2)."""


@dataclass(frozen=True, slots=True)
class VerifiedContent:
    """A signature that holds: its content, and by whom and how it was signed."""

    content: bytes
    scheme: str
    key_spec: str
    signer: CertificateFacts
    path: tuple[CertificateFacts, ...]
    embedded: int


def sign_content(
    content: bytes,
    signer: Signer,
    *,
    digest: str | None = None,
    certificates: bool = True,
    at: datetime | None = None,
) -> bytes:
    """Sign ``content`` and return the DER that holds it.

    Arguments are as for ``pkcs7.sign_root_hash``.

    Raises:
        ParameterError: the digest does not go with the key.
        SigningError: the key or chain cannot make a message that ``verify_content`` accepts, or
            it would be larger than MAX_MESSAGE.
    """
    at = moment(at)
    if len(content) > MAX_MESSAGE:
        raise SigningError(
            f"{len(content)} bytes are to be signed, and the kernel takes at most {MAX_MESSAGE}, "
            "with the signature"
        )
    scheme = check_signer(signer, digest, certificates=certificates, at=at)
    signature = signer.sign(content, scheme)
    chain = signer.certificate_chain
    check_signer(signer, digest, certificates=certificates, at=at)  # a chain that came with it
    check_raw_signature(chain[0], content, signature, scheme)
    signed = RawSigned(signature, chain, scheme)
    data = build_signed_data([signed], certificates=certificates, content=content)
    anchors = TrustAnchors((chain[-1] if certificates else chain[0],))
    try:
        verify_content(data, anchors, at=at)
    except DmsignError as error:
        raise SigningError(f"the signature would not be accepted: {error}") from error
    return data


def content_of(data: bytes) -> bytes:
    """Return what a message holds, of whoever; FormatError for what is not such a message."""
    return _parse(data)[1]


def _parse(data: bytes) -> tuple[SignedData, bytes]:
    parsed, content = parse_signed_content(data, MAX_MESSAGE)
    # of several Linux is content with a trusted one, whoever the others are
    if len(parsed.signers) != 1:
        raise FormatError(f"the message has {len(parsed.signers)} signers, and one is wanted")
    return parsed, content


def verify_content(
    data: bytes, anchors: TrustAnchors, *, at: datetime | None = None
) -> VerifiedContent:
    """Verify a message as Linux does, and more strictly, and return what it holds.

    ``anchors`` stand for the keyrings that IPE asks: those built in, ``.secondary_trusted_keys``
    and ``.platform``.

    Raises:
        FormatError: it is not a message of the kernel's form.
        VerificationError: the signature is wrong, weak, or by a signer that is not trusted.
    """
    parsed, content = _parse(data)
    linux = linux_content_verdict(data, content, anchors.certificates)
    held = check_held(parsed, linux, content, moment(at))
    return VerifiedContent(
        content,
        held.scheme.name,
        held.key_spec.value,
        facts_of(held.path[0]),
        tuple(facts_of(one) for one in held.path),
        len(parsed.certificates),
    )
