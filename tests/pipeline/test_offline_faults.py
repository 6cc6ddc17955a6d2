"""What is signed elsewhere: where anything is wrong, nothing is pushed, or prepared."""

import json
from dataclasses import replace

import pytest
from container_images import push_image, push_index, tars
from helpers import write
from helpers_pkcs7 import signer_of
from pipeline.offline_requests import BY_NAME, attach, prepare, record, sign_all
from pki import DAY, NOW, make_expired_leaf, make_intermediate, make_leaf, make_root, pem
from signed_homes import RECIPE, hashed_layers

from dmsign_fast.errors import (
    DmsignError,
    FormatError,
    NotFoundError,
    ParameterError,
    SigningError,
    StorageError,
    VerificationError,
)
from dmsign_fast.pipeline.offline import prepare_image
from dmsign_fast.pipeline.plan import SignOptions

# -- nothing is pushed


def another_signature(directory):
    one, two = (directory / f"root-hash-{number}.txt.sig" for number in (1, 2))
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)


def exchange(value):
    first, second, *_ = value["made"]["images"][0]["layers"]
    first["root_hash"], second["root_hash"] = second["root_hash"], first["root_hash"]


def other_name(value):
    value["to_sign"][0]["file"] = "../root-hash-1.txt"


def option(name, other):
    return lambda value: value["made"]["options"].update({name: other})


def rewrite(name, content):
    return lambda directory: (directory / name).write_bytes(content)


def remove(*names):
    def alter(directory):
        for name in names:
            (directory / name).unlink()

    return alter


def changed_with_its_digest(directory):
    from hashlib import sha256

    content = b"ab" * 32
    (directory / "root-hash-1.txt").write_bytes(content)
    record(lambda value: value["to_sign"][0].update(sha256=sha256(content).hexdigest()))(directory)


