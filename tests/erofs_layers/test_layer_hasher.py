"""The one-pass hasher next to mkfs.erofs and veritysetup."""

import dataclasses
import os
import random
import sys
import tempfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from erofs.tar_maker import Maker, header
from erofs_layers.twins import (
    FAST,
    VERSIONS,
    file,
    filled,
    image_of,
    tar_of,
    tree_of,
    typical_tar,
)
from helpers import noise, run

from dmsign_fast.erofs.image_hasher import hash_image, no_hash_area
from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.recipe import ImageLayout, Recipe
from dmsign_fast.errors import FormatError, ParameterError, StorageError
from dmsign_fast.verity.params import VerityParams

RECIPES = ("containerd", "osguard")  # one of each layout; they differ in their UUIDs only
SEEDS = (0, 1, 2, 3, 4, 5, 13, 17, 19, 20, 21, 26, 28, 33, 35, 7, 15)
DIGEST = "sha256:" + "5a" * 32


@contextmanager
def nameless():
    """A new file that has no name."""
    with tempfile.TemporaryFile(dir=FAST) as opened:
        yield opened.fileno()


def content(fd):
    """All that a file holds."""
    return os.pread(fd, os.fstat(fd).st_size, 0)


def fixed(recipe, identity=None):
    """A recipe for which no digest is needed."""
    return dataclasses.replace(recipe, uuid=identity or uuid4())


def pieces_of(data, chance):
    """Cut in pieces of random sizes, from single bytes to more than a block of threads."""
    at = 0
    while at < len(data):
        size = chance.choice([1, 2, 511, 512, 513, 4095, 4096, 9999, 100_000, 700_000])
        yield data[at : at + size]
        at += size


class Area:
    """Takes hash blocks as they are finished, into one piece of memory for each level."""

    def __init__(self, params):
        self.params, self.levels, self.blocks = params, [], None

    def __call__(self, blocks):
        self.blocks = blocks
        return self.take

    def take(self, level, hash_blocks):
        while level >= len(self.levels):
            self.levels.append(b"")
        self.levels[level] += bytes(hash_blocks)

    @property
    def bytes(self):
        """As it stands in a hash file."""
        layout = self.params.hash_area(self.blocks).levels
        assert [len(level) // self.params.hash_block_size for level in self.levels] == [
            level.blocks for level in layout
        ]
        return b"".join(reversed(self.levels))


def hashed(tar, recipe, seed=1, image=None, lossy=True):
    """Feed a tar to a hasher in every random way: (layer, hash area)."""
    chance = random.Random(seed)
    hasher = LayerHasher(
        recipe,
        threads=chance.choice([1, 2, 3]),
        memory=chance.choice([0, 32, 5000, 1 << 30]),
        image=image,
        lossy=lossy,
    )
    for piece in pieces_of(tar, chance):
        hasher.update(chance.choice([bytes, bytearray, memoryview])(piece))
    if chance.random() < 0.5:
        area = Area(recipe.params)
        layer = hasher.finalize(hash_area=area)
        return layer, area.bytes
    layer = hasher.finalize()
    return layer, layer.tree.hash_area


def assert_same(tar, recipe, seed=1, lossy=True):
    """Image, root hash and hash area are those of mkfs.erofs and veritysetup."""
    wanted = image_of(tar, recipe, recipe.uuid)
    assert wanted is not None
    root_hash, area = tree_of(wanted, recipe.params)
    with nameless() as image:
        layer, levels = hashed(tar, recipe, seed, image, lossy)
        block = recipe.params.data_block_size
        assert filled(content(image), block) == filled(wanted, block)
    assert layer.image_size == len(wanted)
    assert (layer.recipe, layer.uuid) == (recipe, recipe.uuid)
    assert layer.root_hash == root_hash
    assert levels == area
    alone, levels = hashed(tar, recipe, seed + 1, lossy=lossy)
    assert (alone.root_hash, levels, alone.image_size) == (root_hash, area, len(wanted))


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_tars(seed, version, name):
    assert_same(Maker(seed).make(), fixed(Recipe.parse(f"{name}@{version}")), seed)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_archivers_write(version, name):
    recipe = fixed(Recipe.parse(f"{name}@{version}"))
    assert_same(typical_tar(), recipe, lossy=False)
    assert_same(tar_of(), recipe, lossy=False)
    assert_same(tar_of(file(b"f", b"x")), recipe, lossy=False)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [2 << 20, (2 << 20) + 1, (8 << 20) - 512, (8 << 20) + 512])
def test_files_larger_than_what_is_kept_at_a_time(size, name):
    data = noise(1 << 20) * 9
    many = b"".join(file(b"%d" % number, data[number : 5 * number]) for number in range(600))
    tar = tar_of(file(b"a", data[:size]), many, file(b"z", data[1:]))
    assert_same(tar, fixed(Recipe.parse(name)), size)


