"""The Notary Project signature of an artifact: made, taken apart, and held to its specification.

What is signed is the descriptor of the artifact's manifest (``specs/signature-specification.md``),
in an envelope of either format of ``envelope.media``. Whether the signer is to be trusted is the
matter of ``trust.verdict``; here the certificates need only be of the right kind, in a whole chain.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.chain import Purpose, chain_problem, chain_validity_problem
from dmsign_fast.envelope.claims import (
    AUTHENTIC_SIGNING_TIME,
    CONTENT_TYPE,
    CRITICAL,
    EXPIRY,
    MAX_SIZE,
    PAYLOAD_TYPE,
    SIGNING_SCHEME,
    SIGNING_TIME,
    Claims,
    Unsigned,
)
from dmsign_fast.envelope.headers import KNOWN, header_problem
from dmsign_fast.envelope.media import envelope_for
from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    ParameterError,
    SigningError,
    VerificationError,
)
from dmsign_fast.signing.certificates import moment, name_of, parse_certificate
from dmsign_fast.signing.scheme import (
    Scheme,
    certificate_key_spec,
    from_fixed_width,
    notary_scheme,
    signature_matches,
    to_fixed_width,
)
from dmsign_fast.signing.signer import EnvelopeSigner, Signer, check_raw_signature
from dmsign_fast.strict_json import dump_json, read_object

__all__ = [
    "Envelope",
    "check_envelope",
    "check_manifest_signer",
    "manifest_annotations",
    "parse_envelope",
    "sign_manifest",
]

_RESERVED = "io.cncf.notary"
_OURS = "dmsign-fast."  # what begins so is said by sign, and by nobody else
_TARGET = "targetArtifact"
# RFC 5280 does not limit a chain; this bounds the work on a hostile chain.
_MAX_CHAIN = 16
_TICK = timedelta(seconds=1)  # to which times are cut

# opencontainers/image-spec, descriptor.md, "Digests"
_DIGEST = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Envelope:
    """All that an envelope says, well-formed and not believed until ``check_envelope``.

    ``message`` is what the signature is over; an ECDSA ``signature`` is r‖s. ``signing_time`` is
    the authentic one where the scheme has that. ``critical`` are the names of the headers that a
    verifier must know, ``headers`` all protected ones but the algorithm. ``timestamp_token``,
    ``agent`` and the certificates are not covered by the signature.
    """

    media_type: str
    payload: bytes
    content_type: str
    signing_scheme: str
    signing_time: datetime | None
    expiry: datetime | None
    critical: tuple[str, ...]
    headers: Mapping[str, Any]
    scheme: Scheme
    certificate_chain: tuple[x509.Certificate, ...]
    message: bytes
    signature: bytes
    timestamp_token: bytes | None
    agent: str | None

    @property
    def extended(self) -> dict[str, Any]:
        """The headers, critical or not, beside those that the specification requires."""
        return {name: value for name, value in self.headers.items() if name not in KNOWN}

    @property
    def target(self) -> dict[str, Any]:
        """The descriptor of what was signed; FormatError if the payload has none."""
        payload = read_object(self.payload, "the payload")
        return _check_descriptor(payload.get(_TARGET), "the payload")

    @property
    def user_metadata(self) -> dict[str, str]:
        """The annotations of ``target``."""
        return dict(self.target.get("annotations") or {})


def sign_manifest(
    descriptor: Mapping[str, Any],
    signer: Signer,
    *,
    media_type: str,
    signing_time: datetime | None = None,
    expiry: datetime | None = None,
    agent: str | None = None,
    user_metadata: Mapping[str, str] | None = None,
    timestamp: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Sign the descriptor of a manifest and return the envelope.

    ``descriptor`` is the JSON object that the registry's answer makes: mediaType, digest and size
    must be exactly the registry's. ``media_type`` is the envelope's. Times are cut to the second;
    ``signing_time`` is by default now, ``expiry`` must be later. ``user_metadata`` joins the
    annotations that are signed. ``timestamp`` gets the signature as it stands in the envelope and
    returns an RFC 3161 token over it, see ``envelope.timestamp``.
    The same inputs and signature give the same bytes.

    Raises ParameterError for a media type, time or metadata out of range, FormatError for a
    malformed descriptor, SigningError when the key or the chain cannot make a signature that
    ``check_envelope`` accepts: the chain must reach its root. Of an EnvelopeSigner all but the
    signing time and ``agent`` are asked for, and checked in its envelope.
    """
    form = envelope_for(media_type)
    claims = _claims(moment(signing_time), expiry)
    payload = dump_json({_TARGET: _with_metadata(descriptor, user_metadata or {})})
    if isinstance(signer, EnvelopeSigner):
        if timestamp:
            raise ParameterError(
                "the plugin makes the whole envelope, a timestamp included: leave --timestamp-url "
                "out, and configure the plugin"
            )
        return _sign_elsewhere(signer, payload, media_type, claims)
    # Before the key is asked: a provider may charge, or want a finger on a button.
    check_manifest_signer(signer, claims.signing_time)
    scheme = notary_scheme(signer.key_spec)
    protected = form.protect(scheme, claims.headers())
    message = form.message(protected, payload)
    raw = signer.sign(message, scheme)
    chain = signer.certificate_chain
    _check_chain(chain, claims.signing_time)
    check_raw_signature(chain[0], message, raw, scheme)
    signature = to_fixed_width(raw, scheme)
    unsigned = Unsigned(
        certificates=tuple(one.public_bytes(Encoding.DER) for one in chain),
        agent=agent,
        timestamp_token=timestamp(signature) if timestamp else None,
    )
    data = form.assemble(protected, payload, signature, unsigned)
    try:
        check_envelope(parse_envelope(data, media_type), target=descriptor)
    except DmsignError as error:
        raise SigningError(f"the signature would not be accepted: {error}") from error
    return data


