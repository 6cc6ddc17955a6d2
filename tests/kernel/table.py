"""Writes docs/kernel-compatibility.md: which signatures which kernel takes.

cd tests && python -m kernel.table ../docs/kernel-compatibility.md
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from .cases import DIGESTS, EC, FORMS, RSA, make_images
from .debian import kernel
from .firmware import firmware
from .guest import Answer, boot, build
from .identities import make_identities
from .images import Case
from .openssl_signatures import ATTRIBUTES, PLAIN, openssl_case

_KEYRINGS = {"trixie": ".platform", "sid": ".dm-verity", "trixie-backports": ".dm-verity"}
_OURS = {*itertools.product(RSA, DIGESTS), *zip(EC, DIGESTS, strict=True)}
_SHAPES = {
    "plain": PLAIN,
    "plain, no certificates": (*PLAIN, "-nocerts"),
    "signed attributes": ATTRIBUTES,
    "signed attributes, no certificates": (*ATTRIBUTES, "-nocerts"),
    "S/MIME capabilities": ("cms",),
}
ML_DSA = "## ML-DSA and several signers\n\n"
"""The heading of what ``kernel.mldsa`` writes at the end of the page."""
_TEXT = """\
# Kernels and signatures

What kernels of Debian say to signatures of root hashes: `ok`, or the error with which the device is
not opened. Made on {date} by `make kernel-table`, which boots them under QEMU:

{kernels}
`make test-kernel` asks one of Debian sid the same, and more, on your machine.

The keyring is where the certificates were. Linux has `.dm-verity` from 7.0 on; older
kernels take those of the firmware (`.platform`: the UEFI variable db), if they were built with
`CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING`. All had `dm_verity.require_signatures=1`.

## Keys, digests and forms

Plain is what dmsign-fast makes: detached PKCS#7 without signed attributes. What it does not make,
with a *, is by openssl.

{keys}
## Everything else

By an RSA-2048 or P-256 key. `stricter-` is what Linux takes and `dmsign-fast verify` refuses.

{forms}"""


def _keys() -> Iterator[tuple[str, str, str, Case]]:
    for key, shape, digest in itertools.product((*RSA, *EC), _SHAPES, DIGESTS):
        name = f"{key}-{digest}-{shape.replace(' ', '-').replace('/', '')}"
        if (key, digest) in _OURS and shape.startswith("plain"):
            bare = ("--no-certs",) if "certificates" in shape else ()
            case = Case(name, signer=key, sign=("--digest", digest, *bare))
            yield key, shape, digest, case
        else:
            case = openssl_case(name, *_SHAPES[shape], signer=key, digest=digest)
            yield key, shape, f"{digest}*", case


def _judge(suite: str, cases: Iterable[Case], directory: Path) -> tuple[str, dict[str, Answer]]:
    """Return the kernel's version and its answers."""
    linux = kernel(suite)
    print(f"Linux {linux.version}", flush=True)
    identities = make_identities(directory / "identities")
    tree = directory / "guest"
    make_images(cases, tree / "cases", identities)
    initramfs = build(tree, linux, identities.certificates)
    if _KEYRINGS[suite] == ".platform":
        machine = firmware(identities.certificates.values(), directory / "variables")
        done = boot(initramfs, linux, trust="firmware", machine=machine)
    else:
        done = boot(initramfs, linux)
    return linux.version, done.answers


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown."""
    head = tuple(head)
    lines = (head, ("---",) * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Ask every kernel, and write the page."""
    parser = argparse.ArgumentParser(prog="kernel.table", description=__doc__)
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    keys = tuple(_keys())
    cases = (*(case for *_, case in keys), *FORMS)
    kernels = {}
    for suite in _KEYRINGS:
        with tempfile.TemporaryDirectory() as directory:
            kernels[suite] = _judge(suite, cases, Path(directory))

    def verdicts(case: Case) -> tuple[str, ...]:
        found = (answers[case.name].verdict for _, answers in kernels.values())
        return tuple("ok" if verdict == "reads" else verdict for verdict in found)

    same = itertools.groupby(
        ((key, shape, digest, verdicts(case)) for key, shape, digest, case in keys),
        lambda row: (row[0], row[1], row[3]),
    )
    by_key = (
        (key, shape, ", ".join(digest for _, _, digest, _ in rows), *found)
        for (key, shape, found), rows in same
    )
    versions = {suite: version for suite, (version, _) in kernels.items()}
    short = [version.partition("+")[0] for version in versions.values()]
    about = ((one, versions[one], f"`{keyring}`") for one, keyring in _KEYRINGS.items())
    text = _TEXT.format(
        date=datetime.now(UTC).date(),
        kernels=table(("suite", "Linux", "keyring"), about),
        keys=table(("key", "form", "digests", *short), by_key),
        forms=table(("case", *short), ((case.name, *verdicts(case)) for case in FORMS)),
    )
    _, heading, others = page.read_text().partition(ML_DSA)
    page.write_text(f"{text}\n{heading}{others}" if heading else text)


if __name__ == "__main__":
    main()
