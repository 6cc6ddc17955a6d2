"""The certificates that the Notary Project allows in a chain (signature specification).

"Certificate requirements" are the same for the chain of a signer and that of a timestamp authority
but for the extended key usage. They hold whatever is trusted. We also hold each issuer's key to
the sizes of the leaf's, and the chain to RFC 5280, section 6: name constraints, and no critical
extension that is not processed. notation leaves both aside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import ExtensionOID as Extension

from dmsign_fast.envelope.name_constraints import name_constraint_problem
from dmsign_fast.errors import SigningError
from dmsign_fast.signing.certificates import (
    extension,
    go_problem,
    issued,
    issuer_problem,
    name_of,
    usage_name,
    validity_problem,
)
from dmsign_fast.signing.scheme import certificate_key_spec, key_form_problem

__all__ = ["Purpose", "chain_problem", "chain_validity_problem"]

# The specification names all but the last two; notation refuses OCSP signing as well.
_NOT_FOR_CODE = {
    Usage.SERVER_AUTH,
    Usage.CLIENT_AUTH,
    Usage.EMAIL_PROTECTION,
    Usage.TIME_STAMPING,
    Usage.ANY_EXTENDED_KEY_USAGE,
    Usage.OCSP_SIGNING,
}
_STRONG_HASHES = {"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"}
_OTHER_USAGES = (
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
# The extensions that are processed, critical or not. Any certificate policy is accepted here, so
# only policy constraints could fail, and they are refused.
_PROCESSED = {
    Extension.BASIC_CONSTRAINTS,
    Extension.KEY_USAGE,
    Extension.EXTENDED_KEY_USAGE,
    Extension.NAME_CONSTRAINTS,
    Extension.SUBJECT_ALTERNATIVE_NAME,
    Extension.CRL_DISTRIBUTION_POINTS,
    Extension.CERTIFICATE_POLICIES,
    Extension.POLICY_MAPPINGS,
    Extension.INHIBIT_ANY_POLICY,
}


class Purpose(StrEnum):
    """What the leaf of a chain signs."""

    CODE_SIGNING = "code signing"
    TIMESTAMPING = "timestamping"


def chain_problem(chain: Sequence[x509.Certificate], purpose: Purpose) -> str | None:
    """Say why the chain, leaf first and root last, does not meet the requirements, or None.

    Validity is left aside, and so is trust.
    """
    return next(_problems(chain, purpose), None)


def chain_validity_problem(chain: Sequence[x509.Certificate], at: datetime) -> str | None:
    """Say which certificate of the chain is not valid at that time, or None."""
    problems = (validity_problem(one, at) for one in chain)
    return next((one for one in problems if one is not None), None)


def _problems(chain: Sequence[x509.Certificate], purpose: Purpose) -> Iterator[str]:
    if not chain:
        yield "there is no certificate"
        return
    for certificate, issuer in zip(chain, [*chain[1:], chain[-1]], strict=True):
        if digest := _weak_digest(certificate):
            yield f"{name_of(certificate)} is signed with {digest}, which is weak or unknown"
        if issuer is not certificate and issued(certificate, certificate):
            yield f"{name_of(certificate)} is self-signed and not the last of the chain"
        if not issued(issuer, certificate):
            if issuer is certificate:
                yield (
                    f"the last certificate, {name_of(issuer)}, is not a self-signed root; "
                    "give the chain up to its root"
                )
            else:
                yield (
                    f"{name_of(issuer)} is next in the chain and did not issue "
                    f"{name_of(certificate)}"
                )
        if (problem := key_form_problem(certificate) or go_problem(certificate)) is not None:
            yield problem
        for one in certificate.extensions:
            if one.critical and one.oid not in _PROCESSED:
                yield (
                    f"{name_of(certificate)} has the critical extension {one.oid.dotted_string}, "
                    "which is not processed here"
                )
    if (problem := name_constraint_problem(chain)) is not None:
        yield problem
    yield from _leaf_problems(chain[0], purpose)
    for below, issuer in enumerate(chain[1:]):
        yield from _issuer_problems(issuer, below, purpose)


def _weak_digest(certificate: x509.Certificate) -> str | None:
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string
    # None: Ed25519 and the like choose the digest themselves
    return None if digest is None or digest.name in _STRONG_HASHES else digest.name


def _leaf_problems(leaf: x509.Certificate, purpose: Purpose) -> Iterator[str]:
    try:
        certificate_key_spec(leaf)
    except SigningError as error:
        yield f"{name_of(leaf)}: {error}"
    constraints = extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.value.ca:
        yield f"{name_of(leaf)} is a CA, which must not sign: use a certificate of a signer"
    yield from _usage_problems(leaf, "digital_signature", purpose)
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None:
        for other in _OTHER_USAGES:
            if getattr(usage.value, other):
                yield (
                    f"the key usage of {name_of(leaf)} includes {usage_name(other)}, which a "
                    "signer must not have: use a certificate without it"
                )
    yield from _extended_usage_problems(leaf, purpose)


def _extended_usage_problems(leaf: x509.Certificate, purpose: Purpose) -> Iterator[str]:
    extended = extension(leaf, x509.ExtendedKeyUsage)
    usages = set(extended.value) if extended is not None else set()
    if purpose is Purpose.CODE_SIGNING:
        for wrong in usages & _NOT_FOR_CODE:
            yield (
                f"the extended key usage of {name_of(leaf)} includes {usage_name(wrong)}, which a "
                "signer of code must not have: use a certificate for code signing alone"
            )
    elif extended is None or not extended.critical or usages != {Usage.TIME_STAMPING}:
        yield f"the extended key usage of {name_of(leaf)} is not timeStamping alone, and critical"


def _issuer_problems(issuer: x509.Certificate, below: int, purpose: Purpose) -> Iterator[str]:
    problem = issuer_problem(issuer)
    if problem is not None:
        yield problem
    constraints = extension(issuer, x509.BasicConstraints)
    if constraints is not None:
        limit = constraints.value.path_length
        if not constraints.critical:
            yield f"the basicConstraints of {name_of(issuer)} are not critical"
        if limit is not None and limit < below:
            yield f"{name_of(issuer)} allows {limit} certificates of CAs below it, not {below}"
    yield from _usage_problems(issuer, "key_cert_sign", purpose)
    try:
        key = issuer.public_key()
    except (ValueError, UnsupportedAlgorithm):
        yield f"the key of {name_of(issuer)} cannot be read"
        return
    small = (isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < 256
    )
    if small:
        yield f"the key of {name_of(issuer)} is too small"


def _usage_problems(certificate: x509.Certificate, needed: str, purpose: Purpose) -> Iterator[str]:
    usage = extension(certificate, x509.KeyUsage)
    if usage is None:
        yield f"{name_of(certificate)} has no key usage; it needs {usage_name(needed)}"
        return
    if purpose is Purpose.CODE_SIGNING and not usage.critical:
        yield f"the key usage of {name_of(certificate)} is not critical"
    if not getattr(usage.value, needed):
        yield f"the key usage of {name_of(certificate)} lacks {usage_name(needed)}"
