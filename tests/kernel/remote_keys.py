"""Where the keys are with which images in a registry are signed: in files, and elsewhere.

Each has the arguments of ``sign`` for one of Identities while it lasts; of the rest the environment
tells, as it tells the processes started meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pki
import pytest
from helpers import cli, write
from signing.kms_server import kms
from signing.softhsm import PIN, softhsm
from signing.vault_server import vault

from .identities import Identities

Arguments = tuple[str, ...]
Home = Callable[[Identities, str, Path], AbstractContextManager[Arguments]]


@contextlib.contextmanager
def _file(identities: Identities, name: str, _: Path) -> Iterator[Arguments]:
    files = identities.files[name]
    yield "--key", str(files.key), "--cert", str(files.chain)


@contextlib.contextmanager
def _token(identities: Identities, name: str, directory: Path) -> Iterator[Arguments]:
    with softhsm(directory) as hsm:
        token = hsm.token("kernel")
        token.put(identities[name], b"\1", name)
        pin = write(directory / "pin", PIN)
        yield "--key", token.uri(f"object={name};type=private"), "--passphrase-file", str(pin)


@contextlib.contextmanager
def _plugin(identities: Identities, name: str, directory: Path) -> Iterator[Arguments]:
    files = identities.files[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTATION_LIBEXEC", str(directory))
        done = cli("plugin", "install")
        assert done.exit_code == 0, done.err
        key = ("--key", f"plugin:dmsign?id=file:{files.key}", "--cert", str(files.chain))
        yield *key, "--plugin-config", f"cert={files.chain}"


@contextlib.contextmanager
def _aws_kms(identities: Identities, name: str, directory: Path) -> Iterator[Arguments]:
    with pytest.MonkeyPatch.context() as patch, kms(patch, directory) as server:
        key = f"aws-kms:{server.put(identities[name])}"
        yield "--key", key, "--cert", str(identities.files[name].chain)


@contextlib.contextmanager
def _azure_kv(identities: Identities, name: str, directory: Path) -> Iterator[Arguments]:
    with pytest.MonkeyPatch.context() as patch, vault(patch, directory) as server:
        server.put(name, identities[name])
        yield "--key", f"azure-kv://{server.host}/{name}"


SIGNERS: dict[str, Home] = {
    **dict.fromkeys(pki.KEY_SPECS, _file),
    "token": _token,
    "plugin": _plugin,
    "aws-kms": _aws_kms,
    "azure-kv": _azure_kv,
}
