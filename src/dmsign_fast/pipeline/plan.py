"""What is signed and how: the values that pass between the steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dmsign_fast.arguments import MAPPING, NUMBER, TEXT, TEXTS, instance, several, takes
from dmsign_fast.erofs.recipe import RECIPE, Recipe
from dmsign_fast.errors import ParameterError
from dmsign_fast.pipeline.binding import digest_of_roots
from dmsign_fast.pipeline.forms import FORMS, form_of
from dmsign_fast.pipeline.layers import CONVERSION, Conversion
from dmsign_fast.signing.signer import SIGNER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from dmsign_fast.envelope.timestamp import Timestamper
    from dmsign_fast.oci.descriptor import Descriptor, Digest
    from dmsign_fast.pipeline.forms import Part
    from dmsign_fast.pipeline.layer_file import LayerBlob
    from dmsign_fast.signing.signer import Signer

__all__ = ["JWS", "Plan", "Reuse", "SignOptions", "SignedImage", "SignedLayer"]

JWS = "application/jose+json"


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """Where root hashes may come from, instead of from layers.

    Attributes:
        reference: the tag or digest of an image in the same store, besides the one to sign; by
            default all that the store lists, up to a bound.
        certificates: of signers who count as the signer himself does.
    """

    reference: str | None = None
    certificates: Sequence[x509.Certificate] = ()


@takes(
    recipe=RECIPE,
    forms=TEXTS,
    media_type=TEXT,
    expiry=instance((datetime, timedelta), "a datetime or timedelta").or_none,
    user_metadata=MAPPING,
    agent=TEXT.or_none,
    platform=TEXT.or_none,
    jobs=NUMBER,
    conversion=CONVERSION,
    pkcs7_digest=TEXT.or_none,
    reuse=instance(Reuse, "a Reuse").or_none,
    signing_time=instance(datetime, "a datetime").or_none,
    and_by=several(SIGNER, "a tuple of Signers"),
    manifest_signer=SIGNER.or_none,
)
@dataclass(frozen=True, kw_only=True)
class SignOptions:
    """What is signed and how.

    Attributes:
        recipe: of the nodes.
        forms: of the dm-verity artifacts, names in forms.FORMS.
        media_type: of the Notary Project envelope, JWS or COSE.
        legacy: whether the manifest of that signature is of the form that all versions of notation
            find.
        expiry: of the Notary Project signature, at a time or after so much.
        user_metadata: signed with the manifest's descriptor.
        timestamp: fetches RFC 3161 tokens, and knows a good one.
        agent: what the envelope says made it.
        dm_verity: whether layers are signed.
        manifest_signature: whether the manifest is signed.
        force: sign again where a signature of the same key and content is there.
        replace: remove what this key has signed before in the same forms.
        platform: of an index, sign this manifest.
        recursive: of an index, sign all manifests.
        jobs: layers at a time.
        conversion: of the layers.
        pkcs7_digest: for the root hashes; by default that of the key.
        certificates: whether they are embedded in the signatures of root hashes.
        reuse: take root hashes that were signed before, see ``reuse``.
        signing_time: of all artifacts, by default now.
        and_by: who signs root hashes too, in the same message.
        manifest_signer: of manifests, by default the signer of the root hashes.
    """

    recipe: Recipe
    forms: tuple[str, ...] = (FORMS[0].name,)
    media_type: str = JWS
    legacy: bool = True
    expiry: datetime | timedelta | None = None
    user_metadata: Mapping[str, str] = field(default_factory=dict)
    timestamp: Timestamper | None = None
    agent: str | None = None
    dm_verity: bool = True
    manifest_signature: bool = True
    force: bool = False
    replace: bool = False
    platform: str | None = None
    recursive: bool = False
    jobs: int = 1
    conversion: Conversion = field(default_factory=Conversion)
    pkcs7_digest: str | None = None
    certificates: bool = True
    reuse: Reuse | None = None
    signing_time: datetime | None = None
    and_by: tuple[Signer, ...] = ()
    manifest_signer: Signer | None = None

    def __post_init__(self) -> None:
        """ParameterError for a key that would sign nothing."""
        if self.and_by and not self.dm_verity:
            raise ParameterError(
                "a second key signs root hashes, but only the manifest is to be signed: leave out "
                "the key, or have layers signed too"
            )
        if self.manifest_signer and not self.manifest_signature:
            raise ParameterError(
                "a key of its own signs the manifest, but only layers are to be signed: leave out "
                "the key, or have the manifest signed too"
            )

    @property
    def parts(self) -> frozenset[Part]:
        """What the forms want of each layer besides a signature."""
        return frozenset(part for name in self.forms for part in form_of(name).parts)

    @property
    def now(self) -> datetime:
        """When the artifacts are made, in whole seconds."""
        return (self.signing_time or datetime.now(UTC)).replace(microsecond=0)

    def expires(self, signed: datetime) -> datetime | None:
        """When a signature of that time expires."""
        return signed + self.expiry if isinstance(self.expiry, timedelta) else self.expiry


@dataclass(frozen=True)
class SignedLayer:
    """A layer and its root hash.

    Attributes:
        digest: of its bytes.
        diff_id: of the uncompressed tar.
        size: of its bytes.
        root_hash: of the dm-verity device that the recipe makes of it.
        uncompressed_size: bytes; None if the layer was not read.
        reused: the dm-verity artifact that has the root hash, instead.
        blobs: what the forms want besides a signature.
        seconds: that the conversion took.
    """

    digest: Digest
    diff_id: Digest
    size: int
    root_hash: bytes
    uncompressed_size: int | None = None
    reused: Digest | None = None
    blobs: Mapping[Part, LayerBlob] = field(default_factory=dict, hash=False)
    seconds: float = 0


@dataclass(frozen=True)
class Plan:
    """A manifest that is to be signed, and all that its signatures are made from.

    Attributes:
        manifest: what is signed.
        layers: in the order of the manifest, equal ones too; none if none are to be signed.
    """

    manifest: Descriptor
    layers: tuple[SignedLayer, ...]

    @property
    def roots(self) -> list[tuple[Digest, bytes]]:
        """The layers' digests and root hashes."""
        return [(layer.digest, layer.root_hash) for layer in self.layers]

    @property
    def blobs(self) -> dict[Digest, Mapping[Part, LayerBlob]]:
        """What there is of each layer besides a signature."""
        return {layer.digest: layer.blobs for layer in self.layers}

    def root_hashes(self, options: SignOptions) -> str | None:
        """The digest that binds layers to root hashes."""
        return digest_of_roots(self.roots, options.recipe) if self.layers else None


@dataclass(frozen=True)
class SignedImage:
    """What became of one manifest.

    Attributes:
        manifest: what was signed.
        layers: each different layer, with its root hash.
        artifacts: those of the layers' signatures, by the names of their forms.
        notary: the manifest's signature; None if none was asked for.
        added: the artifacts that were not there before.
        removed: the artifacts that the new ones replace.
        warnings: what a node will make of several artifacts of a form, or of other root hashes.
        seconds: what the stages took.
    """

    manifest: Descriptor
    layers: tuple[SignedLayer, ...]
    artifacts: Mapping[str, Descriptor]
    notary: Descriptor | None
    added: tuple[Descriptor, ...]
    seconds: Mapping[str, float]
    removed: tuple[Descriptor, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def dm_verity(self) -> Descriptor | None:
        """The artifact of the first form; None if none was asked for."""
        return next(iter(self.artifacts.values()), None)
