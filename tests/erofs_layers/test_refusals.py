"""Tars that a node fails with, or loses a part of: refused by name, or done as the node does."""

import dataclasses
from uuid import UUID

import pytest
from erofs.tar_maker import gnu_long, header, padded, pax
from erofs_layers.twins import END, VERSIONS, file, image_of, tar_of, tree_of

from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.recipe import ImageLayout, Recipe
from dmsign_fast.errors import FormatError

NAMES = ("containerd", "osguard")
GOOD = file(b"good", b"x" * 5000)

# name of the case: the entries, the entry that is named, the reason
FAILS = {
    "opaque mark on the root": (
        [GOOD, header(b".wh..wh..opq", b"0")],
        ".wh..wh..opq",
        "opaque mark on the root directory",
    ),
    "hard link to a file of a lower layer": (
        [header(b"link", b"1", link=b"lower")],
        "link",
        "not in this layer, or only later",
    ),
    "hard link to a later entry": (
        [header(b"link", b"1", link=b"later"), file(b"later", b"x")],
        "link",
        "not in this layer, or only later",
    ),
    "hard link to a directory": (
        [header(b"d", b"5"), header(b"link", b"1", link=b"d")],
        "link",
        "hard link to a directory",
    ),
    "path through a symlink": (
        [header(b"lib", b"2", link=b"usr/lib"), file(b"lib/so", b"x")],
        "lib/so",
        "through something that is not a directory",
    ),
    "name of more than 255 bytes": (
        [pax([(b"path", b"n" * 256)]) + file(b"n", b"")],
        "n" * 255,
        "name above 255 bytes",
    ),
    "header of bad checksum": (
        [GOOD, b"bad\0".ljust(512, b"!")],
        "bad",
        "bad header checksum",
    ),
    "no ustar": ([GOOD, header(b"old", b"0", magic=b"\0" * 8)], "old", "not a ustar header"),
    "number that is none": ([header(b"f", b"0", raw={"mode": b"9"})], "f", "invalid number"),
}
LOSES = {
    "GNU sparse file": (
        [header(b"sparse", b"S", 600) + padded(b"s" * 600), GOOD],
        "sparse",
        "GNU sparse file: mkfs.erofs drops it",
    ),
    "typeflag NUL": (
        [GOOD, header(b"old", b"\0", 700) + padded(b"o" * 700), file(b"after", b"a")],
        "old",
        "unknown entry type: mkfs.erofs drops it",
    ),
    "unknown type": ([header(b"odd", b"Z", 0), GOOD], "odd", "unknown entry type"),
    "PAX sparse file": (
        [
            pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0")])
            + file(b"GNUSparseFile.0/file", b"1\n0\n5\n".ljust(512, b"\0") + b"hello")
        ],
        "./PaxHeaders/x",
        "sparse file: mkfs.erofs stores its map",
    ),
    **{
        f"{key.decode()} of a global header": (
            [pax([(key, b"7")], b"g"), file(b"f", b"")],
            "./PaxHeaders/x",
            "in a global PAX header: mkfs.erofs ignores it for the next entry",
        )
        for key in (b"uid", b"gid", b"mtime")
    },
    "attribute without a name": (
        [pax([(b"SCHILY.xattr.", b"")]) + file(b"f", b"")],
        "f",
        "extended attribute without a name: mkfs.erofs drops it",
    ),
    "data on a directory": (
        [header(b"d", b"5", 512), padded(b""), header(b"f", b"0"), GOOD],
        "d",
        "mkfs.erofs misplaces it",
    ),
}
OF_ONE_VERSION = {
    "unknown namespace of attributes": (
        [pax([(b"SCHILY.xattr.lustre.x", b"1")]) + file(b"f", b"")],
        "f",
        "mkfs.erofs of this version drops",
        "1.8.6",
    ),
    "no end of the archive": ([GOOD], "", "no end-of-archive blocks", "1.8.6"),
    "entry named /": ([header(b"/", b"5")], "/", "crashes", "1.8.6"),
}


def recipe_of(name, version):
    return dataclasses.replace(Recipe.parse(f"{name}@{version}"), uuid=UUID(int=9))


def root_hash(tar, recipe, *, lossy=False):
    hasher = LayerHasher(recipe, lossy=lossy)
    hasher.update(tar)
    return hasher.finalize().root_hash


