"""Signatures that dmsign-fast does not make, by openssl."""

from __future__ import annotations

from collections.abc import Callable

import pki
from helpers import noise

from .identities import Identities
from .images import Case, Change, Image

PLAIN = ("smime", "-noattr")
ATTRIBUTES = ("cms", "-nosmimecap")
SLIPS: dict[str, Callable[[bytes], bytes]] = {
    "newline": lambda text: text + b"\n",
    "upper-case": bytes.upper,
    "other-root-hash": lambda _: noise(32).hex().encode(),
    "raw-bytes": lambda text: bytes.fromhex(text.decode()),
}
"""What else is signed in place of the root hash."""


def by_openssl(
    *arguments: str,
    signer: str = "RSA-2048",
    digest: str = "sha256",
    slip: Callable[[bytes], bytes] = bytes,
    edit: Callable[[bytes], bytes] = bytes,
) -> Change:
    """Put a signature by a command of openssl in place of ours.

    It is of what ``slip`` makes of the root hash, and then edited. The command runs where the files
    of Identities are: ``NAME/leaf.pem`` and others.
    """
    command, *options = arguments

    def change(image: Image, identities: Identities) -> None:
        files = identities.files[signer]
        message = identities.directory / "message"
        message.write_bytes(slip(image.root_hash.read_bytes()))
        pki.openssl(
            *(command, "-sign", "-binary", "-in", str(message), "-outform", "DER", "-md", digest),
            *("-out", str(image.signature), "-signer", str(files.leaf), "-inkey", str(files.key)),
            *options,
            cwd=identities.directory,
        )
        image.signature.write_bytes(edit(image.signature.read_bytes()))

    return change


def openssl_case(
    name: str, *arguments: str, expected: str = "reads", stricter: bool = False, **options
) -> Case:
    """Return a case with a signature by openssl, see by_openssl."""
    return Case(name, expected, change=by_openssl(*arguments, **options), stricter=stricter)