STRANGER = make_leaf(make_root("Strange Root"), "Stranger")
WRONG = {
    "two signatures exchanged": (another_signature, SigningError, r"root-hash-1\.txt\.sig is no g"),
    "no signature": (rewrite("notary-1.bin.sig", b""), SigningError, r"notary-1\.bin\.sig is no"),
    "text": (rewrite("root-hash-1.txt.sig", b"YWJj\n"), SigningError, "is no good for the root"),
    "all by another key": (lambda one: sign_all(one, STRANGER), SigningError, "by the key of"),
    "a signature is missing": (
        remove("root-hash-2.txt.sig", "notary-1.bin.sig"),
        StorageError,
        r"has no root-hash-2\.txt\.sig, notary-1\.bin\.sig: sign 2 of 4",
    ),
    "a file is missing": (remove("root-hash-2.txt"), StorageError, "cannot read .*root-hash-2"),
    "a file was changed": (rewrite("notary-1.bin", b"x"), SigningError, "was changed"),
    "and its digest": (changed_with_its_digest, SigningError, "is no good for"),
    "another certificate": (
        rewrite("chain.pem", pem(*STRANGER.chain)),
        SigningError,
        r"chain\.pem was changed",
    ),
    "a layer less": (
        record(lambda value: value["made"]["images"][0]["layers"].pop()),
        SigningError,
        "was prepared",
    ),
    "root hashes exchanged": (record(exchange), SigningError, "no ecdsa-sha256 signature was prep"),
    "another time": (
        record(option("signing_time", "2026-01-01T00:00:00+00:00")),
        SigningError,
        "certificates cannot sign|was prepared for",
    ),
    "an expiry": (record(option("expiry", f"{NOW + DAY:%FT%TZ}")), SigningError, "was prepared"),
    "an expiry that is over": (
        record(option("expiry", "2020-01-01T00:00:00Z")),
        ParameterError,
        "expires on 2020",
    ),
    "user metadata": (record(option("user_metadata", {"a": "b"})), SigningError, "was prepared"),
    "another recipe": (
        record(lambda value: value["made"]["options"]["recipe"].update(name="osguard")),
        SigningError,
        "was prepared",
    ),
    "another format": (
        record(option("media_type", "application/cose")),
        SigningError,
        "was prepared",
    ),
    "no recipe": (record(option("recipe", {})), FormatError, "recipe is malformed"),
    "no time": (record(option("signing_time", "now")), FormatError, "signing_time is not a time"),
    "no zone": (record(option("signing_time", "2026-11-22")), FormatError, "has no time zone"),
    "no flag": (record(option("legacy", "no")), FormatError, "neither true nor false"),
    "no JSON": (rewrite("manifest.json", b"{"), FormatError, "is not JSON"),
    "another version": (record(lambda value: value.update(version=1)), FormatError, "version"),
    "another kind": (record(lambda value: value.update(kind="file")), FormatError, "is file"),
    "a way out": (record(other_name), FormatError, "is not the name of a file"),
    "a name that no file has": (
        record(lambda value: value["to_sign"][0].update(file="a\0b")),
        FormatError,
        "is not the name of a file",
    ),
    "an unknown scheme": (
        record(lambda value: value["to_sign"][0].update(scheme="ed25519")),
        FormatError,
        "'ed25519' is not known",
    ),
    "no root hash": (
        record(lambda value: value["made"]["images"][0]["layers"][0].update(root_hash="AB")),
        FormatError,
        "is not a root hash",
    ),
    "another image": (
        record(lambda value: value["made"].update(resolved="sha256:" + "0" * 64)),
        VerificationError,
        "was moved meanwhile",
    ),
    "no image": (
        record(
            lambda value: value["made"]["images"][0]["manifest"].update(digest="sha256:" + "0" * 64)
        ),
        NotFoundError,
        "0000",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_nothing_is_pushed_if(what, home, leaf, directory):
    alter, error, words = WRONG[what]
    push_image(home.store, "v1")
    prepare(home, leaf, directory)
    sign_all(directory, leaf)
    before = home.contents
    alter(directory)
    with pytest.raises(error, match=words):
        attach(home, directory)
    assert home.contents == before


# what is for people, or of no consequence
FREE = {
    *("made_by", "to_sign.what", "to_sign.signature", "to_sign.digest_algorithm"),
    *("made.reference", "made.oci_layout", "made.options.agent"),
    *("made.images.layers.diff_id", "made.images.layers.size"),
    *("made.images.layers.uncompressed_size", "made.images.layers.reused"),
}


def leaves(value, path=()):
    if isinstance(value, dict | list) and value:
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, name))
    yield path


def test_every_word_of_the_record_counts(home, leaf, directory):
    push_image(home.store, "v1", tars(2))
    prepare(home, leaf, directory, expiry=NOW + DAY, user_metadata={"a": "b"})
    sign_all(directory, leaf)
    before, path = home.contents, directory / "manifest.json"
    text = path.read_text()
    counts = set()
    for where in leaves(json.loads(text)):
        name = ".".join(one for one in where if isinstance(one, str))
        for other in (None, 0, -1, True, "", "x", "sha256:" + "ab" * 32, [], {}, [{}], {"a": 1}):
            value = {"": json.loads(text)}
            place = value
            for one in ("", *where[:-1]):
                place = place[one]
            if where:
                place[where[-1]] = other
            else:
                value[""] = other
            path.write_text(json.dumps(value[""]))
            if name in FREE or value[""] == json.loads(text):
                continue
            if (where[-1:], other) == (("pkcs7_digest",), ""):  # the same as null
                continue
            with pytest.raises(DmsignError):
                attach(home, directory)
            counts.add(name)
    assert home.contents == before
    assert len(counts) > 30
    path.write_text(text)
    attach(home, directory)


@pytest.mark.parametrize("kind", ["layout", "api"])
def test_nothing_is_pushed_if_the_tag_has_moved(kind, make_home, leaf, directory):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    prepare(home, leaf, directory)
    sign_all(directory, leaf)
    push_image(home.store, "v1", seed=2)
    before = home.contents
    with pytest.raises(VerificationError, match=r"v1 names .* moved meanwhile; prepare again"):
        attach(home, directory)
    assert home.contents == before
    attach(home, directory, image.descriptor.digest)  # who means that one may say so
    assert len(home.store.referrers(image.descriptor)) == 2


