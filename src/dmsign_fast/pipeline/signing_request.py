"""A directory that takes what is to be signed to where the key is, and the signatures back.

``manifest.json`` says what each file is; ``chain.pem`` holds the certificates of the key; beside
each file NAME that is to be signed there will be its signature, NAME.sig. The files of other keys
have prefixes, see ``By``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.errors import FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.signing.certificates import name_of, parse_certificate
from dmsign_fast.signing.file_kinds import why_no_certificate
from dmsign_fast.signing.offline import Answers, check_answer
from dmsign_fast.signing.scheme import SCHEMES, Scheme
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509

    from dmsign_fast.outputs import Outputs

__all__ = ["By", "Message", "SigningRequest", "check_new", "root_hash_messages"]

_MANIFEST, _SUFFIX = "manifest.json", ".sig"
_VERSION = 2  # 1 knew one key
_LARGE = 16 << 20  # bytes of manifest.json: an index may have many manifests
_SMALL = 1 << 20  # bytes of any other file but blobs
_PIECE = 1 << 20
_MEMBERS = ("version", "kind", "made_by", "certificates", "to_sign", "made")


class By(StrEnum):
    """Which key signs; the value is the prefix of its files."""

    KEY = ""
    AND = "and-"
    MANIFEST = "manifest-"

    @property
    def chain(self) -> str:
        """The name of the file with the key's certificates."""
        return f"{self}chain.pem"


@dataclass(frozen=True)
class Message:
    """Something to be signed.

    Attributes:
        file: its name.
        what: what the message is, for a person to read.
        scheme: in which it is signed.
        content: all bytes of the file, and no others.
        by: whose key signs it.
    """

    file: str
    what: str
    scheme: Scheme
    content: bytes
    by: By

    @property
    def signature(self) -> str:
        """The name of the file that the signature goes to."""
        return self.file + _SUFFIX

    @property
    def json(self) -> dict[str, str]:
        """For manifest.json."""
        return {
            "file": self.file,
            "signature": self.signature,
            "what": self.what,
            "scheme": self.scheme.name,
            "digest_algorithm": self.scheme.digest,
            "certificates": self.by.chain,
            "sha256": hashlib.sha256(self.content).hexdigest(),
        }


