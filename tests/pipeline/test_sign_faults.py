"""When something is wrong, nothing is pushed."""

import io
import random
import tarfile

import pytest
from container_images import (
    push_image,
    push_index,
    tars,
)
from helpers_pkcs7 import signer_of
from pki import DAY, NOW, make_expired_leaf, make_leaf, make_root
from registry_server import hang_up, status
from signed_homes import DM_VERITY_TYPES, RECIPE, referrers, sign, uploads

from dmsign_fast import _core
from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    ParameterError,
    RegistryError,
    SigningError,
    VerificationError,
)
from dmsign_fast.oci.descriptor import Digest
from dmsign_fast.oci.manifest import EMPTY_JSON
from dmsign_fast.pipeline.artifact import (
    NOTARY_TYPE,
)
from dmsign_fast.pipeline.sign_image import SignOptions, sign_image
from dmsign_fast.signing.local import LocalSigner


def other_bytes(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def cut_off(data):
    return data[:-1]


def flip_diff_id(layers):
    return [Digest.of(b"other"), *(Digest.of(tar) for tar in layers[1:])]


LOSSY = {"path": "file", "SCHILY.xattr.user.x\0": "1"}


def lossy_tar():
    """What the node would lose a part of, without a word."""

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(".wh."))
    return buffer.getvalue()


def damaged(what, home):
    """Push an image that cannot be signed; the error and what it says."""
    contents = tars()
    if what == "a diff ID that lies":
        push_image(home.store, "v1", contents, diff_ids=flip_diff_id(contents))
        return VerificationError, "diff ID is .* and should be"
    if what == "too few diff IDs":
        push_image(home.store, "v1", contents, diff_ids=[Digest.of(contents[0])])
        return FormatError, "has 3 layers and its config 1 diff IDs"
    if what == "an entry that is lost":
        push_image(home.store, "v1", [*contents, lossy_tar()])
        return FormatError, "layer sha256:"
    if what == "no layers":
        push_image(home.store, "v1", [])
        return FormatError, "has no layers, so there is nothing"
    image = push_image(home.store, "v1", contents)
    layer = image.layers[2]
    if what == "another byte in a layer":
        home.damage(layer, other_bytes)
        return VerificationError, f"{layer.digest} from .* another digest"
    if what == "a layer cut off":
        home.damage(layer, cut_off)
        return VerificationError, "bytes instead of"
    if what == "a layer that goes on":
        home.damage(layer, lambda data: data + b"x")
        return VerificationError, "bytes instead of|longer than"
    if what == "a layer that is not there":
        home.remove(layer)
        return DmsignError, layer.digest.encoded
    if what == "another byte in the config":
        home.damage(image.config, other_bytes)
        return VerificationError, f"{image.config.digest} from .* another digest"
    assert what == "no config"
    home.remove(image.config)
    return DmsignError, image.config.digest.encoded


@pytest.mark.parametrize("in_core", [True, False])
@pytest.mark.parametrize("jobs", [1, 4])
@pytest.mark.parametrize("kind", ["layout", "api"])
@pytest.mark.parametrize(
    "what",
    [
        "another byte in a layer",
        "a layer cut off",
        "a layer that goes on",
        "a layer that is not there",
        "another byte in the config",
        "no config",
        "a diff ID that lies",
        "too few diff IDs",
        "an entry that is lost",
        "no layers",
    ],
)
def test_nothing_is_pushed_for_an_image_that_is_not_right(
    what, kind, jobs, in_core, make_home, leaf, monkeypatch
):
    if not in_core:
        monkeypatch.setattr(_core, "streams_in_step", lambda: 0)
    home = make_home(kind, tries=2)
    error, words = damaged(what, home)
    before = home.contents
    with pytest.raises(error, match=words):
        sign(home, leaf, jobs=jobs)
    assert home.contents == before
    if home.server:
        posted = [one for one in home.server.requests if "uploads" in one.path]
        assert len(posted) % 2 == 0  # those of push_image


class Failing:
    """A signer that fails from its nth signature on."""

    def __init__(self, signer, good):
        self.key_spec, self.certificate_chain = signer.key_spec, signer.certificate_chain
        self.signer, self.left = signer, good

    def sign(self, message, scheme):
        self.left -= 1
        if self.left < 0:
            raise SigningError("the key is away")
        return self.signer.sign(message, scheme)


@pytest.mark.parametrize("good", range(4))
def test_nothing_is_pushed_when_the_key_fails(good, home, leaf):
    push_image(home.store, "v1")
    before = home.contents
    signer = Failing(signer_of(leaf), good)
    with pytest.raises(SigningError, match="the key is away"):
        sign_image(home.store, "v1", signer, SignOptions(recipe=RECIPE))
    assert home.contents == before
    sign_image(home.store, "v1", Failing(signer_of(leaf), 4), SignOptions(recipe=RECIPE))