def test_a_record_that_asks_for_less(home, leaf, directory):
    push_image(home.store, "v1")
    prepare(home, leaf, directory, manifest_signature=False)
    sign_all(directory, leaf)
    before = home.contents
    record(lambda value: value["made"]["images"][0]["layers"].pop())(directory)
    with pytest.raises(SigningError, match=r"asks for 2 of 3 signatures: the record was changed"):
        attach(home, directory, manifest_signature=False)
    assert home.contents == before


def test_nothing_is_pushed_of_an_index_without_its_last_signature(home, leaf, directory):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    prepare(home, leaf, directory, recursive=True)
    sign_all(directory, leaf)
    (directory / "notary-3.bin.sig").write_bytes(b"no")
    before = home.contents
    with pytest.raises(SigningError, match=r"notary-3\.bin\.sig"):
        attach(home, directory)
    assert home.contents == before


HINTS = {
    "the scheme of root hashes": ("rsassa-pkcs1-v1_5-sha256", "it is a rsassa-pkcs1-v1_5-sha256"),
    "a longer salt": ("max", "its salt should be as long as the digest, 32 bytes"),
    "cut off": ("cut", "it has 255 bytes, and a signature by this key 256"),
}


@pytest.mark.parametrize("what", HINTS)
def test_what_is_wrong_with_a_signature_is_said(what, home, directory):
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.hashes import SHA256

    leaf = make_leaf(make_root(), key="RSA-2048")
    push_image(home.store, "v1", tars(1))
    prepare(home, leaf, directory)
    sign_all(directory, leaf)
    how, words = HINTS[what]
    path = directory / "notary-1.bin"
    if how == "max":
        pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH)
        signature = leaf.key.sign(path.read_bytes(), pss, SHA256())
    elif how == "cut":
        signature = (directory / "notary-1.bin.sig").read_bytes()[:-1]
    else:
        signature = signer_of(leaf).sign(path.read_bytes(), BY_NAME[how])
    write(directory / "notary-1.bin.sig", signature)
    with pytest.raises(SigningError, match=words):
        attach(home, directory)


# -- nothing is prepared


def test_a_directory_with_something_in_it(home, leaf, directory):
    push_image(home.store, "v1", tars(1))
    directory.mkdir()
    write(directory / "mine", b"")
    with pytest.raises(ParameterError, match="is not empty"):
        prepare(home, leaf, directory)
    assert [path.name for path in directory.iterdir()] == ["mine"]


def test_a_directory_that_is_a_file(home, leaf, directory, monkeypatch):
    push_image(home.store, "v1", tars(1))
    write(directory, b"")
    seen = hashed_layers(monkeypatch)
    with pytest.raises(StorageError, match="cannot read"):
        prepare(home, leaf, directory)
    assert seen == []


def test_a_reference_that_is_no_text(home, leaf, directory):
    image = push_image(home.store, "v1", tars(1))
    options = SignOptions(recipe=RECIPE)
    place = {"reference": "\udcff:v1", "oci_layout": True}
    with pytest.raises(ParameterError, match="is not UTF-8 text"):
        prepare_image(home.store, "v1", leaf.chain, options, directory, **place)
    assert list(directory.iterdir()) == []
    assert home.store.referrers(image.descriptor) == []


@pytest.mark.parametrize("what", ["expired", "without its root", "not for signing"])
def test_certificates_that_must_not_sign(what, home, directory):
    root = make_root()
    leaf = {
        "expired": lambda: make_expired_leaf(root),
        "without its root": lambda: replace(make_leaf(make_intermediate(root)), above=()),
        "not for signing": lambda: make_leaf(root, "Usage", usage=("key_encipherment",)),
    }[what]()
    push_image(home.store, "v1", tars(1))
    with pytest.raises(SigningError):
        prepare(home, leaf, directory)
    assert not directory.exists()
