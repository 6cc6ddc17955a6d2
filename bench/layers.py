"""``dmsign-fast layer roothash`` against the shell way: mkfs.erofs, then veritysetup."""

from __future__ import annotations

import re
import shlex
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import dmsign_fast, root_hash
from inputs import MIB, cache, tool
from layer_inputs import LAYOUTS, Layer, mkfs
from measure import Limit, Pairs, Run, peak, run, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MKFS_VERSION = "1.9.4"
_STAGES = Path(__file__).with_name("stages.py")

# Ways to come from a layer to its root hash, and parts of them.
SHELL, MKFS, VERITYSETUP = "shell way", "mkfs.erofs alone", "veritysetup alone"
WITH_UUID, WITH_DIGESTS = OURS = ("with --uuid", "with digests")
# How many times as fast as the shell way.
_FLOORS = {
    ("tar", WITH_UUID): 10.0,
    ("tar", WITH_DIGESTS): 5.0,
    ("tar.gz", WITH_UUID): 4.0,
    ("tar.gz", WITH_DIGESTS): 4.0,
}
UNPACK, UNPACK_DIGEST = "decompression alone", "decompression and digests"


@dataclass(frozen=True)
class Recipe:
    """What an image is made with; ``layout`` A holds the data, D is an index before the tar.

    Attributes:
        share: of the tar that memory may grow by, since the first level of the tree stays there.
    """

    name: str
    layout: str
    block_size: int
    share: float


RECIPES = (
    Recipe("containerd", "A", 4096, 0.01),
    Recipe("containerd-tar-index", "D", 512, 0.07),
)


@dataclass(frozen=True)
class Ratio:
    """One way of ours against one of theirs; a floor for how many times as fast it is."""

    ours: str
    theirs: str
    floor: float | None
    pairs: Pairs

    def __str__(self) -> str:
        times = statistics.median(self.pairs.ratios)
        return f"{self.ours}: {times:.2f} times as fast as {self.theirs}"


@dataclass(frozen=True)
class Case:
    """One file and one recipe; the runs of each way, which took turns."""

    layer: Layer
    recipe: Recipe
    runs: dict[str, list[Run]]

    def ratios(self) -> Iterator[Ratio]:
        """All that are worth telling."""
        for ours, theirs, floor in self._floors():
            floor = None if self.layer.quick else floor
            yield Ratio(ours, theirs, floor, Pairs(self.runs[theirs], self.runs[ours]))

    def _floors(self) -> Iterator[tuple[str, str, float | None]]:
        """For two threads."""
        for ours in OURS:
            yield ours, SHELL, _FLOORS.get((self.layer.form, ours))
        if self.layer.name == "directory" and self.layer.form == "tar":
            yield WITH_UUID, MKFS, 20.0
        if self.layer.form != "tar":
            # at most 1.25 times as long
            yield WITH_DIGESTS, UNPACK_DIGEST, 0.8 if self.layer.form == "tar.gz" else None

    @property
    def json(self) -> dict[str, Any]:
        layer = self.layer
        return {
            "layer": layer.path.name,
            "uuid": layer.uuid,
            "entries": layer.entries,
            "tar_size": layer.size,
            "size": layer.path.stat().st_size,
            "recipe": f"{self.recipe.name}@{MKFS_VERSION}",
            "runs": {way: [run.json for run in runs] for way, runs in self.runs.items()},
            "ratios": [
                {
                    "ours": ratio.ours,
                    "theirs": ratio.theirs,
                    "floor": ratio.floor,
                    "ratios": [round(value, 3) for value in ratio.pairs.ratios],
                }
                for ratio in self.ratios()
            ],
        }