@pytest.mark.parametrize("name", RECIPES)
def test_so_many_small_files_at_once_that_none_of_their_blocks_stands_whole(name):
    """Each file's last block is put together; there are more of them than are kept at a time."""
    tar = tar_of(*(file(b"%d" % number, noise(number % 500)) for number in range(1500)))
    recipe = fixed(Recipe.parse(name))
    hasher = LayerHasher(recipe)
    hasher.update(tar)
    assert hasher.finalize().root_hash == _expected(tar, recipe)


PARAMETERS = [
    ("full", {"data_block_size": 512, "hash_block_size": 512}),
    ("full", {"data_block_size": 1024}),
    ("full", {"data_block_size": 2048, "hash_block_size": 1024}),
    ("full", {"hash_block_size": 512, "salt": b""}),
    ("full", {"hash_block_size": 65536, "salt": noise(256)}),
    ("full", {"data_block_size": 8192}),
    ("full", {"data_block_size": 65536, "hash_block_size": 512, "salt": noise(3)}),
    ("full", {"hash_type": 0, "salt": noise(17)}),
    ("full", {"hash_algorithm": "sha512"}),
    ("tar-index", {"data_block_size": 512, "hash_block_size": 4096, "salt": b"\1"}),
    ("tar-index", {"data_block_size": 512, "hash_block_size": 512, "salt": noise(64)}),
    ("tar-index", {"data_block_size": 1024, "hash_block_size": 512}),
    ("tar-index", {"data_block_size": 4096}),
    ("tar-index", {"data_block_size": 512, "hash_type": 0}),
    ("tar-index", {"data_block_size": 512, "hash_algorithm": "sha1"}),
]


@pytest.mark.parametrize(
    ("layout", "changed"), PARAMETERS, ids=lambda value: str(value).replace("'", "")[:60]
)
def test_other_parameters_of_the_tree(layout, changed):
    params = VerityParams(**{"salt": bytes(32), **changed})
    recipe = Recipe(name="own", layout=ImageLayout(layout), uuid=uuid4(), params=params)
    assert_same(Maker(5).make(), recipe)
    assert_same(tar_of(), recipe)


@pytest.mark.parametrize("name", RECIPES)
def test_a_tar_that_is_no_whole_number_of_blocks_long(name):
    """The bytes behind the archive's end stay in a tar index, and zeros fill the last block."""
    tar = tar_of(file(b"f", b"x" * 5000)) + b"behind"
    assert_same(tar, fixed(Recipe.parse(name)), lossy=False)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.usefixtures("implementation")
def test_every_sha256_of_this_machine(name):
    tar = typical_tar()
    recipe = fixed(Recipe.parse(name), UUID(int=1))
    assert hashed(tar, recipe)[0].root_hash == _expected(tar, recipe)


_known: dict = {}


def _expected(tar, recipe):
    if recipe not in _known:
        _known[recipe] = tree_of(image_of(tar, recipe, recipe.uuid), recipe.params)[0]
    return _known[recipe]


@pytest.mark.parametrize("layout", list(ImageLayout))
@pytest.mark.parametrize("block", [512, 4096])
def test_an_image_in_a_file_is_hashed_and_grows_to_whole_blocks(layout, block):
    params = VerityParams(data_block_size=block, hash_block_size=block, salt=b"s")
    recipe = Recipe(name="own", layout=layout, uuid=uuid4(), params=params)
    for size in (1, block, 300 * block + 1):
        with nameless() as image:
            os.pwrite(image, noise(size), 0)
            area = Area(params)
            tree = hash_image(image, size, recipe, threads=2, hash_area=area)
            assert (tree.root_hash, area.bytes) == tree_of(noise(size), params)
            assert content(image) == filled(noise(size), block)


@pytest.mark.parametrize("name", RECIPES)
def test_zeros_become_holes(name):
    """In the image of a full conversion; a tar index moves the tar, holes and all."""
    tar = tar_of(file(b"a", noise(5000)), file(b"b", bytes(8 << 20)), file(b"c", noise(5000)))
    with nameless() as image:
        hashed(tar, fixed(Recipe.parse(name)), image=image)
        assert os.fstat(image).st_size > 8 << 20
        assert os.fstat(image).st_blocks * 512 < 3 << 20
        assert b"".join(content(image).split(bytes(4096))).count(noise(4000)) == 2


def test_zeros_between_data_become_holes_of_their_own():
    tar = tar_of(*(file(b"%d" % n, noise(4096) + bytes(60 << 10)) for n in range(16)))
    with nameless() as image:
        hasher = LayerHasher(fixed(Recipe.parse("containerd")), image=image)
        hasher.update(tar)
        hasher.finalize()
        assert os.fstat(image).st_size > 1 << 20
        assert os.fstat(image).st_blocks * 512 < 200 << 10


@pytest.mark.parametrize("piece", [1, 100, 1 << 20])
@pytest.mark.parametrize("name", RECIPES)
def test_memory_bounds_the_digests_whatever_the_pieces(name, piece, monkeypatch):
    tar = tar_of(file(b"a", noise(60_000)))
    kept = []
    hasher = LayerHasher(Recipe.parse(name), memory=3200)
    layer = hasher._layer
    take = layer.take_leaves

    def taken():
        for leaves in take():
            kept.append(len(leaves))
            yield leaves

    monkeypatch.setattr(layer, "take_leaves", taken)
    for at in range(0, len(tar), piece):
        hasher.update(tar[at : at + piece])
    block = hasher.recipe.params.data_block_size
    left = len(tar) // block * 32 - sum(kept)
    assert left <= 3200 + 32 * piece // block
    hasher.finalize(digest=DIGEST)


