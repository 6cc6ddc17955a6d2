"""``dmsign-fast sign`` of an image in a registry against one program after another, by hand."""

from __future__ import annotations

import json
import re
import shlex
import statistics
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare import dmsign_fast
from image_registry import registry
from inputs import MIB, cache, tool
from layer_inputs import LAYOUTS, Layer, mkfs
from layers import MKFS_VERSION, Ratio, SameRoot, stage
from measure import Limit, Pairs, Run, cpu, peak, run, take_turns

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "envelope"))
from debian import unpacked
from notation import PACKAGE, Notation
from pki import make_intermediate, make_leaf, make_root, pem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from image_registry import Images

BY_HAND, SIGN = "by hand", "sign"
_SCRIPT = Path(__file__).with_name("by_hand.sh")
_FLOOR = 4.5
_MOST_CPU = 1.1  # times that of the parts
_MEMORY = 500.0
_RECIPE = f"containerd@{MKFS_VERSION}"
_INDEX = f"containerd-tar-index@{MKFS_VERSION}"
INDEXED, ALL_FORMS = "sign, of tar indexes", "sign --artifact all, of tar indexes"
_MORE_MEMORY = 32.0  # for all forms
_MORE_TIME = 1.15  # times as long


@dataclass(frozen=True)
class ImageCase:
    """One image and all that was done with it, in turns.

    Attributes:
        signing: runs of the programs by hand, and of ours, by what they are called.
        verifying: runs of ours.
        parts: of the work, each alone, in one thread.
    """

    layers: Sequence[Layer]
    signing: dict[str, list[Run]]
    verifying: dict[str, list[Run]]
    parts: dict[str, list[Run]]

    @property
    def size(self) -> int:
        """Of the layers as they are stored."""
        return sum(layer.path.stat().st_size for layer in self.layers)

    @property
    def tar_size(self) -> int:
        return sum(layer.size for layer in self.layers)

    def ratios(self) -> Iterator[Ratio]:
        """Of every way of ours; layers that were signed before have no floor."""
        for way, runs in self.signing.items():
            if way == ALL_FORMS:
                floor = None if self.layers[0].quick else 1 / _MORE_TIME
                yield Ratio(way, INDEXED, floor, Pairs(self.signing[INDEXED], runs))
            elif way != BY_HAND:
                other = "reuse" in way or way == INDEXED
                floor = None if self.layers[0].quick or other else _FLOOR
                yield Ratio(way, BY_HAND, floor, Pairs(self.signing[BY_HAND], runs))

    def stages(self, way: str) -> dict[str, float]:
        """What our runs say of themselves, and the rest: start and end of the process; medians."""
        found: dict[str, list[float]] = {}
        for one in self.signing[way]:
            said = json.loads(one.output)
            stages = {**said["images"][0]["seconds"], "start": one.seconds - said["seconds"]}
            for name, value in stages.items():
                found.setdefault(name, []).append(value)
        return {name: statistics.median(values) for name, values in found.items()}

    @property
    def cpu(self) -> Limit:
        """What all that holds the parts together costs, of processor time."""
        own, parts = cpu(self.signing[SIGN]), sum(map(cpu, self.parts.values()))
        return Limit(
            "processor time, sign",
            own / parts,
            "times that of its parts",
            None if self.layers[0].quick else _MOST_CPU,
            f"{own:.2f} and {parts:.2f} s",
        )

    @property
    def binding(self) -> str:
        """The part that takes most processor time."""
        return max(self.parts, key=lambda part: cpu(self.parts[part]))

    @property
    def json(self) -> dict[str, Any]:
        return {
            "recipe": _RECIPE,
            "layers": [layer.path.name for layer in self.layers],
            "size": self.size,
            "tar_size": self.tar_size,
            "signing": {way: [one.json for one in runs] for way, runs in self.signing.items()},
            "stages": {way: self.stages(way) for way in self.signing if way != BY_HAND},
            "verifying": {way: [one.json for one in runs] for way, runs in self.verifying.items()},
            "parts": {part: [one.json for one in runs] for part, runs in self.parts.items()},
            "binding": self.binding,
        }


