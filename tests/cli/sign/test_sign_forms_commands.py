"""``--artifact`` and ``--replace`` as people use them."""

import json

import pytest
from container_images import push_image, tars
from helpers import cli
from pki import pem
from sign_commands import NOTARY, assert_fails, judge, listed, name, only, types

from dmsign_fast.pipeline.forms import FORMS

TYPES = {form.name: form.artifact_type for form in FORMS}
INDEX = ("--recipe", "containerd-tar-index")


@pytest.mark.parametrize("kind", ["layout", "docker-registry", "api"])
def test_notation_minds_none_of_them(kind, make_home, key, leaf, configuration):
    home = make_home(kind)
    image = push_image(home.store, "v1")
    done = cli("sign", *name(home), *key, "--artifact", "all", *INDEX)
    assert done.exit_code == 0, done.err
    assert types(home, image) == sorted([NOTARY, *TYPES.values()])
    notation = configuration
    notation.trust(pem(leaf.root))
    assert judge(notation, home, image).exit_code == 0
    shown = judge(notation, home, image, command="list")
    assert listed(shown) == [only(home, image, NOTARY).digest], shown


def test_repeated_and_in_the_order_of_the_table(home, key):
    image = push_image(home.store, "v1", tars(1))
    done = cli(
        *("sign", *name(home), *key, "--artifact", "osguard", "--artifact", "notation"),
        *("--artifact", "osguard", "--output", "json"),
    )
    (one,) = json.loads(done.out)["images"]
    assert list(one["dm_verity_artifacts"]) == ["notation", "osguard"]
    assert one["dm_verity_artifact"] == one["dm_verity_artifacts"]["notation"]
    assert types(home, image) == sorted([NOTARY, TYPES["notation"], TYPES["osguard"]])


def test_all_says_what_the_recipe_does_not_fit(home, key):
    image = push_image(home.store, "v1", tars(1))
    done = cli("sign", *name(home), *key, "--artifact", "all")
    assert done.exit_code == 0
    assert "--artifact all leaves one out: the form acl is for images of the layout" in done.err
    assert TYPES["acl"] not in types(home, image)
    assert len(types(home, image)) == len(FORMS)
    for also in ((), ("--artifact", "all")):
        done = cli("sign", *name(home), *key, "--artifact", "acl", *also)
        assert_fails(done, 2, "the form acl is for images of the layout tar-index", "--recipe")


def test_an_unknown_form(home, key):
    done = cli("sign", *name(home), *key, "--artifact", "other")
    assert_fails(done, 2, "notation", "osguard", "azurelinux", "acl", "all")


def test_two_are_warned_of_and_replaced(home, key):
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), *key, "--artifact", "acl", *INDEX)
    assert cli(*arguments).exit_code == 0
    done = cli(*arguments, "--force", "--digest", "sha256")
    if types(home, image).count(TYPES["acl"]) == 1:  # in the same second, with an RSA key
        pytest.fail("two signatures are the same bytes")
    assert "warning: " in done.err
    assert "2 artifacts of the form acl: a node refuses the image" in done.err
    done = cli(*arguments, "--replace")
    assert done.exit_code == 0, done.err
    assert ": former dm-verity artifact\n" in done.out
    assert "warning: " not in done.err
    assert types(home, image).count(TYPES["acl"]) == 1


def test_verify_reads_what_sign_wrote(home, key, leaf, tmp_path):
    push_image(home.store, "v1")
    (tmp_path / "root.pem").write_bytes(pem(leaf.root))
    assert cli("sign", *name(home), *key, "--artifact", "all", *INDEX).exit_code == 0
    wanted = [word for form in FORMS for word in ("--artifact", form.name)]
    done = cli("verify", *name(home), "--trust", tmp_path / "root.pem", "--deep", *wanted, "-v")
    assert done.exit_code == 0, done.err
    assert done.out.count("made again") == 3 * len(FORMS)
