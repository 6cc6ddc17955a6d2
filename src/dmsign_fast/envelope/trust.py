"""Trust anchors, and the path from a signer's certificate to an anchor.

An anchor is a certificate that the user gave, self-signed or not. If the signer's own certificate
is an anchor, it is the whole path, as in a kernel keyring. Otherwise
``cryptography.x509.verification`` builds the path (RFC 5280, section 6) with our rules: no name and
no extended key usage is asked for, and every issuer must be a CA that may sign certificates. Every
certificate of the path must be valid, the anchor too. The kernel checks none of this; ``pkcs7``
gives the certificates of the kernel's own path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import verification

from dmsign_fast.arguments import check_type, instance
from dmsign_fast.errors import ParameterError, VerificationError
from dmsign_fast.signing.certificates import (
    issuer_problem,
    leaf_problem,
    load_certificates,
    name_of,
    names_of,
    one_line,
    validity_problem,
)
from dmsign_fast.signing.scheme import ML_DSA

__all__ = ["ANCHORS", "TrustAnchors", "build_path", "load_trust_anchors", "signature_problem"]

_MAX_ISSUERS = 8
_SEARCH = re.compile(r"validation failed: |candidates exhausted: | \(encountered processing <.*")

# Certificate signatures that the kernel knows (x509_note_sig_algo()) and that are not weak.
_STRONG_SIGNATURES = {
    x509.SignatureAlgorithmOID.RSA_WITH_SHA256,
    x509.SignatureAlgorithmOID.RSA_WITH_SHA384,
    x509.SignatureAlgorithmOID.RSA_WITH_SHA512,
    x509.SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    x509.SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    x509.SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    *map(x509.ObjectIdentifier, ML_DSA),
}


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """The certificates that the user trusts; at least one."""

    certificates: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not self.certificates:
            raise ParameterError("there is no trust anchor; give a certificate to trust")


ANCHORS = instance(TrustAnchors, "TrustAnchors, as load_trust_anchors returns them")


def load_trust_anchors(*paths: Path) -> TrustAnchors:
    """Load anchors from PEM bundles or DER files; StorageError or FormatError for a bad file."""
    for path in paths:
        check_type("an argument of load_trust_anchors", path, Path, "a pathlib.Path")
    certificates = (one for path in paths for one in load_certificates(path))
    return TrustAnchors(tuple(dict.fromkeys(certificates)))


def signature_problem(certificate: x509.Certificate) -> str | None:
    """Say that the certificate's signature is weak, which the kernel does not mind, or None."""
    if certificate.signature_algorithm_oid in _STRONG_SIGNATURES:
        return None
    return (
        f"the certificate {name_of(certificate)} has a signature that is weak or unknown; leave it "
        "out, or use RSA PKCS#1 v1.5 or ECDSA with SHA-256, 384 or 512, or ML-DSA"
    )


def build_path(
    leaf: x509.Certificate,
    others: Iterable[x509.Certificate],
    anchors: TrustAnchors,
    at: datetime,
) -> tuple[x509.Certificate, ...]:
    """Return the path from the signer's certificate to a trust anchor, both included.

    ``others`` are certificates that may stand between them and are not trusted by themselves.
    Raises VerificationError when the leaf must not sign at that time, or no path holds.
    """
    problem = leaf_problem(leaf, at)
    if problem is not None:
        raise VerificationError(problem)
    if leaf in anchors.certificates:
        return (leaf,)
    others = tuple(others)
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(list(anchors.certificates)))
            .time(at)
            .max_chain_depth(_MAX_ISSUERS)
            .extension_policies(ca_policy=_ISSUER_POLICY, ee_policy=_LEAF_POLICY)
            .build_client_verifier()
        )
        return tuple(verifier.verify(leaf, list(others)).chain)
    except (verification.VerificationError, ValueError, UnsupportedAlgorithm) as error:
        reason = _why((leaf, *others), anchors, at) or _words(error, (leaf, *others), anchors)
        raise VerificationError(
            f"signed by {name_of(leaf)}, who is not trusted; you trust "
            f"{names_of(anchors.certificates)}: {reason}"
        ) from None


def _refuse_issuer(
    _policy: verification.Policy, issuer: x509.Certificate, _extension: x509.BasicConstraints
) -> None:
    problem = issuer_problem(issuer)
    if problem is not None:
        raise ValueError(problem)


_LEAF_POLICY = verification.ExtensionPolicy.permit_all()
_ISSUER_POLICY = verification.ExtensionPolicy.permit_all().require_present(
    x509.BasicConstraints, verification.Criticality.AGNOSTIC, _refuse_issuer
)


def _words(error: Exception, untrusted: tuple[x509.Certificate, ...], anchors: TrustAnchors) -> str:
    """What the library says of a path, without its search and its objects."""
    text = _SEARCH.sub("", str(error).partition("\n")[0])
    wanted = {one.issuer for one in untrusted}
    if "max depth" in text and any(one.subject in wanted for one in anchors.certificates):
        return (
            "the depth of its chain is more than the path length of a CA allows, or more than "
            f"{_MAX_ISSUERS} issuers"
        )
    in_vain = not text or "exhausted" in text or "max depth" in text
    return "no certificate leads from it to these" if in_vain else text


def _why(
    untrusted: tuple[x509.Certificate, ...], anchors: TrustAnchors, at: datetime
) -> str | None:
    """Find a certificate that was wanted as an issuer and was not fit; the library names none."""
    wanted = {one.issuer for one in untrusted}
    issuers = [one for one in (*untrusted[1:], *anchors.certificates) if one.subject in wanted]
    for issuer in issuers:
        problem = issuer_problem(issuer) or validity_problem(issuer, at)
        if problem is not None:
            return problem
    if not issuers:
        return f"its issuer {one_line(untrusted[0].issuer)} is missing"
    return None
