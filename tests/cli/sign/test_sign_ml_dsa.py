"""ML-DSA for layers, another key for the manifest, and messages of two signers."""

import json

import pytest
from container_images import push_image, tars
from helpers import cli, noise
from pki import make_leaf, make_root
from sign_commands import assert_fails, name

from dmsign_fast.envelope.signed_data import parse_signed_data

ML_DSA = make_leaf(make_root("ML-DSA root", key="ML-DSA-65"), "Layers", key="ML-DSA-65")


@pytest.fixture
def options(tmp_path, leaf):
    """Return the options of a key by role: of the layers, of the manifest, and beside."""
    layers, other = ML_DSA.write(tmp_path / "layers"), leaf.write(tmp_path / "other")
    return {
        "key": ("--key", layers.key, "--cert", layers.chain),
        "manifest": ("--manifest-key", other.key, "--manifest-cert", other.chain),
        "and": ("--and-key", other.key, "--and-cert", other.chain),
        "trust": ("--trust", layers.root, "--trust", other.root),
    }


def signed(home, *options):
    done = cli("sign", *name(home), *options, "--output", "json")
    assert done.exit_code == 0, done.err
    (image,) = json.loads(done.out)["images"]
    return image


def signers(home, image, artifact):
    found = {one.digest: one for one in home.store.referrers(image.descriptor)}
    described = home.store.fetch_manifest(found[artifact])
    return {len(parse_signed_data(home.read(one)).signers) for one in described.layers}


def test_the_manifest_wants_another_key(home, options):
    image = push_image(home.store, "v1", tars(2))
    assert_fails(cli("sign", *name(home), *options["key"]), 5, "ML-DSA-65", "--manifest-key")
    assert not home.store.referrers(image.descriptor)
    made = signed(home, *options["key"], *options["manifest"])
    assert signers(home, image, made["dm_verity_artifact"]) == {1}
    done = cli("verify", *name(home), *options["trust"])
    assert done.exit_code == 0, done
    # one of both keys is not enough
    assert cli("verify", *name(home), *options["trust"][:2]).exit_code != 0
    assert cli("verify", *name(home), *options["trust"][2:]).exit_code != 0
    again = signed(home, *options["key"], *options["manifest"])
    assert not again["added"]
    assert len(list(home.store.referrers(image.descriptor))) == 2


def test_layers_alone(home, options):
    image = push_image(home.store, "v1", tars(1))
    signed(home, *options["key"], "--no-manifest-signature")
    assert len(list(home.store.referrers(image.descriptor))) == 1


def test_two_signers_of_the_layers(home, options):
    image = push_image(home.store, "v1", tars(2))
    both = (*options["key"], *options["and"], *options["manifest"])
    made = signed(home, *both)
    assert signers(home, image, made["dm_verity_artifact"]) == {2}
    assert not signed(home, *both)["added"]
    done = cli("verify", *name(home), *options["trust"][2:])  # the classic key alone
    assert done.exit_code == 0, done
    # what one key signed is not what both sign
    alone = signed(home, *options["key"], *options["manifest"])
    assert signers(home, image, alone["dm_verity_artifact"]) == {1}
    assert not signed(home, *both)["added"]


def test_a_file_of_two_signers(options, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(noise(8192))
    done = cli("verity", "sign", data, *options["key"], *options["and"])
    assert done.exit_code == 0, done
    signature = tmp_path / "data.roothash.p7s"
    assert len(parse_signed_data(signature.read_bytes()).signers) == 2
    for root in (options["trust"][1], options["trust"][3]):
        done = cli(
            *("verity", "verify", data, f"{data}.verity", "--cert", root),
            *("--root-hash-file", f"{data}.roothash", "--signature", signature),
        )
        assert done.exit_code == 0, done


def test_the_same_signer_twice(options, tmp_path):
    data = tmp_path / "data"
    data.write_bytes(noise(8192))
    same = ("--and-key", options["key"][1], "--and-cert", options["key"][3])
    done = cli("verity", "sign", data, *options["key"], *same)
    assert_fails(done, 2, "the same certificate")
    done = cli("verity", "sign", data, *options["key"], "--and-cert", options["key"][3])
    assert_fails(done, 2, "--and-cert needs --and-key")
    assert not (tmp_path / "data.verity").exists()
