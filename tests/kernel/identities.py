"""Who signs, and whom the kernel trusts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pki

from .authority_identifiers import make_named

ELSEWHERE = {"token": "EC-256", "plugin": "RSA-2048", "aws-kms": "EC-384", "azure-kv": "RSA-3072"}
"""Whose keys are not in files, see remote_keys.py."""
EMBEDDED = ("Ed25519", "EC-256K1", "EC-224")
"""Kinds of keys that Linux does not know."""


@dataclass(frozen=True)
class Identities:
    """All signers by name, their files in ``directory/NAME``, and who is enrolled."""

    directory: Path
    entities: dict[str, pki.Entity]
    files: dict[str, pki.Files]
    trusted: tuple[str, ...]

    def __getitem__(self, name: str) -> pki.Entity:
        return self.entities[name]

    @property
    def certificates(self) -> dict[str, bytes]:
        """The DER certificates to enrol, by name."""
        return {name: pki.der(self[name].certificate) for name in self.trusted}

    @property
    def anchors(self) -> bytes:
        """The same certificates, as ``verity verify --cert`` wants them."""
        return pki.pem(*(self[name].certificate for name in self.trusted))


def make_identities(directory: Path) -> Identities:
    """Make everyone, each with a key of their own, but for the impostor's name and serial."""
    own = {key: pki.make_leaf(name=f"Trusted {key}", key=key) for key in pki.KEY_SPECS}
    root, stranger = pki.make_root("Trusted Root"), pki.make_root("Untrusted Root")
    middle = pki.make_intermediate(stranger, "Trusted Middle")
    namer = pki.make_root("Trusted Namer")
    not_a_ca = pki.make_not_a_ca(pki.make_root("Anyone"))
    elsewhere = {name: pki.make_leaf(name=f"By {name}", key=key) for name, key in ELSEWHERE.items()}
    trusted = {
        **own,
        **elsewhere,
        "root": root,
        "middle": middle,
        "expired": pki.make_expired_leaf(name="Expired"),
        "usage": pki.make_no_signature_leaf(name="Not for signatures"),
        "v1": pki.make_v1_leaf(own["EC-256"]),
        "not a CA": not_a_ca,
        "late": pki.make_leaf(name="Late", start=pki.NOW + 2 * pki.DAY),
        "namer": namer,
        "below RSA": pki.make_leaf(pki.make_root("RSA Root", key="RSA-2048"), "Below RSA"),
    }
    known = own["RSA-2048"].certificate
    entities = {
        **trusted,
        **make_named(namer),
        **{
            f"embedded {kind}": pki.make_leaf(name=f"Embedded {kind}", key=kind)
            for kind in EMBEDDED
        },
        "below root": pki.make_leaf(root, "Below Root", key="RSA-2048"),
        "below between": pki.make_leaf(pki.make_intermediate(root, "Between"), "Below Between"),
        "below middle": pki.make_leaf(middle, "Below Middle"),
        "below stranger": pki.make_leaf(stranger, "Below Stranger"),
        "below not a CA": pki.make_leaf(not_a_ca, "Below Not A CA"),
        "sha1": pki.make_sha1_leaf(own["EC-256"]),
        "stranger": pki.make_leaf(name="Stranger", key="RSA-2048"),
        "impostor": pki.make_leaf(
            name="Trusted RSA-2048", key="RSA-2048", key_name="2", serial=known.serial_number
        ),
    }
    files = {name: entity.write(directory / name) for name, entity in entities.items()}
    return Identities(directory, entities, files, tuple(trusted))
