"""A directory that takes what is to be signed to where the key is, and the signatures back.

``manifest.json`` says what each file is; ``chain.pem`` holds the certificates; beside each file
NAME that is to be signed there will be its signature, NAME.sig.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from dmsign_fast.errors import FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.outputs import storage_errors
from dmsign_fast.signing.certificates import name_of, parse_certificate
from dmsign_fast.signing.offline import Answers, check_answer
from dmsign_fast.signing.scheme import SCHEMES, Scheme
from dmsign_fast.strict_json import Members, read_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography import x509

    from dmsign_fast.outputs import Outputs

__all__ = ["Message", "SigningRequest", "check_new"]

_MANIFEST, _CHAIN, _SUFFIX = "manifest.json", "chain.pem", ".sig"
_VERSION = 1
_LARGE = 16 << 20  # bytes of manifest.json: an index may have many manifests
_SMALL = 1 << 20  # bytes of any other file but blobs
_PIECE = 1 << 20
_MEMBERS = ("version", "kind", "made_by", "certificates", "to_sign", "made")


@dataclass(frozen=True)
class Message:
    """Something to be signed.

    Attributes:
        file: its name.
        what: what the message is, for a person to read.
        scheme: in which it is signed.
        content: all bytes of the file, and no others.
    """

    file: str
    what: str
    scheme: Scheme
    content: bytes

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
            "sha256": hashlib.sha256(self.content).hexdigest(),
        }


@dataclass(frozen=True)
class SigningRequest:
    """All that is in the directory, but for signatures.

    Attributes:
        directory: where it is.
        kind: ``image`` or ``file``.
        chain: of the signer, leaf first.
        messages: to be signed.
        made: what made them; JSON that ``kind`` gives a meaning.
    """

    directory: Path
    kind: str
    chain: tuple[x509.Certificate, ...]
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
            "certificates": _thumbprints(self.chain),
            "to_sign": [message.json for message in self.messages],
            "made": self.made,
        }
        for message in self.messages:
            outputs.write(self.directory / message.file, message.content)
        chain = b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)
        outputs.write(self.directory / _CHAIN, chain)
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
        chain = _read_chain(directory / _CHAIN)
        if _thumbprints(chain) != list(record.texts("certificates")):
            raise SigningError(f"{directory / _CHAIN} was changed: prepare again")
        messages = tuple(
            _message(directory, Members(one, (), f"{what}, to_sign[{number}]"))
            for number, one in enumerate(record.array("to_sign"))
        )
        if len({one.file for one in messages}) < len(messages):
            raise record.wrong("to_sign", "names a file twice")
        return cls(directory, kind, chain, messages, record.value("made"))

    def answers(self) -> Answers:
        """A Signer of what is here.

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
        signatures = {}
        for message in self.messages:
            path = self._path(message)
            try:
                signatures[message.content, message.scheme] = check_answer(
                    self.chain[0], message.content, _read(path, _SMALL), message.scheme
                )
            except SigningError as error:
                raise SigningError(
                    f"{path} is no good for {message.what}, by {name_of(self.chain[0])}: {error}"
                ) from None
        return Answers(self.chain, signatures)

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield a file of the directory, whatever it holds; StorageError if it cannot be read."""
        with _opened(self.directory / name) as file:
            while piece := file.read(_PIECE):
                yield piece

    def _path(self, message: Message) -> Path:
        return self.directory / message.signature


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
        raise FormatError(f"{path} holds no certificates in PEM: {error}") from None
    return tuple(parse_certificate(one.public_bytes(Encoding.DER)) for one in found)


def _message(directory: Path, entry: Members) -> Message:
    schemes = {scheme.name: scheme for scheme in SCHEMES}
    name = entry.text("file")
    if name != name.replace("/", "") or name.startswith("."):
        raise entry.wrong("file", f"{name!r} is not the name of a file in the directory")
    if entry.text("scheme") not in schemes:
        raise entry.wrong("scheme", f"{entry.text('scheme')!r} is not known")
    content = _read(directory / name, _SMALL)
    if hashlib.sha256(content).hexdigest() != entry.text("sha256"):
        raise SigningError(f"{directory / name} was changed: prepare again")
    return Message(name, entry.text("what"), schemes[entry.text("scheme")], content)