def check_manifest_signer(signer: Signer, signing_time: datetime | None = None) -> None:
    """SigningError if the key, or the chain as far as it is known, cannot sign manifests.

    Nothing is known of an EnvelopeSigner before it signs. ``signing_time`` is by default now.
    """
    if isinstance(signer, EnvelopeSigner):
        return
    notary_scheme(signer.key_spec)
    if signer.certificate_chain:
        _check_chain(signer.certificate_chain, moment(signing_time))


def _check_chain(chain: Sequence[x509.Certificate], signing_time: datetime) -> None:
    problem = chain_problem(chain, Purpose.CODE_SIGNING) or chain_validity_problem(
        chain, signing_time
    )
    if problem is not None:
        raise SigningError(f"the certificates cannot sign for the Notary Project: {problem}")


def _sign_elsewhere(
    signer: EnvelopeSigner, payload: bytes, media_type: str, claims: Claims
) -> bytes:
    """Have an envelope made, and see that it says what it was to say."""
    lifetime = claims.expiry - claims.signing_time if claims.expiry else None
    seconds = lifetime // _TICK if lifetime else None
    data = signer.sign_envelope(payload, PAYLOAD_TYPE, media_type, seconds)
    try:
        envelope = parse_envelope(data, media_type)
        wanted = read_object(payload, "the payload")[_TARGET]
        check_envelope(envelope, target=wanted)
        _check_payload(envelope, wanted)
    except DmsignError as error:
        raise SigningError(f"the envelope of the plugin would not be accepted: {error}") from error
    assert envelope.signing_time is not None  # noqa: S101
    _check_chain(envelope.certificate_chain, envelope.signing_time)
    found = envelope.expiry - envelope.signing_time if envelope.expiry else None
    if found != lifetime and not (found and lifetime and abs(found - lifetime) <= _TICK):
        raise SigningError(
            f"the envelope of the plugin expires after {found or 'no time'}, and was to expire "
            f"after {lifetime or 'no time'}"
        )
    signer.take_certificates(envelope.certificate_chain)
    return data


def _check_payload(envelope: Envelope, wanted: Mapping[str, Any]) -> None:
    """Let a plugin add annotations, and nothing else (plugin-extensibility.md)."""
    signed = envelope.target
    added = read_object(envelope.payload, "the payload").keys() - {_TARGET}
    names = envelope.user_metadata.keys() - (wanted.get("annotations") or {}).keys()
    added |= {name for name in names if name.startswith(_OURS)}
    other = {name for name in {*signed, *wanted} if signed.get(name) != wanted.get(name)}
    asked = (wanted.get("annotations") or {}).items()
    if asked <= envelope.user_metadata.items():
        other.discard("annotations")
    if added | other:
        changed = ", ".join(sorted(added | other))
        raise VerificationError(f"its payload has changed, in {changed}")


def parse_envelope(data: bytes, media_type: str) -> Envelope:
    """Take an envelope apart, whether or not its signature holds.

    Raises ParameterError for an unknown media type, FormatError for what is not an envelope of
    that type, VerificationError for an algorithm that the Notary Project does not allow.
    """
    form = envelope_for(media_type)
    if len(data) > MAX_SIZE:
        raise FormatError(f"the envelope has {len(data)} bytes; no more than {MAX_SIZE} are read")
    parts = form.parse(data)
    headers = dict(parts.headers)
    critical = headers.get(CRITICAL)
    if not isinstance(critical, list) or not all(type(one) is str for one in critical):
        raise FormatError("the protected header has no list of critical headers, crit")
    for name in (CONTENT_TYPE, SIGNING_SCHEME):
        if type(headers.get(name)) is not str:
            raise FormatError(f"the protected header has no text {name}")
    if len(parts.unsigned.certificates) > _MAX_CHAIN:
        raise FormatError(f"the envelope has more than {_MAX_CHAIN} certificates")
    return Envelope(
        media_type=media_type,
        payload=parts.payload,
        content_type=headers[CONTENT_TYPE],
        signing_scheme=headers[SIGNING_SCHEME],
        signing_time=headers.get(SIGNING_TIME, headers.get(AUTHENTIC_SIGNING_TIME)),
        expiry=headers.get(EXPIRY),
        critical=tuple(critical),
        headers=headers,
        scheme=parts.scheme,
        certificate_chain=tuple(parse_certificate(one) for one in parts.unsigned.certificates),
        message=parts.message,
        signature=parts.signature,
        timestamp_token=parts.unsigned.timestamp_token,
        agent=parts.unsigned.agent,
    )


