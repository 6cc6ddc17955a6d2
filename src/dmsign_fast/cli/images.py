"""Images of which a command takes several, verified."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.cli.options import section
from dmsign_fast.cli.stores import add_store_options, open_image, repository_of
from dmsign_fast.cli.verify import add_trust_options, trust_of
from dmsign_fast.errors import UnsignedError, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dmsign_fast.oci.store import Store
    from dmsign_fast.pipeline.verify_image import ImageVerdict

__all__ = ["SignedRoot", "VerifiedImage", "add_images_options", "signed_roots", "verified_images"]


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """A manifest whose signatures count, and the store that it is in, open for now."""

    name: str
    verdict: ImageVerdict
    store: Store


@dataclass(frozen=True, slots=True)
class SignedRoot:
    """A root hash by a verified signature, as ``ALG:HEX``, and whose it is."""

    root_hash: str
    layer: str
    image: str


def add_images_options(parser: argparse.ArgumentParser) -> None:
    """Where images are, and whose signatures count."""
    group = add_store_options(parser)
    which = group.add_mutually_exclusive_group().add_argument
    which(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="take the manifest for this platform from an index",
    )
    which(
        "--recursive",
        action="store_true",
        help="take an index, which is a list of manifests, and each of them",
    )
    add_trust_options(parser)
    section(parser, "trust").add_argument(
        "--no-manifest-signature",
        action="store_true",
        help="verify the signatures of the layers alone",
    )


def verified_images(args: argparse.Namespace, references: Iterable[str]) -> Iterator[VerifiedImage]:
    """Verify each image, and give each of its manifests.

    Raises:
        UnsignedError, VerificationError: an image is not signed, or not by whom to believe.
    """
    from dmsign_fast.erofs.recipe import RECIPES, Recipe
    from dmsign_fast.pipeline.verify_image import VerifyOptions, verify_image

    for reference in references:
        own = argparse.Namespace(**{**vars(args), "reference": reference})
        options = VerifyOptions(
            trust=trust_of(own),
            recipe=Recipe.parse(RECIPES[0].name),
            manifest_signature=not args.no_manifest_signature,
            platform=args.platform,
            recursive=args.recursive,
        )
        with open_image(own) as (store, wanted):
            for verdict in verify_image(store, wanted, options):
                name = f"{repository_of(own)}@{verdict.manifest}"
                if not verdict.referrers:
                    raise UnsignedError(f"{name} has no signature")
                if not verdict.verified:
                    missing = " and ".join(verdict.missing) or "signature"
                    problems = "; ".join(one.problem for one in verdict.referrers if one.problem)
                    raise VerificationError(f"no {missing} of {name} counts: {problems}")
                yield VerifiedImage(name, verdict, store)


def signed_roots(args: argparse.Namespace, references: Iterable[str]) -> list[SignedRoot]:
    """The root hashes of all accepted artifacts of the images; errors of ``verified_images``."""
    from dmsign_fast.node.ipe.policy import named_root_hash

    roots = (
        SignedRoot(named_root_hash(layer.root_hash), layer.layer, image.name)
        for image in verified_images(args, references)
        for artifact in image.verdict.referrers
        if artifact.accepted
        for layer in artifact.layers
    )
    return list(dict.fromkeys(roots))
