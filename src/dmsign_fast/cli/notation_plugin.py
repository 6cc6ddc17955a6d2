"""``notation-dmsign``: our keys for notation, and for every other program that has its plugins.

A key's id is its URI (``signing.providers``). The configuration of the plugin names a file of
certificates and where the passphrase is, never the passphrase itself.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast import __version__
from dmsign_fast.cli.keys import secret_of
from dmsign_fast.errors import DmsignError, FormatError, ParameterError, SigningError, StorageError
from dmsign_fast.strict_json import Members, dump_json, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dmsign_fast.signing.plugin_contract import Metadata
    from dmsign_fast.signing.scheme import KeySpec, Scheme
    from dmsign_fast.signing.signer import Signer

__all__ = ["main"]

_CONFIG = ("cert", "passphrase_file", "passphrase_env", "signing_scheme")
_WRONG_REQUEST = (ParameterError, FormatError, StorageError)


class _UnsupportedVersionError(ParameterError):
    """A contract of another version than ours."""


def _metadata() -> Metadata:
    """What we say of ourselves."""
    from dmsign_fast.signing.plugin_contract import CONTRACT_VERSION, RAW, Metadata

    # semantic versioning has 0.1.0-dev.0 for what Python calls 0.1.0.dev0
    version = re.sub(r"(\d)\.?(a|b|rc|dev)(\d+)$", r"\1-\2.\3", __version__)
    return Metadata(
        name="dmsign",
        description="Keys in files, tokens and clouds, for root hashes and manifests",
        version=version,
        url="https://pypi.org/project/dmsign-fast/",
        contract_versions=(CONTRACT_VERSION,),
        capabilities=(RAW,),
    )


def _answer(command: str, data: bytes) -> dict[str, Any]:
    from dmsign_fast.signing import plugin_contract as contract
    from dmsign_fast.signing.scheme import notary_scheme

    if command == contract.GET_METADATA:
        return _metadata().to_json()
    if command not in (contract.DESCRIBE_KEY, contract.GENERATE_SIGNATURE):
        raise ParameterError(f"no support for {command or 'no command'}")
    known = ("contractVersion", "keyId", "pluginConfig", "keySpec", "hashAlgorithm", "payload")
    request = Members(read_object(data, "the request"), known, "the request")
    version = request.text("contractVersion")
    if version.partition(".")[0] != contract.CONTRACT_VERSION.partition(".")[0]:
        raise _UnsupportedVersionError(f"no support for version {version} of the contract")
    config = request.annotations("pluginConfig")
    key_id = request.text("keyId")
    signer = _open(key_id, config)
    notary_scheme(signer.key_spec)  # SigningError for keys that the contract does not know
    if command == contract.DESCRIBE_KEY:
        return {"keyId": key_id, "keySpec": signer.key_spec}
    return {"keyId": key_id, **_sign(request, signer, config)}


def _open(key_id: str, config: Mapping[str, str]) -> Signer:
    from dmsign_fast.signing.providers import KeyOptions, open_signer

    if key_id.startswith("plugin:"):
        raise ParameterError("a key of another plugin: use that plugin itself")
    if unknown := sorted(set(config) - set(_CONFIG)):
        raise ParameterError(
            f"no support for {', '.join(unknown)} in the configuration of the plugin; there are "
            f"{', '.join(_CONFIG)}"
        )
    certificates = config.get("cert")
    options = KeyOptions(
        certificates=Path(certificates) if certificates else None, secret=_secret(config)
    )
    return open_signer(key_id, options)


def _secret(config: Mapping[str, str]) -> Callable[[str], bytes]:
    file, variable = config.get("passphrase_file"), config.get("passphrase_env")
    if file or variable:
        where = {"passphrase_file": file and Path(file), "passphrase_env": variable}
        return secret_of(argparse.Namespace(**where))

    def missing(what: str) -> bytes:
        raise SigningError(
            f"the {what} is needed: name passphrase_file or passphrase_env in the configuration "
            "of the plugin"
        )

    return missing


def _sign(request: Members, signer: Signer, config: Mapping[str, str]) -> dict[str, Any]:
    from cryptography.hazmat.primitives.serialization import Encoding

    from dmsign_fast.signing.plugin_contract import algorithm_name, from_base64, to_base64
    from dmsign_fast.signing.scheme import to_fixed_width
    from dmsign_fast.signing.signer import check_raw_signature

    if request.text("keySpec") != signer.key_spec:
        raise ParameterError(f"the key is {signer.key_spec} and not {request.text('keySpec')}")
    scheme = _scheme(signer.key_spec, request.text("hashAlgorithm"), config.get("signing_scheme"))
    payload = request.value("payload")
    if not isinstance(payload, str):
        raise request.wrong("payload", "is not a string")
    message = from_base64(payload, "the payload")
    signature = signer.sign(message, scheme)
    check_raw_signature(signer.certificate_chain[0], message, signature, scheme)
    return {
        "signature": to_base64(to_fixed_width(signature, scheme)),
        "signingAlgorithm": algorithm_name(scheme),
        "certificateChain": [
            to_base64(one.public_bytes(Encoding.DER)) for one in signer.certificate_chain
        ],
    }


def _scheme(key_spec: KeySpec, hash_algorithm: str, wanted: str | None) -> Scheme:
    from dmsign_fast.signing.plugin_contract import hash_name
    from dmsign_fast.signing.scheme import SCHEMES, Family, notary_scheme

    family = wanted or notary_scheme(key_spec).family
    if family not in list(Family):
        raise ParameterError(f"signing_scheme {family} is not one of {', '.join(Family)}")
    for scheme in SCHEMES:
        if (
            key_spec in scheme.key_specs
            and scheme.family == family
            and hash_name(scheme) == hash_algorithm
        ):
            return scheme
    raise ParameterError(f"a key {key_spec} does not sign as {family} with {hash_algorithm}")


def _error(error: Exception) -> dict[str, str]:
    if isinstance(error, _UnsupportedVersionError):
        code = "UNSUPPORTED_CONTRACT_VERSION"
    else:
        code = "VALIDATION_ERROR" if isinstance(error, _WRONG_REQUEST) else "ERROR"
    known = isinstance(error, DmsignError)
    message = str(error) if known else f"a bug in dmsign-fast, please report it: {error!r}"
    return {"errorCode": code, "errorMessage": message}


def main() -> int:
    """Answer one command, whose request is on standard input; the exit status."""
    out, err = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for fd in (1, 2):  # what libraries say there would spoil the answer
        os.dup2(nowhere, fd)
    try:
        request = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
        said, where, status = _answer(" ".join(sys.argv[1:]), request), out, 0
    except Exception as error:  # noqa: BLE001
        said, where, status = _error(error), err, 1
    with open(where, "wb") as file:  # noqa: PTH123
        file.write(dump_json(said) + b"\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
