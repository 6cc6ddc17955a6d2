"""notation's list of signing keys, ``signingkeys.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmsign_fast.errors import FormatError, ParameterError
from dmsign_fast.trust.store import read_config

__all__ = ["LocalKey", "PluginKey", "SigningKeys", "load_signing_keys"]

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
    """The keys by name, and the name of the one to use when none is given."""

    path: Path
    keys: Mapping[str, LocalKey | PluginKey]
    default: str | None

    def get(self, name: str | None = None) -> LocalKey | PluginKey:
        """Return the key of that name, or the default one; ParameterError if there is none."""
        chosen = name if name is not None else self.default
        if chosen is None:
            raise ParameterError(f"{self.path} has no default key; name one, or give --key")
        if chosen not in self.keys:
            known = ", ".join(self.keys) or "none"
            raise ParameterError(f"{self.path} has no key {chosen!r}; there is {known}")
        return self.keys[chosen]


def load_signing_keys(config: Path) -> SigningKeys:
    """Read the keys of a configuration directory; without the file there are none.

    Raises StorageError if it cannot be read, FormatError if it is malformed.
    """
    path = config / _FILE
    document: dict[str, Any] = read_config(path) or {}
    listed, default = document.get("keys") or [], document.get("default")
    if not isinstance(listed, list) or not isinstance(default, str | None):
        raise FormatError(f"{path} is not a list of keys and the name of the default one")
    keys: dict[str, LocalKey | PluginKey] = {}
    for value in listed:
        key = _key(value, path)
        if key.name in keys:
            raise FormatError(f"{path} has more than one key named {key.name!r}")
        keys[key.name] = key
    if default is not None and default not in keys:
        raise FormatError(f"{path}: the default key {default!r} is not in it")
    return SigningKeys(path, keys, default)


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
