"""The real notation, and a little OCI layout for it to sign and verify in.

notation comes from Debian sid's package, which runs on any Debian since 12. Its configuration
and everything else that it reads or writes is in the test's own directory.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from debian import unpacked
from helpers import Done, run
from pki import Entity, der, pem

PACKAGE = (
    "notation",
    "sid",
    "1.3.2-2",
    "f99975ecb56869b85290b30322167d1392e7f7d4eebb40a8bec4386bb95a6789",
)
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    "size": 2,
}
SCOPE = "local/test"


def descriptor_of(data: bytes, media_type: str, **more) -> dict:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(data), **more}


class Layout:
    """An OCI image layout with one empty image, tagged ``v1``, and its signatures."""

    def __init__(self, root: Path):
        self.root = root
        (root / "blobs/sha256").mkdir(parents=True)
        (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        config = self.blob(b"{}", EMPTY["mediaType"])
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": []}
        self.image = self.blob(json.dumps(manifest).encode(), MANIFEST_TYPE)
        self._index([self.image | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}])

    @property
    def reference(self) -> str:
        return f"{self.root}@{self.image['digest']}"

    def blob(self, data: bytes, media_type: str) -> dict:
        descriptor = descriptor_of(data, media_type)
        (self.root / "blobs/sha256" / descriptor["digest"].partition(":")[2]).write_bytes(data)
        return descriptor

    def read(self, descriptor: dict) -> bytes:
        return (self.root / "blobs" / descriptor["digest"].replace(":", "/")).read_bytes()

    def attach(self, envelope: bytes, media_type: str, chain) -> None:
        """Make this envelope the only signature of the image, as notation writes one."""
        thumbprints = [hashlib.sha256(one).hexdigest() for one in chain]
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.blob(b"{}", "application/vnd.cncf.notary.signature"),
            "layers": [self.blob(envelope, media_type)],
            "subject": self.image,
            "annotations": {
                "io.cncf.notary.x509chain.thumbprint#S256": json.dumps(thumbprints),
                "org.opencontainers.image.created": "2026-01-01T00:00:00Z",
            },
        }
        image = self.image | {"annotations": {"org.opencontainers.image.ref.name": "v1"}}
        self._index([image, self.blob(json.dumps(manifest).encode(), MANIFEST_TYPE)])

    def signatures(self, media_type: str = "application/") -> list[tuple[bytes, str]]:
        """Return the envelopes of that media type, each with its type."""
        index = json.loads((self.root / "index.json").read_text())
        # notation lists manifests in the order of a map of Go, which is another every time
        manifests = [json.loads(self.read(one)) for one in index["manifests"]]
        layers = [layer for one in manifests if "subject" in one for layer in one["layers"]]
        return [
            (self.read(layer), layer["mediaType"])
            for layer in layers
            if layer["mediaType"].startswith(media_type)
        ]

    def signature(self, media_type: str = "application/") -> tuple[bytes, str]:
        """Return the only one."""
        (found,) = self.signatures(media_type)
        return found

    def _index(self, manifests: list[dict]) -> None:
        index = {"schemaVersion": 2, "manifests": manifests}
        (self.root / "index.json").write_text(json.dumps(index))


@dataclass(frozen=True)
class Notation:
    """notation with a configuration of its own in ``home``."""

    home: Path

    @property
    def config(self) -> Path:
        return self.home / "notation"

    def trust(self, *roots: bytes, policy: dict | None = None, store: str = "ca/test") -> None:
        """Put these certificates into a trust store, and trust it, or what ``policy`` says."""
        directory = self.config / "truststore/x509" / store
        directory.mkdir(parents=True, exist_ok=True)
        for number, root in enumerate(roots):
            (directory / f"{number}.pem").write_bytes(root)
        statement = {
            "name": "test",
            "registryScopes": ["*"],
            "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:test"],
            "trustedIdentities": ["*"],
        }
        document = {"version": "1.0", "trustPolicies": [statement | (policy or {})]}
        (self.config / "trustpolicy.json").write_text(json.dumps(document))

    def use_key(self, entity: Entity) -> None:
        """Make the entity's key, with its whole chain, the default for signing."""
        files = entity.write(self.home / "keys")
        key = {"name": "test", "keyPath": str(files.key), "certPath": str(files.chain)}
        self.config.mkdir(parents=True, exist_ok=True)
        keys = {"default": "test", "keys": [key]}
        (self.config / "signingkeys.json").write_text(json.dumps(keys))

    def __call__(self, command: str, *arguments: object) -> Done:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "NOTATION_CONFIG": str(self.config),
            "XDG_CONFIG_HOME": str(self.home),
            "XDG_CACHE_HOME": str(self.home / "cache"),
            "NOTATION_EXPERIMENTAL": "1",
            # what a plugin of ours needs to be the one under test
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        }
        program = unpacked(*PACKAGE) / "usr/bin/notation"
        return run(program, command, *arguments, env=environment, cwd=self.home)

    def verify(self, layout: Layout, *options: object) -> Done:
        return self(
            "verify", "--oci-layout", layout.reference, "--scope", SCOPE, "--verbose", *options
        )

    def sign(self, layout: Layout, media_type: str, *options: object) -> Done:
        form = {"application/jose+json": "jws", "application/cose": "cose"}[media_type]
        return self("sign", "--oci-layout", layout.reference, "--signature-format", form, *options)


def accepts(home: Path, layout: Layout, envelope: bytes, media_type: str, entity: Entity) -> Done:
    """Let notation verify this envelope, with the entity's root trusted."""
    notation = Notation(home)
    notation.trust(pem(entity.root))
    layout.attach(envelope, media_type, [der(one) for one in entity.chain])
    return notation.verify(layout)
