"""A signer whose private key is in Azure Key Vault, with its certificate there or in a file.

The options are those of notation-azure-kv, in the URI or as plugin config, but for ``chain``: a
certificate's secret holds the private key too if that is exportable, so it is read when asked.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from dmsign_fast.errors import ParameterError, SigningError
from dmsign_fast.signing.certificates import (
    chain_of_key,
    load_certificates,
    moment,
    name_of,
    one_line,
    parse_certificate,
)
from dmsign_fast.signing.providers import KeyOptions, extra
from dmsign_fast.signing.scheme import (
    KEYS,
    Family,
    KeySpec,
    Scheme,
    certificate_key_spec,
    from_fixed_width,
    key_spec_of,
)
from dmsign_fast.signing.signer import Signer

with extra("azure"):
    import azure.identity
    from azure.core.credentials import TokenCredential
    from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
    from azure.core.pipeline.policies import RetryPolicy
    from azure.core.rest import HttpRequest
    from azure.keyvault.certificates import CertificateClient
    from azure.keyvault.keys import KeyClient, KeyVaultKey
    from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm

__all__ = ["VaultSigner", "open_signer"]

# Without a handler Python prints what azure-identity warns of, which the error says.
logging.getLogger("azure").addHandler(logging.NullHandler())

_PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_VERSION = "[0-9A-Fa-f]{32}"
_URI = re.compile(
    r"//(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]{1,5})?)/(?P<name>[A-Za-z0-9-]+)"
    rf"(?:/(?P<version>{_VERSION}))?"
)
_CREDENTIALS = {  # by the names of notation-azure-kv
    "default": azure.identity.DefaultAzureCredential,
    "environment": azure.identity.EnvironmentCredential,
    "workloadid": azure.identity.WorkloadIdentityCredential,
    "managedid": azure.identity.ManagedIdentityCredential,
    "azurecli": azure.identity.AzureCliCredential,
}
_OPTIONS = {  # and their values
    "ca_certs": None,
    "chain": ("secret",),
    "credential_type": tuple(_CREDENTIALS),
    "self_signed": ("true", "false"),
}
_ALGORITHMS = {Family.RSA_PKCS1: "RS", Family.RSA_PSS: "PS", Family.ECDSA: "ES"}
_CURVES = {f"P-{kind.size}": kind.curve for kind in KEYS.values() if kind.curve}
_REMEDIES = {  # by status of the vault's answer
    401: "renew the credential, as with 'az login', and check that it is of the vault's tenant",
    403: "allow keys/sign, and certificates/get or with --cert keys/get, and look at the vault's "
    "firewall and whether the key is enabled and not expired",
    404: "check the vault, the name and the version",
    429: "the vault is throttling: try again later",
}


class _Retry(RetryPolicy[Any, Any]):
    """The SDK's: three times when the vault throttles or fails, but never waiting for long."""

    def get_retry_after(self, response: Any) -> float | None:
        seconds: float | None = super().get_retry_after(response)
        return None if seconds is None else min(seconds, 60)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a URI says that the key is; ``version`` "" is the latest."""

    vault: str
    name: str
    version: str

    def __str__(self) -> str:
        host = self.vault.removeprefix("https://")
        return "/".join(filter(None, (host, self.name, self.version)))


@dataclass(frozen=True, slots=True)
class VaultSigner:
    """A Signer over one version of a key in Azure Key Vault; make one with ``open_signer``."""

    key_spec: KeySpec
    certificate_chain: tuple[x509.Certificate, ...]
    _client: CryptographyClient = field(repr=False)
    _place: _Place

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        """Return the raw signature over ``message``; see ``Signer.sign``."""
        scheme.check_key(self.key_spec)
        algorithm = scheme.named(_ALGORITHMS, "Azure Key Vault") + scheme.bits
        digest = hashlib.new(scheme.digest, message).digest()
        with _errors(self._place):
            # The SDK takes a POST for what must not be repeated; to sign twice does no harm.
            answer = self._client.sign(
                SignatureAlgorithm(algorithm), digest, retry_on_methods=("GET", "POST")
            )
        return from_fixed_width(answer.signature or b"", scheme)


def open_signer(uri: str, options: KeyOptions) -> Signer:
    """Return the signer of ``azure-kv://VAULT/NAME[/VERSION]`` or ``azure-kv:https://...``.

    VAULT is a name in vault.azure.net or a host; the URL is the identifier of a key or
    certificate, as notation-azure-kv takes it. The latest version is looked up here, once. With
    certificates in the options the key alone is asked for; otherwise the vault's certificate is
    read, and completed from ``ca_certs=FILE`` or, by ``chain=secret``, its secret.

    Raises ParameterError for the URI and the options, SigningError when the vault refuses and for
    a chain that must not sign.
    """
    place, settings = _parse(uri, options)
    with _errors(place):
        credential = _CREDENTIALS[settings.get("credential_type", "default")]()
    certificates: tuple[x509.Certificate, ...]
    public_key: object
    if options.certificates:
        certificates = load_certificates(options.certificates)
        place, public_key = _vault_key(place, credential)
    else:
        place, certificates = _vault_certificates(place, credential, settings)
        public_key = None
    try:
        if public_key is None:
            certificate_key_spec(certificates[0])  # which says what cannot be read
            public_key = certificates[0].public_key()
        key_spec = key_spec_of(public_key)
        chain = chain_of_key(public_key, certificates, moment(options.at))
    except SigningError as error:
        raise SigningError(f"{options.certificates or place}: {error}") from None
    # Given the public key the SDK does not ask for it, and keys/get is not needed.
    key = KeyVaultKey(
        f"{place.vault}/keys/{place.name}/{place.version}", _to_jwk(cast("_PublicKey", public_key))
    )
    with _errors(place):
        client = CryptographyClient(key, credential, **_client_options())
    return VaultSigner(key_spec, chain, client, place)


def _parse(uri: str, options: KeyOptions) -> tuple[_Place, Mapping[str, str]]:
    """Where the key is, and the options by name, from the URI and the plugin config."""
    rest, _, query = uri.removeprefix("azure-kv:").partition("?")
    found = _URI.fullmatch(re.sub(r"\Ahttps:(//[^/]+)/(?:keys|certificates)/", r"\1/", rest))
    try:
        members = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        found, members = None, []
    if not found or len(dict(members)) < len(members):
        raise ParameterError(
            f"{uri} is not azure-kv://VAULT/NAME or azure-kv://VAULT/NAME/VERSION, "
            "nor azure-kv: with the https: identifier of a key or certificate"
        )
    settings = {**options.config, **dict(members)}
    for name, value in settings.items():
        if name not in _OPTIONS:
            raise ParameterError(f"{name} is no option of azure-kv: it has {', '.join(_OPTIONS)}")
        if values := _OPTIONS[name]:
            settings[name] = value.lower()
            if value.lower() not in values:
                raise ParameterError(f"{name}={value} is not one of {', '.join(values)}")
    if settings.get("self_signed") == "false":
        del settings["self_signed"]
    sources: list[str] = [name for name in ("ca_certs", "chain", "self_signed") if name in settings]
    sources += ["--cert"] if options.certificates else []
    if len(sources) > 1:
        raise ParameterError(f"of {' and '.join(sources)} only one can say what the chain is")
    host = found["host"]
    vault = host if "." in host or ":" in host else f"{host}.vault.azure.net"
    return _Place(f"https://{vault}", found["name"], found["version"] or ""), settings


def _vault_key(place: _Place, credential: TokenCredential) -> tuple[_Place, _PublicKey]:
    """The key with its version, and its public half."""
    with _errors(place), KeyClient(place.vault, credential, **_client_options()) as client:
        found = client.get_key(place.name, place.version or None)
    jwk: Any = found.key  # whose attributes are not typed
    try:
        if jwk.n and jwk.e:
            numbers = rsa.RSAPublicNumbers(int.from_bytes(jwk.e), int.from_bytes(jwk.n))
            return _latest(place, found.id), numbers.public_key()
        point = int.from_bytes(jwk.x), int.from_bytes(jwk.y)
        public_key = ec.EllipticCurvePublicNumbers(*point, _CURVES[jwk.crv]).public_key()
    except (KeyError, TypeError, ValueError):
        kind = " ".join(filter(None, (jwk.kty, jwk.crv)))
        raise SigningError(
            f"{place}: no support for a key of the kind {kind}; use one of {', '.join(KeySpec)}"
        ) from None
    return _latest(place, found.id), public_key


def _to_jwk(public_key: _PublicKey) -> dict[str, object]:
    def number(value: int) -> bytes:
        return value.to_bytes((value.bit_length() + 7) // 8)

    if isinstance(public_key, rsa.RSAPublicKey):
        rsa_numbers = public_key.public_numbers()
        return {"kty": "RSA", "n": number(rsa_numbers.n), "e": number(rsa_numbers.e)}
    numbers = public_key.public_numbers()
    curve = next(name for name, one in _CURVES.items() if one.name == numbers.curve.name)
    return {"kty": "EC", "crv": curve, "x": number(numbers.x), "y": number(numbers.y)}


def _vault_certificates(
    place: _Place, credential: TokenCredential, settings: Mapping[str, str]
) -> tuple[_Place, tuple[x509.Certificate, ...]]:
    """The key with its version, the vault's certificate of it, and what completes the chain."""
    with CertificateClient(place.vault, credential, **_client_options()) as client:
        with _errors(place):
            found = (
                client.get_certificate_version(place.name, place.version)
                if place.version
                else client.get_certificate(place.name)
            )
        leaf = parse_certificate(bytes(found.cer or b""))
        place = _latest(place, found.key_id or "")
        if "chain" in settings:
            path = f"{place.vault}/secrets/{place.name}/{place.version}"
            with _errors(place):
                answer = client.send_request(HttpRequest("GET", path))
                answer.raise_for_status()
                secret = answer.json()
            return place, (leaf, *_from_secret(place, secret))
    if "ca_certs" in settings:
        return place, (leaf, *load_certificates(Path(settings["ca_certs"])))
    if leaf.issuer != leaf.subject:
        raise SigningError(
            f"the certificate {name_of(leaf)} at {place} was issued by {one_line(leaf.issuer)}: "
            "give the certificates above it with ca_certs=FILE, or have them read from the vault "
            "with chain=secret, which needs secrets/get"
        )
    return place, (leaf,)


