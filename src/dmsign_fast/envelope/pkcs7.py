"""The signature of a dm-verity root hash that the Linux kernel accepts, made and verified.

What is signed is the root hash as lower-case hexadecimal text, without a newline
(``drivers/md/dm-verity-verify-sig.c``). Its envelope is a detached PKCS#7 SignedData in DER, see
``signed_data``. ``sign_root_hash`` does all; where the raw signature is made elsewhere, take
``root_hash_message`` there and hand what comes back to ``assemble_root_hash``.

A message may have several signers. Linux asks for one that is trusted, and that no signature fails
whose certificate it has: so several are no hybrid, since each of them alone would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from dmsign_fast.envelope.facts import CertificateFacts, facts_of
from dmsign_fast.envelope.linux import (
    LinuxOutcome,
    LinuxVerdict,
    certificate_problem,
    linux_verdict,
    root_hash_message,
)
from dmsign_fast.envelope.signed_data import (
    RawSigned,
    SignedData,
    SignerInfo,
    build_signed_data,
    parse_signed_data,
)
from dmsign_fast.envelope.trust import TrustAnchors, build_path, signature_problem
from dmsign_fast.errors import DmsignError, ParameterError, SigningError, VerificationError
from dmsign_fast.signing.certificates import (
    check_chain,
    moment,
    name_of,
    parse_certificate,
    usage_problem,
)
from dmsign_fast.signing.scheme import (
    SCHEMES,
    KeySpec,
    Scheme,
    certificate_key_spec,
    pkcs7_scheme,
    signature_matches,
)
from dmsign_fast.signing.signer import Signer, check_raw_signature

__all__ = [
    "Held",
    "VerifiedRootHash",
    "assemble_root_hash",
    "check_held",
    "check_signer",
    "check_signers",
    "sign_root_hash",
    "verify_root_hash",
    "why_stricter",
]


@dataclass(frozen=True, slots=True)
class Held:
    """How a signature holds: by whom, in which scheme, and the path to a trust anchor."""

    signer: SignerInfo
    scheme: Scheme
    key_spec: KeySpec
    path: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class VerifiedRootHash:
    """A signature that holds: over what, by whom, how, and why it is trusted.

    ``path`` leads from the signer's certificate to a trust anchor, both included, and is the
    signer alone when that is itself an anchor. ``embedded`` counts the certificates that come with
    the signature, which does not cover them. ``signers`` counts all signers, of whom this is the
    first that is trusted; ``needs`` says what Linux must be to take it, empty for every Linux.
    ``dataclasses.asdict`` gives what JSON can hold.
    """

    root_hash: str
    scheme: str
    key_spec: str
    signer: CertificateFacts
    path: tuple[CertificateFacts, ...]
    embedded: int
    signed_attributes: bool
    signing_time: str | None
    signers: int = 1
    needs: str = ""


def sign_root_hash(
    root_hash: bytes,
    signer: Signer,
    *,
    and_by: Sequence[Signer] = (),
    digest: str | None = None,
    certificates: bool = True,
    at: datetime | None = None,
) -> bytes:
    """Sign a root hash and return the DER for ``veritysetup --root-hash-signature``.

    ``and_by`` sign the same message too, each with the digest of its key. ``digest`` is hashlib's
    name, by default the one of the key (``signing.scheme``). With
    ``certificates`` the signer's whole chain is embedded; without, the kernel and any verifier
    must know the signer's certificate. ``at``, by default now, is when the chain must be valid.
    The same RSA key and root hash give the same bytes.

    Raises ParameterError for a digest or root hash out of range, SigningError when the key or the
    chain cannot make a signature that ``verify_root_hash`` accepts.
    """
    at = moment(at)
    # Before the key is asked: a provider may charge, or want a finger on a button.
    signers = check_signers(signer, and_by, digest, certificates=certificates, at=at)
    message = root_hash_message(root_hash)
    signed = [
        # the chain may come with the signature
        RawSigned(one.sign(message, scheme), one.certificate_chain, scheme)
        for one, scheme in signers
    ]
    return assemble_root_hash(root_hash, signed, certificates=certificates, at=at)


def check_signer(
    signer: Signer,
    digest: str | None = None,
    *,
    certificates: bool = True,
    at: datetime | None = None,
) -> Scheme:
    """Return the scheme in which the signer signs root hashes, before there is one to sign.

    Arguments and errors are those of ``sign_root_hash``. A chain that comes with the first
    signature is checked then.
    """
    scheme = pkcs7_scheme(signer.key_spec, digest)
    if signer.certificate_chain:
        _check_chain(signer.certificate_chain, certificates, moment(at))
    return scheme


def check_signers(
    signer: Signer,
    and_by: Sequence[Signer] = (),
    digest: str | None = None,
    *,
    certificates: bool = True,
    at: datetime | None = None,
) -> list[tuple[Signer, Scheme]]:
    """Return all who sign a message, each with its scheme, as ``check_signer`` does.

    Raises also ParameterError where two have the same certificate.
    """
    leaves = [one.certificate_chain[0] for one in (signer, *and_by) if one.certificate_chain]
    if len(set(leaves)) < len(leaves):
        raise ParameterError("two signers of one message have the same certificate")
    wanted = ((signer, digest), *((one, None) for one in and_by))
    return [
        (one, check_signer(one, name, certificates=certificates, at=at)) for one, name in wanted
    ]


def assemble_root_hash(
    root_hash: bytes,
    signed: Sequence[RawSigned],
    *,
    certificates: bool = True,
    at: datetime | None = None,
) -> bytes:
    """Wrap raw signatures over ``root_hash_message(root_hash)`` and return the DER.

    Each chain is leaf first, each certificate followed by its issuer. The result has been
    verified. Raises SigningError when it does not hold.
    """
    at = moment(at)
    for one in signed:
        _check_chain(one.chain, certificates, at)
        message = root_hash_message(root_hash)
        check_raw_signature(one.chain[0], message, one.signature, one.scheme)
    data = build_signed_data(signed, certificates=certificates)
    # With the chain embedded its top is trusted, so that the way there is checked as well.
    anchors = TrustAnchors(tuple(one.chain[-1 if certificates else 0] for one in signed))
    try:
        verify_root_hash(data, root_hash, anchors, at=at)
    except DmsignError as error:
        raise SigningError(f"the signature would not be accepted: {error}") from error
    return data


def verify_root_hash(
    signature: bytes,
    root_hash: bytes,
    anchors: TrustAnchors,
    *,
    at: datetime | None = None,
) -> VerifiedRootHash:
    """Verify the DER of a root-hash signature as Linux does, and more strictly.

    ``root_hash`` is raw; ``at``, by default now, is when every certificate used must be valid.

    Raises FormatError for what is not a detached SignedData of the kernel's form, and
    VerificationError for a signature that is wrong, weak, or by a signer that is not trusted.
    """
    at = moment(at)
    parsed = parse_signed_data(signature)
    linux = linux_verdict(signature, root_hash, anchors.certificates)
    held = check_held(parsed, linux, root_hash_message(root_hash), at)
    attributes = held.signer.attributes
    signing_time = attributes.signing_time if attributes else None
    return VerifiedRootHash(
        root_hash=root_hash.hex(),
        scheme=held.scheme.name,
        key_spec=held.key_spec.value,
        signer=facts_of(held.path[0]),
        path=tuple(facts_of(one) for one in held.path),
        embedded=len(parsed.certificates),
        signed_attributes=attributes is not None,
        signing_time=signing_time.isoformat() if signing_time else None,
        signers=len(parsed.signers),
        needs=linux.needs,
    )


def check_held(parsed: SignedData, linux: LinuxVerdict, message: bytes, at: datetime) -> Held:
    """Return how a signature over ``message`` holds, once Linux has judged it.

    ``at`` is when every certificate used must be valid. Raises VerificationError if Linux did not
    accept it, or for what Linux takes and we do not.
    """
    if linux.outcome is not LinuxOutcome.ACCEPTED:
        raise VerificationError(linux.reason)
    # the way that Linux went, and no other
    chain = tuple(parse_certificate(one) for one in linux.path)
    trusted = TrustAnchors(tuple(parse_certificate(one) for one in linux.anchors))
    leaf = chain[0] if chain else trusted.certificates[0]
    held = None
    for signer in parsed.signers:
        known = (one for one in (leaf, *parsed.certificates) if signer.names(one))
        if (certificate := next(known, None)) is None:
            continue  # Linux passes over it, or has verified it by what it trusts
        scheme = _check_signature(signer, certificate, message)
        if held is None and certificate == leaf:
            held = signer, scheme
    if held is None:
        raise VerificationError(f"the signature is not by {name_of(leaf)}")
    for certificate in parsed.certificates:
        _refuse(signature_problem(certificate) or _double_problem(certificate, trusted))
    _refuse(usage_problem(leaf))
    path = tuple(build_path(leaf, chain[1:], trusted, at))
    return Held(*held, _key_spec(leaf), path)


def why_stricter(signature: bytes, root_hash: bytes, trusted: Sequence[x509.Certificate]) -> str:
    """Say why ``verify_root_hash`` refuses a signature, empty if it does not."""
    try:
        verify_root_hash(signature, root_hash, TrustAnchors(tuple(trusted)))
    except DmsignError as error:
        return str(error)
    return ""


def _check_signature(signer: SignerInfo, certificate: x509.Certificate, message: bytes) -> Scheme:
    """Return the scheme of a signature; VerificationError if it is not allowed or fails."""
    scheme = _find_scheme(signer, _key_spec(certificate))
    message = signer.attributes.encoding if signer.attributes else message
    if not signature_matches(certificate, message, signer.signature, scheme):
        _refuse("the signature is not the DER of two positive numbers, though Linux can read it")
    return scheme


def _refuse(problem: str | None) -> None:
    if problem is not None:
        raise VerificationError(problem)


def _check_chain(chain: Sequence[x509.Certificate], certificates: bool, at: datetime) -> None:
    """Raise SigningError if root hashes must not be signed with this chain, leaf first."""
    check_chain(chain, at)
    problems = [usage_problem(chain[0]), certificate_problem(chain[0])]
    # the kernel sees the issuers only if they are embedded
    for certificate in chain if certificates else ():
        problems += [certificate_problem(certificate), signature_problem(certificate)]
    for problem in problems:
        if problem is not None:
            raise SigningError(problem)


def _double_problem(certificate: x509.Certificate, trusted: TrustAnchors) -> str | None:
    """Say that the certificate is a double of a trusted certificate, which Linux takes instead."""
    for one in trusted.certificates:
        same = (one.issuer, one.serial_number) == (certificate.issuer, certificate.serial_number)
        if same and certificate not in trusted.certificates:
            return (
                f"the embedded certificate {name_of(certificate)} has the issuer and serial number "
                "of a trusted certificate, but differs from it"
            )
    return None


def _key_spec(leaf: x509.Certificate) -> KeySpec:
    try:
        return certificate_key_spec(leaf)
    except SigningError as error:
        raise VerificationError(f"{name_of(leaf)}: {error}") from None


def _find_scheme(signer: SignerInfo, key_spec: KeySpec) -> Scheme:
    # The kernel pairs them more freely, SHA-1 or P-256 with SHA-512 included; we do not.
    for scheme in SCHEMES:
        if key_spec in scheme.key_specs and signer.is_of(scheme):
            return scheme
    possible = ", ".join(
        one.name for one in SCHEMES if key_spec in one.key_specs and one.pkcs7_signature
    )
    raise VerificationError(
        f"a signature with {signer.digest} and {signer.signature_algorithm} by a key {key_spec} "
        f"is not allowed; allowed is {possible}"
    )
