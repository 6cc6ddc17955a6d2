"""Envelopes with something wrong in them, and a signature that is right for what they say."""

from __future__ import annotations

import base64
import json

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pki import NOW, Entity, der

CTY = "application/vnd.cncf.notary.payload.v1+json"
N = "io.cncf.notary."
JOSE = {"RSA": {256: "PS256", 384: "PS384", 512: "PS512"}}
COSE_ALG = {"PS256": -37, "PS384": -38, "PS512": -39, "ES256": -7, "ES384": -35, "ES512": -36}
ABSENT = object()
"""In place of a value: leave the field out."""


def default_algorithm(key) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return {2048: "PS256", 3072: "PS384"}.get(key.key_size, "PS512")
    return {256: "ES256", 384: "ES384", 521: "ES512"}[key.curve.key_size]


def raw_sign(key, message: bytes, algorithm: str, salt: int | None = None) -> bytes:
    digest = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[algorithm[2:]]
    if isinstance(key, rsa.RSAPrivateKey):
        pad = padding.PKCS1v15()
        if algorithm.startswith("PS"):
            pad = padding.PSS(padding.MGF1(digest), digest.digest_size if salt is None else salt)
        return key.sign(message, pad, digest)
    size = (key.curve.key_size + 7) // 8
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
    return r.to_bytes(size) + s.to_bytes(size)


def merged(fields: dict, changes: dict) -> dict:
    return {name: value for name, value in (fields | changes).items() if value is not ABSENT}


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def dumps(value) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def payload_of(image: dict, **changes) -> bytes:
    return dumps({"targetArtifact": merged(image, changes)})


def forge_jws(
    entity: Entity,
    image: dict,
    *,
    protected: dict | None = None,
    protected_bytes=lambda data: data,
    payload: bytes | None = None,
    header: dict | None = None,
    top: dict | None = None,
    chain=None,
    algorithm: str | None = None,
    encode=b64url,
    signature=lambda raw: raw,
    text=lambda data: data,
    salt=None,
) -> bytes:
    """Return a JWS envelope; what is not given is right.

    ``algorithm`` is what the signature really is; the header says what goes with the key.
    """
    right = default_algorithm(entity.key)
    fields = {
        "alg": right,
        "crit": [N + "signingScheme"],
        "cty": CTY,
        N + "signingScheme": "notary.x509",
        N + "signingTime": f"{NOW:%Y-%m-%dT%H:%M:%SZ}",
    }
    headers = b64url(protected_bytes(dumps(merged(fields, protected or {}))))
    body = encode(payload if payload is not None else payload_of(image))
    message = f"{headers}.{body}".encode()
    raw = raw_sign(entity.key, message, algorithm or right, salt)
    certificates = entity.chain if chain is None else chain
    envelope = {
        "payload": body,
        "protected": headers,
        "header": merged(
            {"x5c": [base64.b64encode(der(one)).decode() for one in certificates]}, header or {}
        ),
        "signature": encode(signature(raw)),
    }
    return text(dumps(merged(envelope, top or {})))


def forge_cose(
    entity: Entity,
    image: dict,
    *,
    protected: dict | None = None,
    protected_bytes=lambda data: data,
    payload: bytes | None = None,
    header: dict | None = None,
    chain=None,
    algorithm: str | None = None,
    signature=lambda raw: raw,
    parts=lambda four: four,
    tag: int | None = 18,
    text=lambda data: data,
    salt=None,
) -> bytes:
    """Return a COSE envelope, likewise."""
    right = default_algorithm(entity.key)
    fields = {
        1: COSE_ALG[right],
        2: [N + "signingScheme"],
        3: CTY,
        N + "signingScheme": "notary.x509",
        N + "signingTime": cbor2.CBORTag(1, int(NOW.timestamp())),
    }
    headers = protected_bytes(cbor2.dumps(merged(fields, protected or {}), canonical=True))
    body = payload if payload is not None else payload_of(image)
    message = cbor2.dumps(["Signature1", headers, b"", body])
    raw = raw_sign(entity.key, message, algorithm or right, salt)
    certificates = entity.chain if chain is None else chain
    unprotected = merged({33: [der(one) for one in certificates]}, header or {})
    four = parts([headers, unprotected, body, signature(raw)])
    return text(cbor2.dumps(four if tag is None else cbor2.CBORTag(tag, four)))