def test_digests_are_spooled_to_a_file_that_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tar = typical_tar()
    recipe = fixed(Recipe.parse("osguard"))
    hasher = LayerHasher(recipe, memory=0)
    for at in range(0, len(tar), 9999):
        hasher.update(tar[at : at + 9999])
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert any(str(link).startswith(str(tmp_path)) for link in links)
    assert not list(tmp_path.iterdir())
    before = LayerHasher(recipe)
    before.update(tar)
    assert hasher.finalize().tree == before.finalize().tree


def test_no_directory_for_the_spool(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    hasher = LayerHasher(Recipe.parse("osguard"), memory=0)
    with pytest.raises(StorageError, match="cannot write a temporary file in /nowhere/at/all"):
        hasher.update(typical_tar())
    hasher.close()


def test_python_keeps_nothing_of_the_data():
    """The C core keeps 32 bytes a block and about 200 an entry, which tracemalloc does not see."""
    hasher = LayerHasher(fixed(Recipe.parse("osguard")))
    piece = noise(1 << 20)
    hasher.update(header(b"f", b"0", 64 << 20))
    tracemalloc.start()
    try:
        for _ in range(64):
            hasher.update(piece)
        hasher.update(bytes(1024))
        hasher.finalize(hash_area=no_hash_area)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


# the interface


def test_an_image_that_came_before_does_not_matter():
    """Of two layers in one process, each has its own."""
    first, second = (LayerHasher(fixed(Recipe.parse("osguard"), UUID(int=7))) for _ in range(2))
    tar = typical_tar()
    for at in range(0, len(tar), 50_000):
        first.update(tar[at : at + 50_000])
        second.update(tar[at : at + 50_000])
    assert first.finalize().tree == second.finalize().tree


@pytest.mark.parametrize("end", ["finalize", "close"])
def test_a_hasher_that_is_done_takes_no_more(end):
    hasher = LayerHasher(Recipe.parse("osguard"))
    hasher.update(tar_of())
    getattr(hasher, end)()
    for call in (hasher.finalize, lambda: hasher.update(b"x")):
        with pytest.raises(ParameterError, match="begin a new one"):
            call()
    hasher.close()


def test_the_digest_that_the_recipe_needs():
    for name, needed, word in (
        ("containerd", "digest", "digest"),
        ("containerd-tar-index", "digest", "digest"),
        ("containerd-cache", "diff_id", "diff-id"),
    ):
        hasher = LayerHasher(Recipe.parse(name))
        hasher.update(tar_of())
        others = {"digest": DIGEST, "diff_id": DIGEST}
        del others[needed]
        with pytest.raises(ParameterError, match=f"{name} makes the UUID of the {word}"):
            hasher.finalize(**others)
        # nothing is lost by that
        assert hasher.finalize(**{needed: DIGEST}).root_hash


@pytest.mark.parametrize("threads", [-1, 257])
def test_as_many_threads_as_there_can_be(threads):
    with pytest.raises(ParameterError, match="threads"):
        LayerHasher(Recipe.parse("osguard"), threads=threads)


@pytest.mark.parametrize("memory", [0, 1 << 30])
@pytest.mark.parametrize("name", RECIPES)
def test_a_file_that_cannot_be_written(name, memory, tmp_path):
    (tmp_path / "image").touch()
    fd = os.open(tmp_path / "image", os.O_RDONLY)
    try:
        hasher = LayerHasher(fixed(Recipe.parse(name)), image=fd, memory=memory)
        with pytest.raises(StorageError, match="cannot write the image: Bad file descriptor"):
            hasher.update(typical_tar())
            hasher.finalize()
        with pytest.raises(StorageError):
            hasher.update(b"more")
        hasher.close()
    finally:
        os.close(fd)


def test_an_error_stays():
    hasher = LayerHasher(fixed(Recipe.parse("osguard")))
    with pytest.raises(FormatError, match="bad header checksum") as first:
        hasher.update(b"x" * 1024)
    for call in (lambda: hasher.update(tar_of()), hasher.finalize):
        with pytest.raises(FormatError, match="bad header checksum") as again:
            call()
        assert str(again.value) == str(first.value)


GARBAGE = """
import gc
from dmsign_fast.erofs.layer import LayerHasher
from dmsign_fast.erofs.recipe import Recipe

for _ in range(200):
    try:
        LayerHasher(Recipe.parse("osguard")).update(memoryview(bytearray(b"x" * 1024)))
    except ValueError as error:
        error.cycle = error
    gc.collect()
"""


def test_an_error_that_becomes_garbage_does_not_crash_the_process():
    done = run(sys.executable, "-c", GARBAGE)
    assert (done.exit_code, done.err) == (0, "")
