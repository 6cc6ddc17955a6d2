"""notation's trust policy: which certificates and identities count for which artifact, and how.

``trustpolicy.oci.json`` or else ``trustpolicy.json``, version 1.0, by the rules of
``specs/trust-store-trust-policy.md``. Fields that it does not define are refused: a slip in the
name of one would go unnoticed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dmsign_fast.errors import FormatError, ParameterError, StorageError, VerificationError
from dmsign_fast.strict_json import read_object
from dmsign_fast.trust.config_edit import changing
from dmsign_fast.trust.identity import ANY, Identity, parse_identities
from dmsign_fast.trust.store import STORE_TYPES, is_name, read_config

__all__ = [
    "LEVELS",
    "Action",
    "Policy",
    "Statement",
    "Validation",
    "find_policy",
    "load_policy",
    "new_policy",
    "parse_policy",
    "read_policy",
    "save_policy",
]

_FILES = ("trustpolicy.oci.json", "trustpolicy.json")
_STATEMENT = {
    "name",
    "registryScopes",
    "signatureVerification",
    "trustStores",
    "trustedIdentities",
}
_VERIFICATION = {"level", "override", "verifyTimestamp"}
_TIMESTAMP = ("always", "afterCertExpiry")

# A registry and a repository (distribution/reference, regexp.go).
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_SCOPE = re.compile(rf"{_HOST}(?:\.{_HOST})*(?::[0-9]+)?/{_PART}(?:/{_PART})*", re.ASCII)


class Validation(StrEnum):
    """What is validated, in this order; the values are those of the policy."""

    INTEGRITY = "integrity"
    AUTHENTICITY = "authenticity"
    EXPIRY = "expiry"
    AUTHENTIC_TIMESTAMP = "authenticTimestamp"
    REVOCATION = "revocation"


class Action(StrEnum):
    """What comes of it when a validation fails."""

    ENFORCE = "enforce"
    LOG = "log"
    SKIP = "skip"


def _level(*logged: Validation) -> Mapping[Validation, Action]:
    return {one: Action.LOG if one in logged else Action.ENFORCE for one in Validation}


LEVELS: Mapping[str, Mapping[Validation, Action]] = {
    "strict": _level(),
    "permissive": _level(Validation.AUTHENTIC_TIMESTAMP, Validation.EXPIRY, Validation.REVOCATION),
    "audit": _level(*(one for one in Validation if one is not Validation.INTEGRITY)),
    "skip": dict.fromkeys(Validation, Action.SKIP),
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy; no ``identities`` stands for any.

    ``level`` is the name of the level or, where the policy overrides some of it, ``custom``.
    """

    name: str
    scopes: tuple[str, ...]
    level: str
    actions: Mapping[Validation, Action]
    after_cert_expiry: bool
    stores: tuple[tuple[str, str], ...]
    identities: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """The statements of a trust policy, each for its own scopes."""

    statements: tuple[Statement, ...]

    def statement_for(self, scope: str) -> Statement:
        """Return the statement for a repository such as ``registry.example/team/app``.

        A statement that names it goes before the statement for all. Raises ParameterError for what
        is not the whole name of a repository, VerificationError when no statement applies: nothing
        is trusted then.
        """
        if not _SCOPE.fullmatch(scope):
            raise ParameterError(
                f"{scope!r} is not the full name of a repository, such as registry.example/app; "
                "for an OCI layout give a scope such as local/app"
            )
        for wanted in (scope, ANY):
            for statement in self.statements:
                if wanted in statement.scopes:
                    return statement
        raise VerificationError(
            f"no statement of the trust policy applies to {scope}; add it to registryScopes"
        )


def find_policy(config: Path) -> Path | None:
    """Return the file of the policy that counts in a configuration directory, or None."""
    paths = (config / name for name in _FILES)
    return next((path for path in paths if os.path.lexists(path)), None)


def read_policy(config: Path) -> tuple[Path, dict[str, Any]]:
    """Return the file of the trust policy and the JSON in it, which is by the rules.

    Raises StorageError when there is none or it cannot be read, FormatError when it is malformed
    or against the rules.
    """
    path = find_policy(config)
    document = read_config(path) if path else None
    if path is None or document is None:
        raise StorageError(
            f"there is no trust policy in {config}: make one with 'dmsign-fast policy init', see "
            "https://notaryproject.dev/docs/quickstart/, or give certificates to trust, "
            "with --trust"
        )
    _policy(document, str(path))
    return path, document


def load_policy(config: Path) -> Policy:
    """Read the trust policy of a configuration directory, see ``store.config_directory``.

    Raises what ``read_policy`` raises.
    """
    path, document = read_policy(config)
    return _policy(document, str(path))


def parse_policy(data: bytes, what: str) -> Policy:
    """Return the policy in ``data``, or raise FormatError, which names ``what``."""
    return _policy(read_object(data, what), what)


