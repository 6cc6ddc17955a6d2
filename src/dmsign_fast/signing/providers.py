"""Where keys live: each provider is one module, imported when a URI of its scheme is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dmsign_fast.arguments import FUNCTION, MAPPING, PATH, SECONDS, TEXT, instance, takes
from dmsign_fast.errors import ParameterError, SigningError

if TYPE_CHECKING:
    from dmsign_fast.signing.signer import Signer

__all__ = ["PROVIDERS", "KeyOptions", "extra", "is_key_uri", "open_signer"]

PROVIDERS = {
    "file": "dmsign_fast.signing.local",
    "pkcs11": "dmsign_fast.signing.pkcs11",
    "plugin": "dmsign_fast.signing.plugin",
    "aws-kms": "dmsign_fast.signing.aws_kms",
    "azure-kv": "dmsign_fast.signing.azure_kv",
}


@takes(
    certificates=PATH.or_none,
    secret=FUNCTION.or_none,
    config=MAPPING,
    at=instance(datetime, "a datetime").or_none,
    timeout=SECONDS,
)
@dataclass(frozen=True, kw_only=True)
class KeyOptions:
    """What a provider may need besides the URI.

    Attributes:
        certificates: a file with the leaf and its issuers; None to take those of the provider.
        secret: returns a passphrase, PIN or token; its argument says of what, for a person to
            read, as in ``passphrase of key.pem``. Called only when one is needed.
        config: of a plugin, by name.
        at: when the certificates must be valid, by default now.
        timeout: seconds that a plugin may take for an answer, a person's part in it included.
    """

    certificates: Path | None = None
    secret: Callable[[str], bytes] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    at: datetime | None = None
    timeout: float = 300.0

    def ask(self, what: str) -> bytes:
        """Return the secret of ``what``; SigningError if there is no way to get it."""
        if self.secret is None:
            raise SigningError(f"the {what} is needed; give it")
        return self.secret(what)


def is_key_uri(text: str) -> bool:
    """Tell whether the text begins with the scheme of a provider, as in ``plugin:azure-kv``."""
    return text.partition(":")[0] in PROVIDERS and ":" in text


@takes(uri=TEXT, options=instance(KeyOptions, "KeyOptions").or_none)
def open_signer(uri: str, options: KeyOptions | None = None) -> Signer:
    """Return the signer that a URI names.

    Raises ParameterError for a URI that is not one of a provider, SigningError for a key that
    cannot be used or a provider that is not installed, FormatError, StorageError and ProgramError
    as the provider has them.
    """
    scheme, colon, _ = uri.partition(":")
    if not colon or scheme not in PROVIDERS:
        known = ", ".join(f"{name}:" for name in PROVIDERS)
        raise ParameterError(f"{uri} is not the URI of a key; there are {known}")
    provider = import_module(PROVIDERS[scheme])
    return cast("Signer", provider.open_signer(uri, options or KeyOptions()))


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which optional part of dmsign-fast is missing when its imports fail."""
    try:
        yield
    except ImportError as error:
        raise SigningError(
            f"{error.name or 'a package'} is not installed: pip install 'dmsign-fast[{name}]'"
        ) from error