class _Flows:
    """Both ways to sign an image with the same key; every run gets a repository of its own."""

    def __init__(self, images: Images, image: Sequence[Layer], scratch: Path) -> None:
        self._images = images
        self._image = image
        entity = make_leaf(make_intermediate(make_root()), key="RSA-3072")
        self._keys = entity.write(scratch / "keys")
        self._notation = Notation(scratch / "home")
        self._notation.use_key(entity)
        self._notation.trust(pem(entity.root))
        (scratch / "tmp").mkdir()
        command = [*mkfs(MKFS_VERSION).command, *LAYOUTS["A"], "-T0", "--mkfs-time"]
        self._environment = {
            "MKFS": shlex.join(command),
            "NOTATION": str(unpacked(*PACKAGE) / "usr/bin/notation"),
            "NOTATION_CONFIG": str(self._notation.config),
            "KEY": str(self._keys.key),
            "CERT": str(self._keys.leaf),
            "ISSUERS": str(self._keys.bundle),
            "HOME": str(scratch / "home"),
            "TMPDIR": str(scratch / "tmp"),
        }
        for name, package in (("veritysetup", "cryptsetup-bin"), ("curl", "curl")):
            tool(name, package)
        self._same = SameRoot()

    def check(self) -> str:
        """Both find the same root hashes, and ours and notation accept both; ours stays."""
        signed = ""
        for way in (self.by_hand, self.sign):
            done = way()
            (signed,) = re.findall(r"[\d.]+:\d+/run\d+@sha256:[0-9a-f]+", done.output)
            run(self.verify(signed))
            judged = self._notation("verify", "--insecure-registry", signed)
            if judged.exit_code:
                message = f"notation does not accept {signed}:\n{judged.err}"
                raise ValueError(message)
        return signed

    def by_hand(self) -> Run:
        repository = self._images.new_repository()
        manifest = self._images.push(repository, self._image)
        uuids = [f"{layer.digest}={layer.uuid}" for layer in self._image]
        command = [_SCRIPT, repository, manifest.digest, str(manifest.size), *uuids]
        return self._same.check(
            partial(run, command, environment=self._environment),
            lambda output: "\n".join(re.findall(r"^[0-9a-f]{64}  sha256:[0-9a-f]+$", output, re.M)),
        )

    def sign(self, *options: str) -> Run:
        return self._same.check(partial(run, self.command(*options)), _root_hashes)

    def sign_again(self, layers: Sequence[Layer], *options: str) -> Run:
        """An image of these layers, where the other image was signed before."""
        repository = self._images.new_repository()
        run(self._sign(repository, self._image))
        return run(self._sign(repository, layers, *options))

    def command(self, *options: str) -> list[str]:
        """To sign in a new repository."""
        return self._sign(self._images.new_repository(), self._image, *options)

    def _sign(self, repository: str, layers: Sequence[Layer], *options: str) -> list[str]:
        reference = f"{repository}@{self._images.push(repository, layers).digest}"
        keys = ["--key", str(self._keys.key), "--cert", str(self._keys.chain)]
        command = [dmsign_fast(), "sign", reference, *keys, "--recipe", _RECIPE]
        return [*command, "--output", "json", "--quiet", *options]

    def verify(self, reference: str, *options: str) -> list[str]:
        trust = ["--trust", str(self._keys.root)]
        return [dmsign_fast(), "verify", reference, *trust, *options]


def _root_hashes(output: str) -> str:
    layers = json.loads(output)["images"][0]["layers"]
    return "\n".join(f"{layer['root_hash']}  {layer['digest']}" for layer in layers)


def _parts(images: Images, layers: Sequence[Layer]) -> dict[str, Callable[[], Run]]:
    """What there is to do, each alone."""
    stored, tars = [layer.path for layer in layers], [layer.tar for layer in layers]
    urls = shlex.join(images.url(layer) for layer in layers)
    return {
        "fetching, by curl": partial(run, ["/bin/sh", "-c", f"curl -fsS {urls} >/dev/null"]),
        "SHA-256 of the layers": stage("digest", *stored),
        "decompression": stage("unpack", *stored),
        "SHA-256 of the tars": stage("digest", *tars),
        "EROFS and dm-verity": stage("convert", *tars),
    }


def _can_reuse() -> bool:
    return "--reuse" in run([dmsign_fast(), "sign", "--help"]).output


def compare_image(
    layers: Sequence[Layer], jobs: Sequence[int], rounds: int, scratch: Path
) -> tuple[ImageCase, list[Limit]]:
    """Run every way in turn; memory afterwards.

    Args:
        layers: six; the first five are the image.
        jobs: values of ``--jobs``, besides the default.
        rounds: runs of each way.
        scratch: on a tmpfs, for the registry too.
    """
    image, other = layers[:5], [*layers[:4], layers[5]]
    for layer in image:
        cache(layer.path)
        cache(layer.tar)
    with registry(scratch) as images:
        images.add(layers)
        flows = _Flows(images, image, scratch)
        signed = flows.check()
        options = [["--jobs", str(number)] for number in jobs]
        signing: dict[str, Callable[[], Run]] = {BY_HAND: flows.by_hand, SIGN: flows.sign}
        signing |= {shlex.join([SIGN, *one]): partial(flows.sign, *one) for one in options}
        indexed, every = ("--recipe", _INDEX), ("--recipe", _INDEX, "--artifact", "all")
        signing[INDEXED] = lambda: run(flows.command(*indexed))
        signing[ALL_FORMS] = lambda: run(flows.command(*every))
        if _can_reuse():
            for what, again in (("four of five layers", other), ("all layers", image)):
                command = partial(flows.sign_again, again, "--force", "--reuse")
                signing[f"{SIGN} --reuse, {what} signed before"] = command
        verifying = {
            shlex.join(["verify", *one]): partial(run, flows.verify(signed, *one))
            for one in ([], ["--deep"], *(["--deep", *one] for one in options))
        }
        parts = _parts(images, image)
        runs = take_turns({**signing, **verifying, **parts}, rounds)
        kinds = (signing, verifying, parts)
        case = ImageCase(image, *({way: runs[way] for way in ways} for ways in kinds))
        limits = [case.cpu]
        limits += [_memory(shlex.join([SIGN, *one]), flows.command(*one)) for one in ([], *options)]
        limits.append(_memory(INDEXED, flows.command(*indexed)))
        most = (limits[-1].value or 0) + _MORE_MEMORY
        limits.append(_memory(ALL_FORMS, flows.command(*every), most))
    return case, limits


def _memory(name: str, command: list[str], most: float = _MEMORY) -> Limit:
    size, done = peak(command)
    note = f"an image of five layers; {done.seconds:.1f} s"
    return Limit(f"peak memory, {name}", size / MIB, "MiB", most, note)