def assert_refused(tar, recipe, entry, reason, *, lossy=False):
    with pytest.raises(FormatError) as caught:
        root_hash(tar, recipe, lossy=lossy)
    text = str(caught.value)
    if entry:
        assert text.startswith(f"the entry {entry!r} at byte "), text
    else:
        assert text.startswith("the tar cannot be converted: "), text
    assert reason in text
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", FAILS)
def test_what_a_node_fails_with(case, version, name):
    entries, entry, reason = FAILS[case]
    tar, recipe = tar_of(*entries), recipe_of(name, version)
    assert image_of(tar, recipe, recipe.uuid) is None
    for lossy in (False, True):
        assert_refused(tar, recipe, entry, reason, lossy=lossy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", LOSES)
def test_what_a_node_loses(case, version, name):
    entries, entry, reason = LOSES[case]
    tar, recipe = tar_of(*entries), recipe_of(name, version)
    assert_refused(tar, recipe, entry, reason)
    image = image_of(tar, recipe, recipe.uuid)
    assert image is not None
    assert root_hash(tar, recipe, lossy=True) == tree_of(image, recipe.params)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", OF_ONE_VERSION)
def test_what_one_version_fails_with_or_loses(case, name):
    entries, entry, reason, version = OF_ONE_VERSION[case]
    tar = b"".join(entries) + (b"" if "archive" in reason or "end" in case else END)
    assert_refused(tar, recipe_of(name, version), entry, reason)
    newer = recipe_of(name, "1.9.4")
    wanted = tree_of(image_of(tar, newer, newer.uuid), newer.params)[0]
    assert root_hash(tar, newer) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_where_the_entry_begins(name):
    entries = [GOOD, GOOD, header(b"sparse", b"S", 0)]
    with pytest.raises(FormatError, match=f"at byte {2 * len(GOOD)} of the tar"):
        root_hash(tar_of(*entries), recipe_of(name, "1.9.4"))


def test_names_that_are_no_text_or_long():
    recipe = recipe_of("osguard", "1.9.4")
    with pytest.raises(FormatError, match=r"the entry 'no\\udcffext'"):
        root_hash(tar_of(header(b"no\xffext", b"S")), recipe)
    with pytest.raises(FormatError, match=r"the entry 'a/a/a/.*a/a' at byte") as caught:
        root_hash(tar_of(gnu_long(b"a/" * 500, b"L"), header(b"a", b"S")), recipe)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", [1, 512, 9 << 10, 32 << 10])
def test_what_follows_the_archive_is_a_part_of_a_tar_index(size, version):
    tar = tar_of(GOOD)
    for behind in (bytes(size), b"x" * size):
        index, full = recipe_of("osguard", version), recipe_of("containerd", version)
        for recipe in (index, full):
            wanted = tree_of(image_of(tar + behind, recipe, recipe.uuid), recipe.params)[0]
            assert root_hash(tar + behind, recipe) == wanted
        assert root_hash(tar + behind, full) == root_hash(tar, full)
        assert root_hash(tar + behind, index) != root_hash(tar, index)


@pytest.mark.parametrize("behind", [bytes((32 << 10) + 1), b"x" * (1 << 20)])
def test_more_behind_the_archive_than_one_read_of_containerd(behind):
    """A node appends what it has piped to mkfs.erofs, in pieces of 32 KiB: the rest is a race."""
    tar = tar_of(GOOD)
    recipe = recipe_of("containerd-tar-index", "1.9.4")
    reason = f"{len(behind)} bytes follow the end of the archive at byte {len(tar)} of the tar"
    with pytest.raises(FormatError, match=reason):
        root_hash(tar + behind, recipe)
    wanted = tree_of(image_of(tar + behind, recipe, recipe.uuid), recipe.params)[0]
    assert root_hash(tar + behind, recipe, lossy=True) == wanted
    full = recipe_of("containerd", "1.9.4")
    assert full.layout is ImageLayout.FULL
    assert root_hash(tar + behind, full) == root_hash(tar, full)


@pytest.mark.parametrize("cut", [1, 100, 512, 1024, 4000])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_tar_that_is_cut_short(version, name, cut):
    tar = GOOD + GOOD
    entry = "good" if cut > len(GOOD) - 512 - 5000 else ""  # else in the bytes behind its data
    assert_refused(tar[:-cut], recipe_of(name, version), entry, "truncated archive")