def new_policy(
    name: str,
    stores: Sequence[str],
    identities: Sequence[str],
    *,
    scopes: Sequence[str] = (ANY,),
    level: str = "strict",
) -> bytes:
    """Return the JSON of a policy of one statement; ParameterError if it is against the rules.

    ``stores`` are such as ``ca:acme``; ``identities`` and ``scopes`` are as in the file.
    """
    statement = {
        "name": name,
        "registryScopes": list(scopes),
        "signatureVerification": {"level": level},
        "trustStores": list(stores),
        "trustedIdentities": list(identities),
    }
    document = {"version": "1.0", "trustPolicies": [statement]}
    try:
        _policy(document, "the new policy")
        return json.dumps(document, indent=4, ensure_ascii=False).encode()
    except (FormatError, UnicodeEncodeError) as error:
        raise ParameterError(str(error)) from None


def save_policy(config: Path, data: bytes, what: str, *, replace: bool = False) -> Path:
    """Make ``data``, the JSON of a valid policy, the policy that counts; return its file.

    The file is the policy's present file, or else the file that every notation reads. Raises
    FormatError, which names ``what``, for no such policy, and ParameterError where there is one
    that is not to be replaced.
    """
    parse_policy(data, what)
    with changing(config) as change:
        found = find_policy(config)
        if found is not None and not replace:
            raise ParameterError(f"{found} exists already; replace it with --force")
        path = found or config / _FILES[-1]
        change.write(path, data)
    return path


def _policy(document: dict[str, Any], path: str) -> Policy:
    _only(document, {"version", "trustPolicies"}, path)
    if document.get("version") != "1.0":
        raise FormatError(f"{path}: no support for the version {document.get('version')!r}")
    found = document.get("trustPolicies")
    if not isinstance(found, list) or not found:
        raise FormatError(f"{path} has no trustPolicies")
    statements = tuple(_statement(one, path) for one in found)
    _unique([one.name for one in statements], f"{path}: more than one statement is named")
    scopes = [scope for one in statements for scope in one.scopes]
    _unique(scopes, f"{path}: more than one statement has the scope")
    return Policy(statements)


def _statement(value: Any, path: str) -> Statement:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise FormatError(f"{path} has a statement without a name")
    what = f"{path}: {value['name']!r}"
    _only(value, _STATEMENT, what)
    verification = value.get("signatureVerification")
    if not isinstance(verification, dict):
        raise FormatError(f"{what} has no signatureVerification")
    _only(verification, _VERIFICATION, what)
    level, actions = _actions(verification, what)
    when = verification.get("verifyTimestamp") or _TIMESTAMP[0]
    if when not in _TIMESTAMP:
        raise FormatError(f"{what}: verifyTimestamp is {' or '.join(_TIMESTAMP)}, not {when!r}")
    scopes = _texts(value, "registryScopes", what)
    if not scopes or (ANY in scopes and len(scopes) > 1):
        raise FormatError(f"{what} needs registryScopes: repositories, or {ANY!r} alone")
    for scope in scopes:
        if scope != ANY and not _SCOPE.fullmatch(scope):
            raise FormatError(f"{what}: the scope {scope!r} is not a full name of a repository")
    stores = _texts(value, "trustStores", what)
    identities = _texts(value, "trustedIdentities", what)
    if level == "skip":
        if stores or identities:
            raise FormatError(f"{what} skips verification and has trust stores or identities")
    elif not stores or not identities:
        raise FormatError(f"{what} needs both trustStores and trustedIdentities")
    return Statement(
        name=value["name"],
        scopes=scopes,
        level=level,
        actions=actions,
        after_cert_expiry=when == _TIMESTAMP[1],
        stores=tuple(dict.fromkeys(_store(one, what) for one in stores)),
        identities=parse_identities(identities, what) if identities else (),
    )


def _actions(verification: dict[str, Any], what: str) -> tuple[str, Mapping[Validation, Action]]:
    level = verification.get("level")
    if not isinstance(level, str) or level not in LEVELS:
        raise FormatError(f"{what}: the level is one of {', '.join(LEVELS)}, not {level!r}")
    override = verification.get("override") or {}
    if not isinstance(override, dict) or (override and level == "skip"):
        raise FormatError(f"{what}: override is not an object, or goes with the level skip")
    actions = dict(LEVELS[level])
    for name, action in override.items():
        try:
            validation, chosen = Validation(name), Action(action)
        except ValueError:
            raise FormatError(f"{what}: no override is {name!r}: {action!r}") from None
        if validation is Validation.INTEGRITY:
            raise FormatError(f"{what}: integrity cannot be overridden")
        if chosen is Action.SKIP and validation is not Validation.REVOCATION:
            raise FormatError(f"{what}: only revocation can be skipped, not {name}")
        actions[validation] = chosen
    return "custom" if override else level, actions


def _store(text: str, what: str) -> tuple[str, str]:
    kind, colon, name = text.partition(":")
    if kind not in STORE_TYPES or not colon or not is_name(name):
        raise FormatError(
            f"{what}: the trust store {text!r} is not of the form ca:NAME, a name of letters, "
            "digits, '_', '.', '-'"
        )
    return kind, name


def _texts(value: dict[str, Any], name: str, what: str) -> tuple[str, ...]:
    found = value.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        raise FormatError(f"{what}: {name} is not a list of text")
    return tuple(found)


def _only(value: dict[str, Any], known: set[str], what: str) -> None:
    if unknown := sorted(set(value) - known):
        raise FormatError(f"{what} has fields that are not known: {', '.join(unknown)}")


def _unique(values: list[str], problem: str) -> None:
    for value in values:
        if values.count(value) > 1:
            raise FormatError(f"{problem} {value!r}")
