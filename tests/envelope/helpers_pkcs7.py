"""Signing and verifying by entities of the test PKI, in one call each."""

from dataclasses import dataclass

from pki import Entity, openssl

from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.signing.local import LocalSigner
from dmsign_fast.signing.scheme import key_spec_of

ROOT_HASH = bytes.fromhex("4f53b76a0d1c2e3f") * 4


def signer_of(entity: Entity) -> LocalSigner:
    """A signer for the entity that was not checked, as a careless provider would make it."""
    return LocalSigner(key_spec_of(entity.key.public_key()), entity.chain, entity.key)


def sign(root_hash: bytes, entity: Entity, **options) -> bytes:
    return sign_root_hash(root_hash, signer_of(entity), **options)


def verify(signature: bytes, root_hash: bytes, *anchors, **options):
    return verify_root_hash(signature, root_hash, TrustAnchors(anchors), **options)


@dataclass(frozen=True)
class OpenSSL:
    """Signs with the openssl program: an entity's files and a message in one directory."""

    directory: object

    def sign(self, program: str, message: bytes, entity: Entity, *options: str, form="DER"):
        files = entity.write(self.directory)
        (self.directory / "message").write_bytes(message)
        openssl(
            *(program, "-sign", "-binary", "-in", "message", "-outform", form, "-out", "made"),
            *("-signer", str(files.leaf), "-inkey", str(files.key), *options),
            cwd=self.directory,
        )
        return (self.directory / "made").read_bytes()

    def verify(self, program: str, signature: bytes, message: bytes, entity: Entity, *options):
        files = entity.write(self.directory)
        (self.directory / "message").write_bytes(message)
        (self.directory / "signature").write_bytes(signature)
        return openssl(
            *(program, "-verify", "-binary", "-inform", "DER", "-in", "signature"),
            *("-content", "message", "-CAfile", str(files.chain), "-purpose", "any", *options),
            cwd=self.directory,
            check=False,
        )