def _from_secret(place: _Place, secret: Mapping[str, Any]) -> tuple[x509.Certificate, ...]:
    """The certificates of a certificate's secret; a private key beside them is let go."""
    kind, value = secret.get("contentType"), str(secret.get("value", ""))
    try:
        if kind == "application/x-pem-file":
            return tuple(x509.load_pem_x509_certificates(value.encode()))
        if kind == "application/x-pkcs12":
            found = load_pkcs12(base64.b64decode(value, validate=True), None)
            chain = (found.cert, *found.additional_certs)
            return tuple(one.certificate for one in chain if one)
    except ValueError:
        pass  # with the library's exception, which saw the key
    raise SigningError(
        f"the secret of {place} is no PEM or PKCS#12 with its certificates (its content type is "
        f"{kind}); give ca_certs=FILE instead"
    )


def _latest(place: _Place, key_id: str) -> _Place:
    """The place with its version; asked for one that it does not have, a vault gives the latest."""
    version = key_id.rpartition("/")[2]
    if not re.fullmatch(_VERSION, version) or place.version not in ("", version):
        raise SigningError(f"{place}: Azure Key Vault answers with another version, {version}")
    return replace(place, version=version)


def _client_options() -> dict[str, Any]:
    return {
        "api_version": "7.4",  # which every cloud has, and not what the SDK of the day prefers
        "retry_policy": _Retry(),
        "connection_timeout": 10,
        "read_timeout": 30,
    }


@contextlib.contextmanager
def _errors(what: _Place) -> Iterator[None]:
    """Say which key the vault refuses, why, and what to do about it."""
    try:
        yield
    except HttpResponseError as error:
        said = error.error.message if error.error else None
        why = " ".join(str(said or error.message).split())
        if isinstance(error, ClientAuthenticationError):
            raise SigningError(
                f"no access to {what} in Azure Key Vault: {why}; {_REMEDIES[401]}"
            ) from error
        status = error.status_code or 0
        remedy = _REMEDIES.get(status, "see the documentation of Azure Key Vault")
        raise SigningError(f"Azure Key Vault refuses {what}: {status}: {why}; {remedy}") from error
    except (AzureError, ValueError) as error:  # ValueError is for settings and challenges
        why = " ".join(str(error).split())
        raise SigningError(f"Azure Key Vault cannot be asked for {what}: {why}") from error
