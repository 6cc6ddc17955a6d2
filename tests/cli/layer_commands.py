"""What the tests of ``dmsign-fast layer`` share."""

import gzip
import hashlib

from erofs_layers.twins import image_of, tree_of

from dmsign_fast.erofs.recipe import Recipe

COMMANDS = ("roothash", "convert")


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def node(packed, name="containerd", version="1.9.4"):
    """The root hash that a node computes."""
    recipe = Recipe.parse(f"{name}@{version}")
    plain = gzip.decompress(packed) if packed[:1] == b"\x1f" else packed
    identity = recipe.image_uuid(digest=sha256(packed), diff_id=sha256(plain))
    return tree_of(image_of(plain, recipe, identity), recipe.params)[0].hex()


def fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    assert done.out == ""
    assert "Traceback" not in done.err
    last = done.err.splitlines()[-1]
    assert ": error: " in last
    for word in words:
        assert word in last