def test_nothing_is_pushed_when_the_key_fails_for_the_last_of_an_index(home, leaf):
    one, two = (push_image(home.store, seed=seed) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    before = home.contents
    signer = Failing(signer_of(leaf), 8)  # three layers and the manifest, twice
    with pytest.raises(SigningError, match="the key is away"):
        sign_image(home.store, "v1", signer, SignOptions(recipe=RECIPE, recursive=True))
    assert home.contents == before


def wrong_signers():
    root = make_root()
    good, other = make_leaf(root), make_leaf(root, "Other")
    return {
        "of another key": LocalSigner(signer_of(good).key_spec, good.chain, other.key),
        "expired": signer_of(make_expired_leaf(root)),
        "without its root": LocalSigner(signer_of(good).key_spec, good.chain[:1], good.key),
        "that must not sign": signer_of(make_leaf(root, "Usage", usage=("key_encipherment",))),
    }


@pytest.mark.parametrize("what", wrong_signers())
def test_nothing_is_pushed_with_a_certificate(what, home):
    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(SigningError):
        sign_image(home.store, "v1", wrong_signers()[what], SignOptions(recipe=RECIPE))
    assert home.contents == before


@pytest.mark.parametrize(
    "options",
    [
        {"user_metadata": {"io.cncf.notary.x": "1"}},
        {"user_metadata": {"dmsign-fast.root-hashes": "sha256:0"}},
        {"expiry": NOW - DAY},
        {"forms": ("other",)},
        {"media_type": "text/plain"},
        {"pkcs7_digest": "sha1"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_nothing_is_pushed_with_an_option_that_is_none(options, home, leaf):
    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(ParameterError):
        sign(home, leaf, **options)
    assert home.contents == before


def test_nothing_is_pushed_without_a_timestamp(home, leaf):
    def refuse(_):
        raise RegistryError("no time today")

    push_image(home.store, "v1")
    before = home.contents
    with pytest.raises(RegistryError, match="no time today"):
        sign(home, leaf, timestamp=refuse)
    assert home.contents == before


@pytest.mark.parametrize("fault", [status(403), hang_up], ids=["refused", "cut"])
@pytest.mark.parametrize("kind", ["api", "tag schema"])
def test_a_registry_that_fails_in_the_middle_of_the_pushes(kind, fault, make_home, leaf):
    """Whichever request it is: what refers to the image is whole, and signing again repairs."""
    home = make_home(kind, tries=2, settle=0.01)
    image = push_image(home.store, "v1")
    begin = len(uploads(home.server))
    sign(home, leaf)
    whole = len(uploads(home.server)) - begin
    assert whole == 2 * 5 + 2 + (kind == "tag schema")  # {}, three signatures and an envelope
    repository = home.server.repository(home.store.repository)
    first = (dict(repository.blobs), dict(repository.manifests), dict(repository.tags))
    for number in range(whole):
        seed = number + 50
        image = push_image(home.store, "v1", tars(3, seed))
        repository.blobs.pop(Digest.of(EMPTY_JSON), None)
        left = [number]

        def fail_from_then_on(handler, left=left):
            left[0] -= 1
            (fault if left[0] < 0 else type(handler).serve)(handler)

        home.server.fail("POST", "", fail_from_then_on, times=1000)
        home.server.fail("PUT", "", fail_from_then_on, times=1000)
        with pytest.raises(RegistryError):
            sign(home, leaf)
        home.server.faults.clear()
        found = referrers(home, image)  # which reads all blobs of those that are visible
        listed = sum(map(len, found.values()))
        assert listed <= (kind == "api" and number >= whole - 1)
        sign(home, leaf)
        assert {kind: len(one) for kind, one in referrers(home, image).items()} == {
            DM_VERITY_TYPES[0]: 1,
            NOTARY_TYPE: 1,
        }
    assert first[0].keys() - {Digest.of(EMPTY_JSON)} <= repository.blobs.keys()


@pytest.mark.parametrize("at", [1 << 20, -(1 << 20)])
def test_a_large_layer_that_is_damaged_is_said_to_be(at, make_home, leaf):
    """Its contents fail before its end comes: that is not the reason."""
    home = make_home("layout")
    entries = io.BytesIO()
    with tarfile.open(fileobj=entries, mode="w") as tar:
        for number in range(8):
            info = tarfile.TarInfo(f"file-{number}")
            info.size = 1 << 20
            tar.addfile(info, io.BytesIO(random.Random(number).randbytes(info.size)))
    image = push_image(home.store, "v1", [tars(1)[0], entries.getvalue()])

    def damage(data):
        data = bytearray(data)
        data[at : at + 4096] = bytes(4096)
        return bytes(data)

    home.damage(image.layers[1], damage)
    with pytest.raises(VerificationError, match=f"{image.layers[1].digest} from .* another digest"):
        sign(home, leaf)
