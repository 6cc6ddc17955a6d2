"""moto's server as AWS KMS, on loopback, with the two calls that matter made as KMS makes them.

    with kms(monkeypatch, directory) as server:
        arn = server.put(entity)        # a key of pki, as KMS imports one
        open_signer(f"aws-kms:{arn}", KeyOptions(certificates=...))

moto 5.2 ignores MessageType, so that it hashes a digest once more, gives PSS the longest salt in
place of the digest's length, and signs with disabled keys. Its HTTP, protocol, keys, aliases and
their states are used; Sign and GetPublicKey are by the API reference of KMS.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, field

import boto3
import moto.server
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.exceptions import JsonRESTError
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse
from pki import Entity
from werkzeug.serving import WSGIRequestHandler

from dmsign_fast.signing.scheme import key_spec_of

REGION = "eu-central-1"
SECRET = "a-secret-access-key"
SESSION = "a-session-token"
KEY_SPECS = {
    "RSA-2048": "RSA_2048",
    "RSA-3072": "RSA_3072",
    "RSA-4096": "RSA_4096",
    "EC-256": "ECC_NIST_P256",
    "EC-384": "ECC_NIST_P384",
    "EC-521": "ECC_NIST_P521",
    "ML-DSA-44": "ML_DSA_44",
    "ML-DSA-65": "ML_DSA_65",
    "ML-DSA-87": "ML_DSA_87",
}
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_STATES = {
    "Disabled": ("DisabledException", "{} is disabled."),
    "PendingDeletion": ("KMSInvalidStateException", "{} is pending deletion."),
}


def refuse(code, message):
    raise JsonRESTError(code, message)


@dataclass
class Server:
    """What is asked of it, and what it answers instead: an error (code, message), or changes."""

    url: str = ""
    asked: list[dict] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    changes: dict[str, object] = field(default_factory=dict)

    @property
    def admin(self):
        return boto3.client("kms", endpoint_url=self.url, region_name=REGION)

    def create(self, spec: str, usage: str = "SIGN_VERIFY") -> str:
        return self.admin.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]

    def put(self, entity: Entity) -> str:
        spec = key_spec_of(entity.key.public_key())
        # moto makes RSA keys slowly, and none of ML-DSA
        arn = self.create(KEY_SPECS[spec] if spec.startswith("EC") else "RSA_2048")
        key = kms_backends[DEFAULT_ACCOUNT_ID][REGION].describe_key(arn)
        key.key_spec, key.private_key.private_key = KEY_SPECS[spec], entity.key
        return arn

    def answer(self, response: KmsResponse, call) -> str:
        asked = json.loads(response.body)
        self.asked.append(asked)
        if self.faults:
            refuse(*self.faults.pop(0))
        response._validate_key_id(asked["KeyId"])
        key = response.kms_backend.describe_key(asked["KeyId"])
        if key.key_state in _STATES:
            code, message = _STATES[key.key_state]
            refuse(code, message.format(key.arn))
        return json.dumps({"KeyId": key.arn, **call(key, asked), **self.changes})


def public_key(key, asked):
    if key.key_spec == "SYMMETRIC_DEFAULT":
        refuse("UnsupportedOperationException", f"{key.arn} key spec is not asymmetric")
    encoded = base64.b64encode(key.private_key.public_key()).decode()
    return {
        "KeySpec": key.key_spec,
        "KeyUsage": key.key_usage,
        "PublicKey": encoded,
        "SigningAlgorithms": key.signing_algorithms,
    }


def signature(key, asked):
    assert set(asked) == {"KeyId", "Message", "MessageType", "SigningAlgorithm"}
    if key.key_usage != "SIGN_VERIFY":
        refuse("InvalidKeyUsageException", f"{key.arn} key usage is {key.key_usage}")
    algorithm = asked["SigningAlgorithm"]
    if key.key_spec.startswith("ML_DSA") and algorithm == "ML_DSA_SHAKE_256":
        return {"Signature": base64.b64encode(ml_dsa(key, asked)).decode()}
    if algorithm not in key.signing_algorithms:
        refuse("InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec")
    digest, digest_bytes = _HASHES[algorithm[-3:]], base64.b64decode(asked["Message"])
    if asked["MessageType"] != "DIGEST" or len(digest_bytes) != digest.digest_size:
        refuse("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    private, hashed = key.private_key.private_key, Prehashed(digest)
    if algorithm.startswith("ECDSA"):
        made = private.sign(digest_bytes, ec.ECDSA(hashed))
    else:
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        used = pss if "PSS" in algorithm else padding.PKCS1v15()
        made = private.sign(digest_bytes, used, hashed)
    return {"Signature": base64.b64encode(made).decode(), "SigningAlgorithm": algorithm}


def ml_dsa(key, asked):
    private, message = key.private_key.private_key, base64.b64decode(asked["Message"])
    if asked["MessageType"] == "EXTERNAL_MU" and len(message) == 64:
        return private.sign_mu(message)
    if asked["MessageType"] == "RAW" and len(message) <= 4096:
        return private.sign(message)
    return refuse("ValidationException", "Message is invalid for algorithm ML_DSA_SHAKE_256.")


@contextlib.contextmanager
def kms(monkeypatch, directory):
    """Run the server; the environment leads boto3, and every process started here, to it."""
    server = Server()
    monkeypatch.setattr(KmsResponse, "sign", lambda self: server.answer(self, signature))
    monkeypatch.setattr(KmsResponse, "get_public_key", lambda self: server.answer(self, public_key))
    monkeypatch.setattr(WSGIRequestHandler, "log", lambda self, *message: None)
    listener = moto.server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    listener.start()
    server.url = "http://{}:{}".format(*listener.get_host_and_port())
    environment = {
        "AWS_ENDPOINT_URL_KMS": server.url,
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": SESSION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(directory / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(directory / "credentials"),
    }
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        yield server
    finally:
        listener.stop()
