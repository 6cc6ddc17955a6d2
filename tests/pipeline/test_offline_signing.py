"""What is signed elsewhere: all of it is as if it had been signed here."""

import json
from dataclasses import replace
from datetime import datetime

import pytest
from container_images import push_image, tars
from helpers import write
from helpers_pkcs7 import signer_of
from pipeline.offline_requests import BY_NAME, attach, prepare, record, sign_all, trusting
from pki import DAY, NOW, make_leaf, make_root
from signed_homes import hashed_layers, homes, push_multi, referrers, sign
from signed_images import verify

from dmsign_fast.errors import (
    FormatError,
    ParameterError,
    SigningError,
    StorageError,
)
from dmsign_fast.pipeline.files import SignedPaths, attach_file, prepare_file, sign_file
from dmsign_fast.pipeline.offline import attach_image, image_of
from dmsign_fast.pipeline.plan import Reuse
from dmsign_fast.pipeline.signing_request import SigningRequest
from dmsign_fast.signing.scheme import to_fixed_width

# -- what there is afterwards


@homes
@pytest.mark.parametrize("form", [lambda one, _: one, to_fixed_width], ids=["DER", "r|s"])
def test_it_is_verified_and_what_sign_finds(kind, form, make_home, leaf, directory, monkeypatch):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    before = home.store.references()
    plans, signing_request = prepare(home, leaf, directory, user_metadata={"build": "7"})
    assert home.store.references() == before
    assert home.store.referrers(image.descriptor) == []
    assert [message.file for message in signing_request.messages] == [
        *("root-hash-1.txt", "root-hash-2.txt", "root-hash-3.txt", "notary-1.bin")
    ]
    for number, layer in enumerate(plans[0].layers, 1):
        text = (directory / f"root-hash-{number}.txt").read_bytes()
        assert text == layer.root_hash.hex().encode()
    assert image_of(SigningRequest.read(directory, "image")) == ("here:v1", True)
    sign_all(directory, leaf, form)
    seen = hashed_layers(monkeypatch)
    (signed,) = attach(home, directory)
    assert seen == []
    assert sum(map(len, referrers(home, image).values())) == 2
    assert verify(home.store, "v1", trust=trusting(leaf), deep=True).verified
    (again,) = sign(home, leaf, user_metadata={"build": "7"})
    assert again.added == ()
    assert (again.dm_verity, again.notary) == (signed.dm_verity, signed.notary)
    (twice,) = attach(home, directory)
    assert twice.added == ()
    assert twice.notary == signed.notary


def test_the_same_bytes_as_in_one_step(home, directory):
    """With RSA PKCS#1 v1.5 there is one signature only."""
    leaf = make_leaf(make_root(), key="RSA-2048")
    push_image(home.store, "v1")
    options = {"manifest_signature": False, "forms": ("osguard",), "certificates": False}
    prepare(home, leaf, directory, pkcs7_digest="sha512", **options)
    sign_all(directory, leaf)
    (signed,) = attach(home, directory, manifest_signature=False)
    made = json.loads((directory / "manifest.json").read_text())["made"]
    at = datetime.fromisoformat(made["options"]["signing_time"])
    (again,) = sign(home, leaf, force=True, pkcs7_digest="sha512", signing_time=at, **options)
    assert again.dm_verity == signed.dm_verity


def test_what_the_envelope_says(home, leaf, directory):
    image = push_image(home.store, "v1")
    options = {
        "expiry": NOW + 5 * DAY,
        "user_metadata": {"grüße": "ö"},
        "agent": "tests/1",
        "media_type": "application/cose",
        "legacy": False,
    }
    prepare(home, leaf, directory, **options)
    sign_all(directory, leaf)
    (signed,) = attach(home, directory)
    verdict = verify(home.store, "v1", trust=trusting(leaf), user_metadata={"grüße": "ö"})
    assert verdict.verified
    notary = next(one.signature for one in verdict.referrers if one.kind == "notary")
    assert notary.agent == "tests/1"
    assert notary.expiry == (NOW + 5 * DAY).isoformat()
    record = json.loads((directory / "manifest.json").read_text())["made"]["options"]
    assert notary.signing_time == record["signing_time"]
    assert home.store.fetch_manifest(signed.notary).artifact_type is not None
    assert image.descriptor.plain() == signed.manifest.plain()


