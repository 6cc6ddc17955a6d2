"""Several keys, none of them here: each signs its own files, and all is as if they were here."""

import pytest
from container_images import push_image, push_index, tars
from helpers_pkcs7 import signer_of
from pipeline.offline_requests import attach, prepare, record, sign_all
from pki import make_leaf, make_root
from signed_homes import homes, sign
from signed_images import verify

from dmsign_fast.envelope.signed_data import parse_signed_data
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import DmsignError, FormatError, SigningError
from dmsign_fast.pipeline.signing_request import By, SigningRequest
from dmsign_fast.trust.verdict import trust_files

ML_DSA = make_leaf(make_root("ML-DSA root", key="ML-DSA-65"), "Layers", key="ML-DSA-65")
SECOND = make_leaf(make_root("Second root"), "Second", key="RSA-2048")


@pytest.fixture
def others(leaf):
    return {By.AND: SECOND, By.MANIFEST: leaf}


def asked(home, directory, others, reference="v1", **options):
    """What is asked of an ML-DSA key and of others."""
    chains = {by: one.chain for by, one in others.items()}
    _, request = prepare(home, ML_DSA, directory, reference, chains, **options)
    return request


def signed_by_all(directory, others):
    sign_all(directory, ML_DSA)
    for by, one in others.items():
        sign_all(directory, one, chain=by.chain)


def in_one_step(home, others, **options):
    signers = {by: signer_of(one) for by, one in others.items()}
    and_by = (signers[By.AND],) if By.AND in signers else ()
    (signed,) = sign(
        home, ML_DSA, and_by=and_by, manifest_signer=signers.get(By.MANIFEST), **options
    )
    return signed


@homes
@pytest.mark.parametrize("which", [(By.MANIFEST,), (By.AND, By.MANIFEST)], ids=["one", "two"])
def test_it_ends_as_sign_does(kind, which, make_home, directory, others):
    home = make_home(kind)
    push_image(home.store, "v1", tars(2))
    others = {by: others[by] for by in which}
    request = asked(home, directory, others)
    by_file = {one.file: (one.by, one.scheme.name) for one in request.messages}
    assert by_file == {
        **{f"root-hash-{number}.txt": (By.KEY, "ml-dsa-65") for number in (1, 2)},
        **{
            f"and-root-hash-{number}.txt": (By.AND, "rsassa-pkcs1-v1_5-sha256")
            for number in (1, 2)
            if By.AND in which
        },
        "manifest-notary-1.bin": (By.MANIFEST, "ecdsa-sha256"),
    }
    signed_by_all(directory, others)
    (signed,) = attach(home, directory)
    assert len(signed.added) == 2
    trust = trust_files(TrustAnchors((ML_DSA.root, others[By.MANIFEST].root)))
    assert verify(home.store, "v1", trust=trust, deep=True).verified
    artifact = home.store.fetch_manifest(signed.dm_verity)
    counts = {len(parse_signed_data(home.read(one)).signers) for one in artifact.layers}
    assert counts == {len(which)}
    again = in_one_step(home, others)
    assert again.added == ()
    assert (again.dm_verity, again.notary) == (signed.dm_verity, signed.notary)
    (twice,) = attach(home, directory)
    assert twice.added == ()


def test_an_index(home, directory, others):
    one, two = (push_image(home.store, contents=tars(1, seed)) for seed in (1, 2))
    push_index(home.store, "v1", [(one, "linux/amd64"), (two, "linux/arm64")])
    request = asked(home, directory, others, recursive=True)
    assert len(request.messages) == 2 * 2 + 3
    signed_by_all(directory, others)
    assert [len(one.added) for one in attach(home, directory)] == [2, 2, 1]


def test_without_a_key_for_the_manifest(home, directory):
    push_image(home.store, "v1", tars(1))
    with pytest.raises(SigningError, match="--manifest-key"):
        asked(home, directory, {})
    assert not directory.exists()
    asked(home, directory, {}, manifest_signature=False)
    signed_by_all(directory, {})
    (signed,) = attach(home, directory, manifest_signature=False)
    assert len(signed.added) == 1


def without(by):
    """Leave a key out of the record, and all that it signs."""

    def change(value):
        del value["certificates"][by.chain]
        value["to_sign"] = [one for one in value["to_sign"] if one["certificates"] != by.chain]

    return record(change)


def by_another(name, by):
    """Say that another key signs a file."""

    def change(value):
        (entry,) = [one for one in value["to_sign"] if one["file"] == name]
        entry["certificates"] = by.chain

    return record(change)


def exchanged(directory):
    """The files of two keys, with what the record says of them."""

    def change(value):
        known = value["certificates"]
        known["chain.pem"], known["and-chain.pem"] = known["and-chain.pem"], known["chain.pem"]

    record(change)(directory)
    one, two = directory / "chain.pem", directory / "and-chain.pem"
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)


WRONG = {
    "the manifest's key left out": (without(By.MANIFEST), SigningError, "--manifest-key"),
    "a root hash by the other key": (
        by_another("root-hash-1.txt", By.AND),
        SigningError,
        "is no good for the root hash",
    ),
    "keys exchanged": (exchanged, SigningError, "is no good for the root hash"),
    "a key of which nothing is": (
        record(lambda value: value["certificates"].update({"third-chain.pem": []})),
        None,
        "",
    ),
    "a file by no key": (
        record(lambda value: value["to_sign"][0].update(certificates="third-chain.pem")),
        FormatError,
        "'third-chain.pem' is not known",
    ),
    "certificates changed": (
        lambda one: (one / "and-chain.pem").write_bytes((one / "chain.pem").read_bytes()),
        SigningError,
        r"and-chain\.pem was changed",
    ),
    "certificates of nothing": (
        record(
            lambda value: value.update(
                to_sign=[one for one in value["to_sign"] if one["file"] != "manifest-notary-1.bin"]
            )
        ),
        FormatError,
        "is not by the keys",
    ),
    "signatures of the other key": (
        lambda one: (one / "root-hash-1.txt.sig").write_bytes(
            (one / "and-root-hash-1.txt.sig").read_bytes()
        ),
        SigningError,
        "is no good for the root hash",
    ),
    "a signature is missing": (
        lambda one: (one / "manifest-notary-1.bin.sig").unlink(),
        DmsignError,
        r"has no manifest-notary-1\.bin\.sig",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_nothing_is_pushed_if(what, home, directory, others):
    alter, error, words = WRONG[what]
    push_image(home.store, "v1", tars(1))
    asked(home, directory, others)
    signed_by_all(directory, others)
    before = home.contents
    alter(directory)
    if error is None:  # of no consequence
        attach(home, directory)
        return
    with pytest.raises(error, match=words):
        attach(home, directory)
    assert home.contents == before


def test_the_second_signer_left_out_is_seen_only_in_who_signs(home, directory, others):
    """docs/two-steps.md says so: one of two signers is enough for Linux anyway."""
    push_image(home.store, "v1", tars(1))
    asked(home, directory, others)
    signed_by_all(directory, others)
    without(By.AND)(directory)
    request = SigningRequest.read(directory, "image")
    assert request.signers.keys() == {"signer", "manifest_signer"}
    (signed,) = attach(home, directory)
    artifact = home.store.fetch_manifest(signed.dm_verity)
    assert [len(parse_signed_data(home.read(one)).signers) for one in artifact.layers] == [1]
