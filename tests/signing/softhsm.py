"""SoftHSM 2 with tokens of a test's own, and a module in front of it that answers with faults.

    with softhsm(directory) as hsm:
        token = hsm.token("signing")
        token.put(entity, b"\\1", "key")     # key, public key and certificate
        open_signer(token.uri("id=%01"), WITH_PIN)

Objects are put while no signer of the token lives: logging out ends the login of them all.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pkcs11
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from helpers import program, run
from helpers_pkcs7 import ROOT_HASH
from pkcs11 import Attribute, CertificateType, ObjectClass
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key
from pkcs11.util.rsa import decode_rsa_private_key, decode_rsa_public_key
from pki import Entity, der, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.signing.providers import KeyOptions
from dmsign_fast.signing.signer import Signer

PIN = b"1234 \xc3\xa9"
WITH_PIN = KeyOptions(secret=lambda what: PIN)
ROOT = make_root()
LEAF = make_leaf(make_intermediate(ROOT))


def module() -> Path:
    program("softhsm2-util")
    found = [
        *Path("/usr/lib/softhsm").glob("libsofthsm2.so"),
        *Path("/usr").glob("lib*/*/softhsm/libsofthsm2.so"),
        *Path("/usr").glob("lib*/**/libsofthsm2.so"),
    ]
    assert found, "libsofthsm2.so is missing: apt install softhsm2"
    return found[0].resolve()


def works(signer: Signer, leaf: Entity = LEAF) -> bool:
    assert signer.certificate_chain[0] == leaf.certificate
    signature = sign_root_hash(ROOT_HASH, signer)
    verify_root_hash(signature, ROOT_HASH, TrustAnchors(signer.certificate_chain))
    return True


def build_faults(directory: Path) -> Path:
    built, source = directory / "faults.so", Path(__file__).with_name("faults.c")
    warnings = ("-Wall", "-Wextra", "-Werror")
    done = run(
        program("gcc"), "-std=gnu17", "-shared", "-fPIC", "-O1", *warnings, "-o", built, source
    )
    assert done.exit_code == 0, done.err
    return built


def restart() -> None:
    """End every session; a module sees new tokens only when it starts, which is when next used."""
    gc.collect()  # errors of earlier tests may hold their signers
    for loaded in pkcs11._loaded.values():
        if loaded.initialized:
            loaded.finalize()


@dataclass(frozen=True)
class Token:
    label: str
    module: Path

    def uri(self, path: str = "", query: str = "") -> str:
        parts = "".join(f";{one}" for one in [path] if one)
        more = f"&{query}" if query else ""
        return f"pkcs11:token={self.label}{parts}?module-path={self.module}{more}"

    @contextlib.contextmanager
    def opened(self) -> Iterator[pkcs11.Session]:
        token = pkcs11.lib(str(self.module)).get_token(token_label=self.label)
        with token.open(rw=True, user_pin=PIN.decode()) as session:
            yield session

    def put(self, entity: Entity, key_id: bytes, label: str, *parts: str, **private: bool) -> None:
        """Put the parts, by default all: ``private``, ``public`` and ``certificate``.

        The other names are attributes of the private key, as in ``sign=False``.
        """
        with self.opened() as session:
            for part in parts or ("private", "public", "certificate"):
                attributes = {"private": _private, "public": _public, "certificate": _certificate}
                more = {Attribute[name.upper()]: value for name, value in private.items()}
                session.create_object(
                    {
                        **attributes[part](entity),
                        Attribute.TOKEN: True,
                        Attribute.ID: key_id,
                        Attribute.LABEL: label,
                        **(more if part == "private" else {}),
                    }
                )


def _private(entity: Entity) -> dict:
    form = (Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    decode = decode_rsa_private_key if hasattr(entity.key, "decrypt") else decode_ec_private_key
    flags = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.SIGN: True}
    return {**decode(entity.key.private_bytes(*form)), **flags}


def _public(entity: Entity) -> dict:
    public = entity.key.public_key()
    if hasattr(public, "encrypt"):
        return decode_rsa_public_key(public.public_bytes(Encoding.DER, PublicFormat.PKCS1))
    return decode_ec_public_key(
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )


def _certificate(entity: Entity) -> dict:
    return {
        Attribute.CLASS: ObjectClass.CERTIFICATE,
        Attribute.CERTIFICATE_TYPE: CertificateType.X_509,
        Attribute.SUBJECT: entity.certificate.subject.public_bytes(),
        Attribute.VALUE: der(entity.certificate),
    }


@dataclass(frozen=True)
class SoftHSM:
    directory: Path
    module: Path

    def token(self, label: str) -> Token:
        done = run(
            *(program("softhsm2-util"), "--init-token", "--free", "--label", label),
            *("--so-pin", "so pin", "--pin", os.fsdecode(PIN)),
        )
        assert done.exit_code == 0, done.err
        restart()
        return Token(label, self.module)

    def faulty(self, token: Token, faults: Path) -> Token:
        """Return the token behind ``faults.c``, which the environment tells what to answer."""
        restart()
        os.environ["FAULTS_MODULE"] = str(self.module)
        os.environ["FAULTS_LOG"] = str(self.directory / "calls")
        return Token(token.label, faults)

    def calls(self) -> list[str]:
        """What was called through ``faulty``, and the beginnings of its arguments."""
        return (self.directory / "calls").read_text().splitlines()


@contextlib.contextmanager
def softhsm(directory: Path, **settings: str) -> Iterator[SoftHSM]:
    """SoftHSM with no tokens, configured for this process and those that it starts."""
    (directory / "tokens").mkdir(parents=True)
    settings = {
        "directories.tokendir": str(directory / "tokens"),
        "objectstore.backend": "file",
        "log.level": "ERROR",
        **settings,
    }
    file = directory / "softhsm2.conf"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))
    with mock.patch.dict(os.environ, {"SOFTHSM2_CONF": str(file)}):
        try:
            yield SoftHSM(directory, module())
        finally:
            restart()