def test_all_of_an_index(make_home, leaf, directory):
    home = make_home("api")
    manifests = push_multi(home.store)
    _, signing_request = prepare(home, leaf, directory, recursive=True)
    assert len(signing_request.messages) == 4 + 4
    sign_all(directory, leaf)
    signed = attach(home, directory)
    assert [len(one.added) for one in signed] == [2, 2, 1, 1]
    assert {one.manifest.digest for one in signed} == {one.descriptor.digest for one in manifests}
    assert not any(one.added for one in sign(home, leaf, recursive=True))


def test_equal_root_hashes_are_signed_once(home, leaf, directory):
    one, two = tars(2)
    push_image(home.store, "v1", [one, two, two])
    _, signing_request = prepare(home, leaf, directory)
    assert len(signing_request.messages) == 3
    sign_all(directory, leaf)
    attach(home, directory)
    assert verify(home.store, "v1", trust=trusting(leaf)).verified


def test_what_is_reused_is_signed_again(home, leaf, directory, monkeypatch):
    push_image(home.store, "v1", tars(2))
    sign(home, leaf)
    push_image(home.store, "v2", tars(3))
    seen = hashed_layers(monkeypatch)
    (plan,), signing_request = prepare(home, leaf, directory, "v2", reuse=Reuse())
    assert len(seen) == 1
    assert [bool(layer.reused) for layer in plan.layers] == [True, True, False]
    assert len(signing_request.messages) == 4
    sign_all(directory, leaf)
    (signed,) = attach(home, directory, "v2")
    assert signed.layers == tuple(replace(one, seconds=0) for one in plan.layers)


def test_a_timestamp_is_over_the_signature(home, leaf, directory):
    push_image(home.store, "v1", tars(1))
    prepare(home, leaf, directory)
    sign_all(directory, leaf)
    stamped = []
    attach(home, directory, timestamp=lambda signature: stamped.append(signature) or b"token")
    (signature,) = stamped
    scheme = BY_NAME["ecdsa-sha256"]
    assert signature == to_fixed_width((directory / "notary-1.bin.sig").read_bytes(), scheme)


def test_the_same_image_elsewhere(make_home, leaf, directory, tmp_path, serve, connect):
    home = make_home("layout")
    image = push_image(home.store, "v1")
    prepare(home, leaf, directory)
    sign_all(directory, leaf)
    other = connect(serve())
    assert push_image(other, "other") == image
    (signed,) = attach_image(other, "other", SigningRequest.read(directory, "image"))
    assert len(other.referrers(image.descriptor)) == len(signed.added) == 2
    assert home.store.referrers(image.descriptor) == []


# -- files


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", bytes(8192))


def test_a_file(data, directory, tmp_path):
    leaf = make_leaf(make_root(), key="RSA-2048")
    paths = SignedPaths.beside(data)
    formatted, signing_request = prepare_file(data, paths, leaf.chain, directory=directory)
    assert not paths.signature.exists()
    assert paths.root_hash.read_bytes() == formatted.root_hash.hex().encode()
    with pytest.raises(StorageError, match="has no root-hash-1"):
        attach_file(signing_request, paths)
    sign_all(directory, leaf)
    attach_file(SigningRequest.read(directory, "file"), paths)
    other = SignedPaths.beside(write(tmp_path / "other", bytes(8192)))
    options = {"superblock_uuid": formatted.superblock.uuid}
    signed = sign_file(tmp_path / "other", other, signer_of(leaf), formatted.params, **options)
    assert paths.signature.read_bytes() == signed.signature
    with pytest.raises(FormatError, match="is file"):
        SigningRequest.read(directory, "image")


@pytest.mark.parametrize("what", ["root hash file", "signature", "record"])
def test_a_file_that_was_changed(what, data, directory, leaf):
    paths = SignedPaths.beside(data)
    prepare_file(data, paths, leaf.chain, directory=directory)
    sign_all(directory, leaf)
    if what == "root hash file":
        write(paths.root_hash, b"ab" * 32)
    elif what == "signature":
        write(directory / "root-hash-1.txt.sig", b"no")
    else:
        record(lambda value: value["made"].update(root_hash="ab" * 32))(directory)
        write(paths.root_hash, b"ab" * 32)
    with pytest.raises(SigningError):
        attach_file(SigningRequest.read(directory, "file"), paths)
    assert not paths.signature.exists()


def test_all_or_nothing_is_prepared_of_a_file(data, directory, leaf):
    directory.mkdir()
    write(directory / "mine", b"")
    paths = SignedPaths.beside(data)
    with pytest.raises(ParameterError, match="not empty"):
        prepare_file(data, paths, leaf.chain, directory=directory)
    assert not paths.hash_file.exists()
    assert not paths.root_hash.exists()