def check_envelope(envelope: Envelope, *, target: Mapping[str, Any] | None = None) -> None:
    """Raise VerificationError or FormatError unless the envelope is whole and by the rules.

    That is: its signature is by the key of its first certificate in the only algorithm for that
    key, every critical header is known, the payload is a descriptor, and the chain is well-formed.
    With ``target``, the descriptor must have its mediaType, digest and size. Nothing is said of
    trust or of the present time.
    """
    for problem in (header_problem(envelope), _signature_problem(envelope)):
        if problem is not None:
            raise VerificationError(problem)
    problem = chain_problem(envelope.certificate_chain, Purpose.CODE_SIGNING)
    if problem is not None:
        raise VerificationError(f"the signature's certificates: {problem}")
    signed = envelope.target
    if target is not None:
        for name in ("digest", "mediaType", "size"):
            if signed[name] != target.get(name):
                raise VerificationError(
                    f"the signature is for another artifact: its {name} is {signed[name]}, "
                    f"not {target.get(name)}"
                )


def manifest_annotations(envelope: Envelope) -> dict[str, str]:
    """Return the annotations of the manifest that holds the envelope, as notation writes them."""
    prints = [one.fingerprint(hashes.SHA256()).hex() for one in envelope.certificate_chain]
    annotations = {"io.cncf.notary.x509chain.thumbprint#S256": dump_json(prints).decode()}
    if envelope.signing_time is not None:
        created = envelope.signing_time.astimezone(UTC).replace(microsecond=0)
        annotations["org.opencontainers.image.created"] = f"{created:%Y-%m-%dT%H:%M:%SZ}"
    return annotations


def _signature_problem(envelope: Envelope) -> str | None:
    leaf, scheme = envelope.certificate_chain[0], envelope.scheme
    try:
        key_spec = certificate_key_spec(leaf)
    except SigningError as error:
        return f"{name_of(leaf)}: {error}"
    if scheme != notary_scheme(key_spec):
        return (
            f"the algorithm {scheme.jose} is not that of a key {key_spec}, "
            f"{notary_scheme(key_spec).jose}"
        )
    raw = from_fixed_width(envelope.signature, scheme)
    if not signature_matches(leaf, envelope.message, raw, scheme):
        return f"the signature is not over this content, or not by the key of {name_of(leaf)}"
    return None


def _claims(signing_time: datetime, expiry: datetime | None) -> Claims:
    signing_time = signing_time.astimezone(UTC).replace(microsecond=0)
    if expiry is not None:
        expiry = moment(expiry).astimezone(UTC).replace(microsecond=0)
        if expiry <= signing_time:
            raise ParameterError(f"the expiry {expiry:%Y-%m-%d %H:%M:%S} UTC is in the past")
    return Claims(signing_time, expiry)


def _with_metadata(descriptor: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    checked = _check_descriptor(dict(descriptor), "what is to be signed")
    if not metadata:
        return checked
    annotations = dict(checked.get("annotations") or {})
    for name, value in metadata.items():
        if name.startswith(_RESERVED):
            raise ParameterError(f"user metadata {name!r}: {_RESERVED} is reserved; rename it")
        if name in annotations:
            raise ParameterError(f"user metadata {name!r} is an annotation of the manifest already")
        annotations[name] = value
    return _check_descriptor({**checked, "annotations": annotations}, "user metadata")


def _check_descriptor(value: object, what: str) -> dict[str, Any]:
    """Return the value if it is a descriptor (opencontainers/image-spec, descriptor.md)."""
    if isinstance(value, dict):
        annotations = value.get("annotations")
        size = value.get("size")
        if (
            type(value.get("mediaType")) is str
            and value["mediaType"]
            and type(value.get("digest")) is str
            and _DIGEST.fullmatch(value["digest"])
            and type(size) is int
            and size >= 0
            and (annotations is None or _is_text(annotations))
        ):
            return value
    raise FormatError(
        f"{what} is not an OCI descriptor; it needs mediaType, digest, size, "
        "and annotations of text if any"
    )


def _is_text(annotations: object) -> bool:
    return isinstance(annotations, dict) and all(
        type(one) is str for pair in annotations.items() for one in pair
    )
