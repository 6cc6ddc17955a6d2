"""What binds each layer to its root hash.

The signature of a root hash does not say to which layer the root hash belongs. Whoever can push
could attach a layer's signature as another layer's, and both are by a trusted signer. So where the
layers are signed with the manifest, the Notary Project signature holds the digest of all root
hashes and the recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.strict_json import dump_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dmsign_fast.erofs.recipe import Recipe
    from dmsign_fast.trust.verdict import SignatureVerdict

__all__ = ["ROOT_HASHES", "bound_by", "digest_of_roots"]

ROOT_HASHES = "dmsign-fast.root-hashes"  # user metadata, as notation calls it


def digest_of_roots(roots: Iterable[tuple[Digest, bytes]], recipe: Recipe | None) -> str:
    """The digest of all layers with their root hashes, and the recipe that artifacts record.

    The digest is over JSON without spaces, names sorted: ``{"layers":{DIGEST:ROOT_HASH,...},
    "recipe":{...}}``; without a recipe null.
    """
    layers = {layer: root_hash.hex() for layer, root_hash in roots}
    return str(Digest.of(dump_json({"layers": layers, "recipe": recipe and recipe.fields()})))


def bound_by(verdict: SignatureVerdict) -> str | None:
    """The digest of root hashes in a signature that counts; None if it holds none.

    The signer must be trusted, also where the policy would only log that he is not.
    """
    from dmsign_fast.trust.policy import Validation
    from dmsign_fast.trust.validations import Outcome

    authentic = any(
        one.validation is Validation.AUTHENTICITY and one.outcome is Outcome.PASSED
        for one in verdict.findings
    )
    if not (verdict.accepted and authentic and verdict.target):
        return None
    found = (verdict.target.get("annotations") or {}).get(ROOT_HASHES)
    return None if found is None else str(found)
