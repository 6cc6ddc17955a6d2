"""What the commands of a fleet share: which images, where the workers are, how it goes."""

from __future__ import annotations

import argparse
import fnmatch
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dmsign_fast.cli.options import section
from dmsign_fast.cli.output import note, print_line, size_text
from dmsign_fast.cli.stores import add_store_options, connection_of, credentials_of
from dmsign_fast.cli.verity.options import whole_number
from dmsign_fast.errors import ParameterError
from dmsign_fast.fleet.progress import FleetProgress
from dmsign_fast.outputs import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dmsign_fast.fleet.hashing import Limits
    from dmsign_fast.fleet.places import Access
    from dmsign_fast.fleet.rows import Counts, ImageRow

__all__ = [
    "Shown",
    "accesses",
    "add_engine_options",
    "add_image_choice",
    "add_state_options",
    "fraction",
    "limits",
    "references_of",
    "status_of",
]

_MINUTE = 60.0
_LONGEST_LINE = 4096
_MOST_REFERENCES = 10_000_000


def fraction(text: str) -> float:
    """The type of options such as ``1%`` or ``0.01``."""
    number = text.removesuffix("%")
    try:
        value = float(number) / (100 if number != text else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        message = f"{text!r} is not a part: give one from 0% to 100%, such as 1%"
        raise argparse.ArgumentTypeError(message)
    return value


def add_image_choice(parser: argparse.ArgumentParser) -> None:
    """Which images."""
    parser.add_argument(
        "references",
        metavar="REF",
        nargs="*",
        help="REGISTRY/REPOSITORY:TAG or @DIGEST; with --oci-layout PATH:TAG or @DIGEST",
    )
    add = add_store_options(parser).add_argument
    add(
        "--from",
        dest="list",
        metavar="FILE",
        help="take the references of this file too, one on each line; - for standard input",
    )
    add(
        "--registry",
        metavar="HOST",
        help="take the images of this registry, by its own list of repositories: "
        "--registry registry.example --match 'prod/*' --tags '1.*'",
    )
    add(
        "--match",
        metavar="GLOB",
        action="append",
        default=[],
        help="with --registry: take repositories of such names alone; may be repeated",
    )
    add(
        "--tags",
        metavar="GLOB",
        default="*",
        help="with --registry: take such tags alone; default: all",
    )
    add(
        "--platform",
        metavar="OS/ARCH[/VARIANT]",
        help="take this manifest of an index; default: the index and all its manifests",
    )


def add_state_options(parser: argparse.ArgumentParser) -> None:
    """Where the run is written down."""
    parser.set_defaults(interrupted="interrupted: --resume goes on with the run")
    add = section(
        parser,
        "run",
        "The state file holds every image and layer, and what became of them. Whoever may write "
        "it decides which root hashes are signed: keep it as you keep a key.",
    ).add_argument
    add(
        "--state",
        type=Path,
        required=True,
        metavar="FILE",
        help="keep the run in this file: --state run.state",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with the unfinished run of the file, or begin a run where there is none",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Who hashes the layers."""
    group = section(
        parser,
        "workers",
        "They read the layers. By default they are processes of this machine, one for each core. "
        "None of them gets a key.",
    )
    which = group.add_mutually_exclusive_group().add_argument
    which(
        "--scheduler",
        metavar="tls://HOST:PORT",
        help="let the workers of this Dask cluster do it: --scheduler tls://dask.example:8786",
    )
    which("--workers", type=whole_number, metavar="N", help="start N processes on this machine")
    add = group.add_argument
    add(
        "--share-login",
        action="store_true",
        help="give the workers the login of --username; otherwise they have their own",
    )
    add(
        "--per-registry",
        type=whole_number,
        default=16,
        metavar="N",
        help="read N layers from a registry at a time at most; default: 16",
    )
    add(
        "--confirm",
        type=int,
        choices=(1, 2),
        default=1,
        help="2: have each layer read by two workers on different hosts, which must agree",
    )


def limits(args: argparse.Namespace) -> Limits:
    """What is asked at a time."""
    from dmsign_fast.fleet.hashing import Limits

    return Limits(per_registry=max(1, args.per_registry), confirm=args.confirm)


def accesses(args: argparse.Namespace) -> tuple[Access, Access]:
    """How the coordinator and the workers reach registries."""
    from dmsign_fast.fleet.places import Access

    logins = args.authfile.absolute() if args.authfile else None
    ours = Access(connection_of(args), credentials_of(args), logins)
    # a worker gives a busy registry back to the coordinator, which leaves it alone for all
    connection = replace(ours.connection, tries=3, patience=5.0)
    shared = ours.credentials if args.share_login else None
    # a cluster's workers have files of their own; those of this machine read the same
    return ours, Access(connection, shared, None if args.scheduler else logins)


def references_of(args: argparse.Namespace, access: Access) -> list[str]:
    """The references that the options name, in order.

    Raises:
        ParameterError: one does not parse, or a pattern matches nothing.
    """
    from dmsign_fast.fleet.places import parse_reference

    found: list[str] = []
    for reference in args.references:
        parse_reference(reference, layout=args.oci_layout)
        found.append(reference)
    if args.list:
        for number, line in _lines(args.list):
            try:
                parse_reference(line, layout=args.oci_layout)
            except ParameterError as error:
                raise ParameterError(f"{args.list}, line {number}: {error}") from None
            found.append(line)
            if len(found) > _MOST_REFERENCES:
                raise ParameterError(f"{args.list} has more than {_MOST_REFERENCES} references")
        if not found:
            raise ParameterError(f"{args.list} holds no references")
    if args.registry:
        found += _listed(args, access)
    elif args.match:
        raise ParameterError("--match goes with --registry")
    return found


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a list but for empty ones and comments, by number."""
    with storage_errors("read", path):
        file = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115
        with file:
            for number, raw in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                try:
                    line = raw.decode().strip()
                except UnicodeDecodeError:
                    raise ParameterError(f"{path}, line {number} is not UTF-8 text") from None
                if line and not line.startswith("#"):
                    yield number, line


def _listed(args: argparse.Namespace, access: Access) -> list[str]:
    from dmsign_fast.oci.registry import Registry

    if args.oci_layout:
        raise ParameterError("--registry and --oci-layout exclude each other")
    # any repository will do to ask for the list of all
    store = access.open(f"{args.registry}/x")
    assert isinstance(store, Registry)  # noqa: S101
    with store:
        names = store.repositories()
    patterns = args.match or ["*"]
    chosen = [name for name in names if any(fnmatch.fnmatchcase(name, one) for one in patterns)]
    found = []
    for name in chosen:
        store = access.open(f"{args.registry}/{name}")
        assert isinstance(store, Registry)  # noqa: S101
        with store:
            tags = [one for one in store.references() if ":" not in one]
        matching = [tag for tag in tags if fnmatch.fnmatchcase(tag, args.tags)]
        found += [f"{args.registry}/{name}:{tag}" for tag in matching]
    if not found:
        raise ParameterError(
            f"nothing of the {len(names)} repositories of {args.registry} matches "
            f"{' or '.join(patterns)}, tags {args.tags}"
        )
    return found


class Shown(FleetProgress):
    """A run for a person: a bar on a terminal, otherwise a line a minute; failures at once."""

    def __init__(self, args: argparse.Namespace, verb: str) -> None:
        """Begin; ``verb`` says what is done to images, such as ``signed``."""
        self._args, self._verb = args, verb
        self._bar: Any = None
        self._said = self._began = time.monotonic()
        self._images = self._done = self._failed = self._size = self._total = 0

    def resolved(self, references: int) -> None:
        """Count references."""
        self._say("references are looked up")

    def planned(self, images: int, layers: int, size: int) -> None:
        """Begin the bar."""
        self._images += images
        self._total += size
        if layers:
            counted = f"images: {images}; " if images else ""  # verify counts them as they come
            note(self._args, f"{counted}layers to read: {layers}, {size_text(size)}")
        if sys.stderr.isatty() and not self._args.quiet and self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(desc="fleet", unit="B", unit_scale=True, leave=False, file=sys.stderr)
        if self._bar is not None:
            self._bar.reset(self._total)

    def hashed(self, size: int) -> None:
        """Count a layer."""
        self._size += size
        if self._bar is not None:
            self._bar.update(size)
        self._say()

    def finished(self, image: ImageRow, reason: str | None) -> None:
        """Count an image, and say why it failed."""
        self._done += reason is None
        self._failed += reason is not None
        if reason is not None:
            print_line(f"failed: {image.reference}: {reason}", sys.stderr)
        if self._bar is not None:
            self._bar.set_postfix_str(f"images: {self._done} of {self._images}", refresh=False)
        self._say()

    def warned(self, image: ImageRow, text: str) -> None:
        """Say what a node will not like."""
        note(self._args, f"warning: {image.reference}: {text}")

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()

    def _say(self, what: str | None = None) -> None:
        now = time.monotonic()
        if self._bar is not None or now - self._said < _MINUTE:
            return
        self._said = now
        speed = self._size / max(now - self._began, 1e-9)
        left = (self._total - self._size) / speed if speed else 0
        note(
            self._args,
            what
            or f"images: {self._done} of {self._images} {self._verb}, {self._failed} failed; "
            f"{size_text(self._size)} of {size_text(self._total)}, {size_text(speed)}/s, "
            f"about {left:.0f} s left",
        )


def status_of(counts: Counts, good: int) -> int:
    """The exit status: all images are good, some, or none."""
    from dmsign_fast.fleet.rows import State

    left = counts.images[State.FAILED] + counts.images[State.PLANNED]
    bad = sum(counts.unresolved) + left
    if not bad:
        return 0
    return 8 if good else 9
