"""The keys of a run, for several threads."""

from __future__ import annotations

import contextlib
import functools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from dmsign_fast.pipeline.sign_image import sign_layer, sign_planned
from dmsign_fast.signing.signer import EnvelopeSigner

if TYPE_CHECKING:
    from cryptography import x509

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.artifact import Artifact
    from dmsign_fast.pipeline.plan import Plan, SignedImage, SignOptions
    from dmsign_fast.signing.scheme import KeySpec, Scheme
    from dmsign_fast.signing.signer import Signer

__all__ = ["Keys"]

_MOST_REMEMBERED = 1 << 16  # signatures of root hashes; each has 1 to 3 KiB, or 15 by ML-DSA


class _InTurn:
    """A Signer that is asked for one signature at a time."""

    def __init__(self, signer: Signer, lock: threading.RLock) -> None:
        self._signer, self._lock = signer, lock

    @property
    def key_spec(self) -> KeySpec:
        return self._signer.key_spec

    @property
    def certificate_chain(self) -> tuple[x509.Certificate, ...]:
        return self._signer.certificate_chain

    def sign(self, message: bytes, scheme: Scheme) -> bytes:
        with self._lock:
            return self._signer.sign(message, scheme)


class Keys:
    """Sign images from any thread.

    Not every provider's key can be used by several threads: keys wait, and registries do not.
    """

    def __init__(self, signer: Signer, options: SignOptions) -> None:
        """Take who signs, and how; the options name further signers."""
        self._lock = threading.RLock()
        self._signer = self._in_turn(signer)
        of_manifest = options.manifest_signer
        self._options = replace(
            options,
            and_by=tuple(self._in_turn(one) for one in options.and_by),
            manifest_signer=of_manifest and self._in_turn(of_manifest),
        )
        # it keeps what belongs to its last envelope
        self._whole = isinstance(of_manifest or signer, EnvelopeSigner)
        # a layer is in many images, and a key in a cloud costs time and money for each signature
        self._remembered = functools.lru_cache(_MOST_REMEMBERED)(
            functools.partial(sign_layer, signer=self._signer, options=self._options)
        )

    def _in_turn(self, signer: Signer) -> Signer:
        return signer if isinstance(signer, EnvelopeSigner) else _InTurn(signer, self._lock)

    def sign(self, store: Store, plan: Plan, recipe: Recipe) -> tuple[SignedImage, list[Artifact]]:
        """As sign_planned."""
        options = replace(self._options, recipe=recipe)
        with self._lock if self._whole else contextlib.nullcontext():
            return sign_planned(store, plan, self._signer, options, sign=self._sign_layer)

    def _sign_layer(self, root_hash: bytes) -> bytes:
        with self._lock:  # so that no two threads sign the same
            return self._remembered(root_hash)
