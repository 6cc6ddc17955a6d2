"""What strangers write beside an image's signatures ends no command."""

import json

import pytest
from container_images import push_image
from helpers import cli
from registry_server import change, sha256
from sign_commands import DM_VERITY, name

from dmsign_fast.cli.list import _made
from dmsign_fast.oci.descriptor import Descriptor

GOOD = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 3}
UNREADABLE = [
    GOOD | {"digest": "blake3:" + "0" * 64},
    GOOD | {"mediaType": "scan"},
    GOOD | {"annotations": {"n": 5}},
    None,
]
ODD = [GOOD | {"artifactType": "vuln-scan"}, GOOD | {"platform": {}}]


def with_odd(body):
    value = json.loads(body)
    value["manifests"][:0] = UNREADABLE + ODD
    return json.dumps(value).encode()


@pytest.mark.parametrize("kind", ["api", "tag schema", "layout"])
def test_every_command_goes_on_and_says_so(kind, make_home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    key, root = ("--key", files.key, "--cert", files.chain), files.root
    home = make_home(kind)
    image = push_image(home.store, "v1")
    signed = cli("sign", *name(home), *key)
    assert signed.exit_code == 0, signed.err
    if kind == "layout":
        index = home.store.path / "index.json"
        index.write_bytes(with_odd(index.read_bytes()))
    elif kind == "api":
        home.server.fail("GET", "/referrers/", change(with_odd), times=1000)
    else:
        repository = home.server.repository(home.store.repository)
        tag = image.descriptor.digest.referrers_tag
        media_type, raw = repository.manifests[repository.tags[tag]]
        repository.tags[tag] = sha256(with_odd(raw))
        repository.manifests[repository.tags[tag]] = (media_type, with_odd(raw))
    for command, options in (("list", ()), ("inspect", ()), ("verify", ("--trust", root, "-v"))):
        text = cli(command, *name(home), *options)
        assert text.exit_code == 0, text.err
        assert text.out.count("passed over: ") == len(UNREADABLE)
        read = json.loads(cli(command, *name(home), *options, "--output", "json").out)
        assert len(read["images"][0]["passed_over"]) == len(UNREADABLE)
    again = cli("sign", *name(home), *key)
    assert again.exit_code == 0, again.err
    assert "Already signed" in again.out


def test_a_recipe_that_is_none_ends_no_list():
    odd = GOOD | {"artifactType": DM_VERITY, "annotations": {"dmsign-fast.recipe.name": "x"}}
    assert _made(Descriptor.from_json(odd, "")) == " (notation, a malformed recipe)"
    assert _made(Descriptor.from_json(odd | {"annotations": {}}, "")) == " (notation)"
