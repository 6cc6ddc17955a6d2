"""notation's list of signing keys, ``signingkeys.json``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.trust.config_edit import Change, changing
from dmsign_fast.trust.store import read_config

__all__ = [
    "LocalKey",
    "PluginKey",
    "SigningKeys",
    "change_signing_keys",
    "checked_local_key",
    "load_signing_keys",
]

_FILE = "signingkeys.json"


@dataclass(frozen=True, slots=True)
class LocalKey:
    """A key and the certificates that go with it, in files."""

    name: str
    key: Path
    certificates: Path


@dataclass(frozen=True, slots=True)
class PluginKey:
    """A key that a plugin of notation signs with."""

    name: str
    plugin: str
    id: str
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys by name, and the name of the default key.

    ``document`` is the JSON of the file, in which a change keeps all that it is not about.
    """

    path: Path
    keys: Mapping[str, LocalKey | PluginKey]
    default: str | None
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def get(self, name: str | None = None) -> LocalKey | PluginKey:
        """Return the key of that name, or the default key; ParameterError if there is none."""
        chosen = name if name is not None else self.default
        if chosen is None:
            raise ParameterError(
                f"{self.path} has no default key: name a key with --key, or make one the default "
                "with 'dmsign-fast key default NAME' or 'key add ... --default'; for a first try "
                "'dmsign-fast cert generate-test --default NAME' makes one"
            )
        if chosen not in self.keys:
            known = ", ".join(self.keys) or "none"
            raise ParameterError(
                f"{self.path} has no key {chosen!r}; there is {known}: give one of them, or the "
                "path of a key with --cert, or add it with 'dmsign-fast key add'"
            )
        return self.keys[chosen]

    def with_key(self, key: LocalKey | PluginKey, *, default: bool = False) -> SigningKeys:
        """Return the keys and a new key; ParameterError if its name is taken or empty."""
        if not key.name or (isinstance(key, PluginKey) and not (key.plugin and key.id)):
            raise ParameterError("a key needs a name, and a key of a plugin an id: none is empty")
        if key.name in self.keys:
            raise ParameterError(
                f"{self.path} has a key {key.name!r} already; choose another name, or delete it"
            )
        document = {**self.document, "keys": [*(self.document.get("keys") or []), _entry(key)]}
        if default:
            document["default"] = key.name
        return _parse(document, self.path)

    def with_default(self, name: str) -> SigningKeys:
        """Return the keys with another default; ParameterError for a name that is not there."""
        return _parse({**self.document, "default": self.get(name).name}, self.path)

    def without(self, names: Iterable[str]) -> SigningKeys:
        """Return the keys without the named keys; ParameterError for a name that is not there."""
        gone = {self.get(name).name for name in names}
        kept = [one for one in self.document.get("keys") or [] if one["name"] not in gone]
        document = {**self.document, "keys": kept}
        if self.default in gone:
            del document["default"]
        return _parse(document, self.path)

    def write(self, change: Change) -> None:
        """Make this what the file will hold, in the form in which notation writes it."""
        text = json.dumps(self.document, indent=4, ensure_ascii=False)
        try:
            data = text.encode()
        except UnicodeEncodeError:
            raise ParameterError(f"{self.path} holds text: give a name or path in UTF-8") from None
        change.write(self.path, data)


def load_signing_keys(config: Path) -> SigningKeys:
    """Read the keys of a configuration directory; without the file there are none.

    Raises StorageError if it cannot be read, FormatError if it is malformed.
    """
    path = config / _FILE
    return _parse(read_config(path) or {}, path)


def change_signing_keys(
    config: Path, change: Callable[[SigningKeys], SigningKeys]
) -> tuple[SigningKeys, SigningKeys]:
    """Replace the keys by what ``change`` makes of them; return those before and after.

    Raises what ``load_signing_keys``, ``change`` and ``changing`` raise; nothing is written then.
    """
    with changing(config) as files:
        before = load_signing_keys(config)
        after = change(before)
        after.write(files)
    return before, after


def checked_local_key(
    name: str, key: Path, certificates: Path | None, passphrase: Callable[[], bytes] | None = None
) -> LocalKey:
    """Return the entry of a key, by absolute paths, after loading it with its certificates.

    Without ``certificates`` they are in the key's own file, which then stands in their place too.
    Raises what ``load_local_signer`` raises.
    """
    load_local_signer(key, certificates, passphrase)
    # not resolved: a link is often what stays when a key is renewed
    return LocalKey(name, key.absolute(), (certificates or key).absolute())


def _parse(document: Mapping[str, Any], path: Path) -> SigningKeys:
    listed, default = document.get("keys") or [], document.get("default")
    if not isinstance(listed, list) or not isinstance(default, str | None):
        raise FormatError(
            f"{path} is not a list of keys and the name of the default one: repair it, or move "
            "it away and add the keys again"
        )
    keys: dict[str, LocalKey | PluginKey] = {}
    for value in listed:
        key = _key(value, path)
        if key.name in keys:
            raise FormatError(
                f"{path} has more than one key named {key.name!r}: rename one of them"
            )
        keys[key.name] = key
    if default is not None and default not in keys:
        raise FormatError(
            f"{path}: the default key {default!r} is not in it: make one of "
            f"{', '.join(keys) or 'none'} the default there"
        )
    return SigningKeys(path, keys, default, document)


def _key(value: Any, path: Path) -> LocalKey | PluginKey:
    match value:
        case {"name": str(name), "keyPath": str(key), "certPath": str(certificates)} if name:
            return LocalKey(name, Path(key), Path(certificates))
        case {"name": str(name), "pluginName": str(plugin), "id": str(identifier)} if name:
            config = value.get("pluginConfig") or {}
            if isinstance(config, dict) and all(isinstance(one, str) for one in config.values()):
                return PluginKey(name, plugin, identifier, config)
    raise FormatError(
        f"{path} has a key without a name, and keyPath and certPath, or pluginName and id"
    )


def _entry(key: LocalKey | PluginKey) -> dict[str, Any]:
    if isinstance(key, LocalKey):
        return {"name": key.name, "keyPath": str(key.key), "certPath": str(key.certificates)}
    config = {"pluginConfig": dict(key.config)} if key.config else {}
    return {"name": key.name, "id": key.id, "pluginName": key.plugin, **config}