@dataclass(frozen=True)
class SigningRequest:
    """All that is in the directory, but for signatures.

    Attributes:
        directory: where it is.
        kind: ``image`` or ``file``.
        chains: the certificates of each key, leaf first; each key signs something.
        messages: to be signed.
        made: what made them; JSON that ``kind`` gives a meaning.
    """

    directory: Path
    kind: str
    chains: Mapping[By, tuple[x509.Certificate, ...]]
    messages: tuple[Message, ...]
    made: Mapping[str, Any]

    def write(self, outputs: Outputs, agent: str | None) -> None:
        """Write all files into the directory, which must be new or empty.

        Raises:
            ParameterError: something is in it, or a name in the record is not text.
            StorageError: it cannot be written.
        """
        check_new(self.directory)
        with storage_errors("create", self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        record = {
            "version": _VERSION,
            "kind": self.kind,
            "made_by": agent,
            "certificates": {by.chain: _thumbprints(one) for by, one in self.chains.items()},
            "to_sign": [message.json for message in self.messages],
            "made": self.made,
        }
        for message in self.messages:
            outputs.write(self.directory / message.file, message.content)
        for by, chain in self.chains.items():
            content = b"".join(one.public_bytes(Encoding.PEM) for one in chain)
            outputs.write(self.directory / by.chain, content)
        try:
            text = json.dumps(record, indent=2, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError as error:
            raise ParameterError(f"a name is not UTF-8 text: {error.object!a}") from None
        outputs.write(self.directory / _MANIFEST, text)

    @classmethod
    def read(cls, directory: Path, kind: str) -> SigningRequest:
        """Read the directory, signatures apart.

        Raises:
            StorageError: a file is missing or cannot be read.
            FormatError: manifest.json is malformed, or of another kind.
            SigningError: a file was changed, or is no regular file.
        """
        what = str(directory / _MANIFEST)
        record = Members(read_object(_read(directory / _MANIFEST, _LARGE), what), _MEMBERS, what)
        if record.integer("version") != _VERSION:
            raise record.wrong("version", f"is not {_VERSION}: use the dmsign-fast that made it")
        if record.text("kind") != kind:
            raise record.wrong("kind", f"is {record.text('kind')}: this is for another command")
        chains = _chains(directory, record)
        messages = tuple(
            _message(directory, Members(one, (), f"{what}, to_sign[{number}]"))
            for number, one in enumerate(record.array("to_sign"))
        )
        if len({one.file for one in messages}) < len(messages):
            raise record.wrong("to_sign", "names a file twice")
        if chains.keys() != {By.KEY, *(one.by for one in messages)}:
            raise record.wrong("to_sign", "is not by the keys of the certificates")
        return cls(directory, kind, chains, messages, record.value("made"))

    @property
    def signers(self) -> dict[str, str]:
        """The subjects of those who sign: ``signer``, ``and_signer``, ``manifest_signer``."""
        used = {message.by for message in self.messages}
        return {
            f"{by}signer".replace("-", "_"): chain[0].subject.rfc4514_string()
            for by, chain in self.chains.items()
            if by in used
        }

    def answers(self) -> dict[By, Answers]:
        """The Signers of what is here.

        Raises:
            StorageError: signatures are missing.
            SigningError: a signature is not by the certificate's key, over the file, in its scheme.
        """
        missing = [one.signature for one in self.messages if not os.path.lexists(self._path(one))]
        if missing:
            raise StorageError(
                f"{self.directory} has no {', '.join(missing)}: sign {len(missing)} of "
                f"{len(self.messages)} files first"
            )
        signatures: dict[By, dict[tuple[bytes, Scheme], bytes]] = {by: {} for by in self.chains}
        for message in self.messages:
            path, leaf = self._path(message), self.chains[message.by][0]
            try:
                signatures[message.by][message.content, message.scheme] = check_answer(
                    leaf, message.content, _read(path, _SMALL), message.scheme
                )
            except SigningError as error:
                raise SigningError(
                    f"{path} is no good for {message.what}, by {name_of(leaf)}: {error}"
                ) from None
        return {by: Answers(chain, signatures[by]) for by, chain in self.chains.items()}

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a file of the directory, whatever it holds; StorageError if it cannot be read."""
        with _opened(self.directory / name) as file:
            while piece := file.read(_PIECE):
                yield piece

    def _path(self, message: Message) -> Path:
        return self.directory / message.signature


def root_hash_messages(
    root_hash: bytes, number: int, what: str, schemes: Mapping[By, Scheme]
) -> list[Message]:
    """A root hash, for each of the keys that sign it; ``what`` it is the root hash of."""
    content = root_hash_message(root_hash)
    return [
        Message(f"{by}root-hash-{number}.txt", f"the root hash of {what}", scheme, content, by)
        for by, scheme in schemes.items()
    ]


def check_new(directory: Path) -> None:
    """Raise ParameterError if there is something in the directory, StorageError if it is none."""
    with storage_errors("read", directory):
        if directory.exists() and any(directory.iterdir()):
            raise ParameterError(f"{directory} is not empty: give a new directory")


def _thumbprints(chain: Sequence[x509.Certificate]) -> list[str]:
    return [one.fingerprint(SHA256()).hex() for one in chain]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, and nothing else: a pipe or a device might never end, a link lead elsewhere."""
    with storage_errors("read", path):
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
                raise _changed(path) from None
            raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise _changed(path)
        with os.fdopen(fd, "rb") as file:
            yield file


def _changed(path: Path) -> SigningError:
    return SigningError(f"{path} is not a regular file, as prepare and who signs write it")


def _read(path: Path, limit: int) -> bytes:
    with _opened(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(f"{path} has more than {limit} bytes")
    return data


def _read_chain(path: Path) -> tuple[x509.Certificate, ...]:
    from cryptography import x509

    data = _read(path, _SMALL)
    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise FormatError(
            f"{path} holds no certificates in PEM ({why_no_certificate(data, error)}): prepare "
            "it again"
        ) from None
    return tuple(parse_certificate(one.public_bytes(Encoding.DER)) for one in found)


def _chains(directory: Path, record: Members) -> dict[By, tuple[x509.Certificate, ...]]:
    names = [by.chain for by in By]
    listed = Members(record.value("certificates"), names, f"{record.what}, certificates")
    chains = {}
    for by in By:
        if by is not By.KEY and not listed.has(by.chain):
            continue
        chains[by] = _read_chain(directory / by.chain)
        if _thumbprints(chains[by]) != list(listed.texts(by.chain)):
            raise SigningError(f"{directory / by.chain} was changed: prepare again")
    return chains


def _message(directory: Path, entry: Members) -> Message:
    schemes = {scheme.name: scheme for scheme in SCHEMES}
    keys = {by.chain: by for by in By}
    name = entry.text("file")
    if {"/", "\0"} & {*name} or name.startswith("."):
        raise entry.wrong("file", f"{name!r} is not the name of a file in the directory")
    if entry.text("scheme") not in schemes:
        raise entry.wrong("scheme", f"{entry.text('scheme')!r} is not known")
    if entry.text("certificates") not in keys:
        raise entry.wrong("certificates", f"{entry.text('certificates')!r} is not known")
    content = _read(directory / name, _SMALL)
    if hashlib.sha256(content).hexdigest() != entry.text("sha256"):
        raise SigningError(f"{directory / name} was changed: prepare again")
    scheme, by = schemes[entry.text("scheme")], keys[entry.text("certificates")]
    return Message(name, entry.text("what"), scheme, content, by)
