"""A signer whose private key is in AWS KMS, which keeps no certificates: those are from a file.

Credentials, profile, proxy and endpoint are boto3's own, from the environment and ``~/.aws``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.certificates import chain_of_key, load_certificates, moment
from dmsign_fast.signing.providers import KeyOptions, extra
from dmsign_fast.signing.scheme import Family, KeySpec, Scheme, key_spec_of, ml_dsa_problem
from dmsign_fast.signing.signer import Signer

with extra("aws"):
    from boto3.session import Session
    from botocore.client import BaseClient
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

__all__ = ["KmsSigner", "open_signer"]

_ARN = re.compile(r"arn:[a-z0-9-]+:kms:([a-z0-9-]+):[0-9]{12}:(?:key/[\w-]+|alias/[\w/-]+)", re.A)
_ID = re.compile(r"[\w-]+|alias/[\w/-]+", re.ASCII)
_ALGORITHMS = {  # with the size of the digest
    Family.RSA_PKCS1: "RSASSA_PKCS1_V1_5_SHA_{}",
    Family.RSA_PSS: "RSASSA_PSS_SHA_{}",
    Family.ECDSA: "ECDSA_SHA_{}",
    Family.ML_DSA: "ML_DSA_SHAKE_256",
}
_CREDENTIALS = "renew the credentials that boto3 finds, as with 'aws sso login'"
_REMEDIES = {  # by error code of the service
    "NotFoundException": "check the region and the key's id or alias",
    "AccessDeniedException": "allow kms:GetPublicKey and kms:Sign on the key, in its policy or IAM",
    "DisabledException": "enable the key",
    "KMSInvalidStateException": "enable the key, or cancel its deletion",
    "InvalidKeyUsageException": "use a key made for SIGN_VERIFY",
    "UnsupportedOperationException": "use an asymmetric key made for SIGN_VERIFY",
    "ExpiredTokenException": _CREDENTIALS,
    "UnrecognizedClientException": _CREDENTIALS,
    "InvalidClientTokenId": _CREDENTIALS,
    "InvalidSignatureException": "check the secret access key and this machine's clock",
    "ThrottlingException": "try again later, with more of AWS_MAX_ATTEMPTS",
}


@dataclass(frozen=True, slots=True)
class KmsSigner:
    """A Signer over an asymmetric key in AWS KMS; make one with ``open_signer``."""

    key_spec: KeySpec
    certificate_chain: tuple[x509.Certificate, ...]
    _client: BaseClient = field(repr=False)
    _key_id: str

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over ``message``; see ``Signer.sign``."""
        scheme.check_key(self.key_spec)
        if scheme.family is Family.ML_DSA:
            kind, digest = "EXTERNAL_MU", _mu(self.certificate_chain[0].public_key(), message)
        else:
            kind, digest = "DIGEST", hashlib.new(scheme.digest, message).digest()
        with _errors(self._key_id):
            answer = self._client.sign(
                KeyId=self._key_id,
                Message=digest,
                MessageType=kind,
                SigningAlgorithm=scheme.named(_ALGORITHMS, "AWS KMS").format(scheme.bits),
            )
        return bytes(answer["Signature"])


def _mu(public_key: Any, message: bytes) -> bytes:
    """What pure ML-DSA signs of a message with an empty context (FIPS 204, algorithm 7, line 6).

    KMS takes messages of up to 4096 bytes too, and makes the same signatures of them.
    """
    key = hashlib.shake_256(public_key.public_bytes_raw()).digest(64)
    return hashlib.shake_256(key + b"\0\0" + message).digest(64)


def open_signer(uri: str, options: KeyOptions) -> Signer:
    """Return the signer of ``aws-kms:ARN`` or ``aws-kms://[REGION]/ID``, with its certificates.

    ID is a key's id, ``alias/NAME`` or an ARN; without REGION it is that of the ARN or of boto3's
    configuration. An alias is resolved here, once. Raises ParameterError for the URI, and
    SigningError without certificates, when KMS refuses, and for a key that is not for signing.
    """
    region, key_id = _parse(uri)
    if options.certificates is None:
        raise SigningError(f"{uri}: AWS KMS keeps no certificates; give the key's with --cert")
    certificates = load_certificates(options.certificates)
    with _errors(key_id):
        # "standard" also retries when KMS throttles or fails, 3 attempts or AWS_MAX_ATTEMPTS.
        config = Config(retries={"mode": "standard"}, connect_timeout=10, read_timeout=30)
        client = Session().client("kms", region_name=region, config=config)
        answer = client.get_public_key(KeyId=key_id)
    usage = answer.get("KeyUsage")
    if usage != "SIGN_VERIFY":
        raise SigningError(
            f"the key {key_id} in AWS KMS is for {usage}; use one made for SIGN_VERIFY"
        )
    try:
        public_key = load_der_public_key(answer["PublicKey"])
        key_spec = key_spec_of(public_key)
    except (ValueError, UnsupportedAlgorithm, SigningError) as error:
        missing = str(answer.get("KeySpec")).startswith("ML_DSA") and ml_dsa_problem()
        raise SigningError(f"the public key of {key_id} in AWS KMS: {missing or error}") from None
    try:
        chain = chain_of_key(public_key, certificates, moment(options.at))
    except SigningError as error:
        raise SigningError(f"{options.certificates}: {error}") from None
    return KmsSigner(key_spec, chain, client, answer["KeyId"])


def _parse(uri: str) -> tuple[str | None, str]:
    """The region, None for boto3's own, and the key's id."""
    rest = uri.removeprefix("aws-kms:")
    region = ""
    if rest.startswith("//"):
        region, _, rest = rest.removeprefix("//").partition("/")
    arn = _ARN.fullmatch(rest)
    if arn and region in ("", arn[1]):
        return arn[1], rest
    if not uri.startswith("aws-kms://") or not _ID.fullmatch(rest):
        raise ParameterError(
            f"{uri} is not aws-kms:ARN or aws-kms://REGION/ID, where ID is the key's or alias/NAME"
        )
    return region or None, rest


@contextlib.contextmanager
def _errors(key_id: str) -> Iterator[None]:
    """Say which key AWS KMS refuses, why, and what to do about it."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        why = error.response.get("Error", {}).get("Message") or "no reason given"
        remedy = _REMEDIES.get(code, "see the documentation of AWS KMS")
        raise SigningError(f"AWS KMS refuses the key {key_id}: {code}: {why}; {remedy}") from error
    except NoCredentialsError as error:
        raise SigningError(
            "there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or run 'aws configure'"
        ) from error
    except NoRegionError as error:
        raise SigningError(
            f"in which region is {key_id}? name it, aws-kms://REGION/{key_id}, or set AWS_REGION"
        ) from error
    except (BotoCoreError, ValueError) as error:  # ValueError is for an endpoint that is no URL
        raise SigningError(f"AWS KMS cannot be asked for the key {key_id}: {error}") from error