class _Shell:
    """The incumbents on one file; every image and hash file is on the tmpfs."""

    def __init__(self, layer: Layer, recipe: Recipe, tmpfs: Path) -> None:
        self._layer = layer
        self._layout = recipe.layout
        self._tmpfs = tmpfs
        self._image = tmpfs / "image"
        words = [*mkfs(MKFS_VERSION).command, *LAYOUTS[recipe.layout], "-T0", "--mkfs-time"]
        self._mkfs = shlex.join([*words, "-U", layer.uuid, str(self._image)])
        size = str(recipe.block_size)
        self._format = [tool("veritysetup", "cryptsetup-bin"), "format", "--salt", "00" * 32]
        self._format += ["--data-block-size", size, "--hash-block-size", size]

    @property
    def _unpack(self) -> str:
        program = {"tar": "cat", "tar.gz": "zcat", "tar.zst": "zstd -dcq"}[self._layer.form]
        return f"{program} {shlex.quote(str(self._layer.path))}"

    def _script(self) -> str:
        """The image of the layer; of an index the tar comes behind it."""
        tar, copy = shlex.quote(str(self._layer.path)), self._tmpfs / "tar"
        made, image = self._mkfs, self._image
        if self._layer.form == "tar":
            append = f"; cat {tar} >>{image}" if self._layout == "D" else ""
            return f"{made} {tar}{append}"
        if self._layout == "D":
            return f"{self._unpack} | tee {copy} | {made}; cat {copy} >>{image}; rm {copy}"
        return f"{self._unpack} | {made}"

    def _run(self, script: str) -> Run:
        self._image.unlink(missing_ok=True)
        environment = {"TMPDIR": str(self._tmpfs)}
        return run(["/bin/sh", "-e", "-c", script], environment=environment)

    def whole(self) -> Run:
        return self._run(f"{self._script()}; {shlex.join(self._verity(self._image))}")

    def mkfs(self) -> Run:
        return self._run(f"{self._mkfs} {shlex.quote(str(self._layer.path))}")

    def veritysetup(self) -> Run:
        """On the image that ``whole`` left."""
        return run(self._verity(self._image))

    def unpack(self) -> Run:
        return run(["/bin/sh", "-e", "-c", f"{self._unpack} >/dev/null"])

    def _verity(self, image: Path) -> list[str]:
        return [*self._format, str(image), str(self._tmpfs / "hashes")]

    def remove(self) -> None:
        for name in ("image", "hashes", "tar"):
            (self._tmpfs / name).unlink(missing_ok=True)


def _our_root_hash(output: str) -> str:
    found = re.search(r'"root_?hash":\s*"([0-9a-f]+)"', output, re.IGNORECASE)
    if not found:
        message = f"no root hash in:\n{output}"
        raise ValueError(message)
    return found[1]


def _ours(layer: Layer, recipe: Recipe, threads: int, options: list[str]) -> list[str]:
    command = [dmsign_fast(), "layer", "roothash", str(layer.path), "--output", "json"]
    command += ["--recipe", f"{recipe.name}@{MKFS_VERSION}", "--threads", str(threads)]
    return [*command, *options]


def _digests(layer: Layer) -> list[str]:
    """Both are found out and checked, as they are when an image is signed."""
    return ["--digest", layer.digest, "--diff-id", layer.diff_id]


def stage(name: str, *paths: Path) -> Callable[[], Run]:
    """A part of the work, alone: see stages.py."""
    return partial(run, [sys.executable, _STAGES, name, *paths])


class SameRoot:
    """Every way must find the same root hash; the first that runs says which."""

    def __init__(self) -> None:
        self._root: str | None = None

    def check(self, command: Callable[[], Run], find: Callable[[str], str]) -> Run:
        done = command()
        found = find(done.output)
        self._root = self._root or found
        if found != self._root:
            message = f"root hash {found} instead of {self._root}"
            raise ValueError(message)
        return done


def compare_layer(layer: Layer, recipe: Recipe, threads: int, rounds: int, tmpfs: Path) -> Case:
    """Run every way in turn."""
    cache(layer.path)
    shell = _Shell(layer, recipe, tmpfs)
    same = SameRoot()
    ways: dict[str, Callable[[], Run]] = {}
    ways[SHELL] = partial(same.check, shell.whole, root_hash)
    if layer.form == "tar":
        ways[VERITYSETUP] = partial(same.check, shell.veritysetup, root_hash)
        ways[MKFS] = shell.mkfs
    else:
        ways["zcat alone" if layer.form == "tar.gz" else "zstd -dc alone"] = shell.unpack
        ways[UNPACK] = stage("unpack", layer.path)
        ways[UNPACK_DIGEST] = stage("unpack-and-digest", layer.path)
    for name, options in (
        (WITH_UUID, ["--uuid", layer.uuid]),
        (WITH_DIGESTS, _digests(layer)),
    ):
        command = partial(run, _ours(layer, recipe, threads, options))
        ways[name] = partial(same.check, command, _our_root_hash)
    try:
        return Case(layer, recipe, take_turns(ways, rounds))
    finally:
        shell.remove()


def memory(layer: Layer, recipe: Recipe, threads: int) -> Limit:
    """Peak memory of our command with both digests."""
    size, _ = peak(_ours(layer, recipe, threads, _digests(layer)))
    most = 64 * MIB + 200 * layer.entries + recipe.share * layer.size
    return Limit(
        f"peak memory, {layer.path.name}, {recipe.name}",
        size / MIB,
        "MiB",
        round(most / MIB, 1),
        f"{layer.entries} entries, {size / layer.entries:.0f} B each; "
        f"{100 * size / layer.size:.1f} % of the tar",
    )
