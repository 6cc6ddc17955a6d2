"""Asks Linux with ML-DSA, and Debian's without it, and writes the answers into the docs.

cd tests && python -m kernel.mldsa ../docs/kernel-compatibility.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pki

from dmsign_fast.envelope.linux import LinuxOutcome, linux_verdict

from .cases import make_images
from .debian import Kernel, pinned_kernel
from .guest import FormAnswers, boot, build
from .identities import Identities
from .images import Case
from .mldsa_forms import TRUSTED, Makers
from .mldsa_kernel import mldsa_kernel
from .signature_forms import write_forms
from .table import ML_DSA, table

_TEXT = """\
Debian's kernels have no ML-DSA (`CONFIG_CRYPTO_MLDSA`). Made on {date} by `make kernel-mldsa`,
which builds a small Linux {version} of Debian's source with it, and boots that and Debian's own
{plain}, with `dm_verity.require_signatures=1`. In `.dm-verity` are
certificates with RSA keys, with ML-DSA keys, or all; Debian's kernel can load no certificate with
an ML-DSA key. The small kernel opens, by the line of `verity open`, images that `verity sign`
signed with {specs}.

`embedded` and `chain` are what dmsign-fast makes, `bare` with `--no-certs`; `two-` are messages of
an RSA and an ML-DSA key, as `--and-key` makes them. To {count} questions, of which these and some
on damaged signatures, the small kernel and `dmsign-fast doctor` give the same answer, error by
error.

{table}"""
_DAMAGED = "flip-"


def main() -> int:
    """Ask both kernels, compare with what doctor says, and write the section."""
    parser = argparse.ArgumentParser(prog="kernel.mldsa", description=__doc__)
    parser.add_argument("page", type=Path)
    page = parser.parse_args().page
    makers, kernels = Makers(), {True: mldsa_kernel(), False: pinned_kernel()}
    answers: dict[tuple[bool, str], FormAnswers] = {}
    opened: dict[str, str] = {}
    differences: list[str] = []
    for has, linux in kernels.items():
        for trusted in TRUSTED:
            with tempfile.TemporaryDirectory() as directory:
                tree = Path(directory) / "guest"
                done = _ask(linux, tree, makers, trusted)
                answers[has, trusted] = done.forms
                if has:
                    differences += _differences(tree / "forms", done.forms, trusted)
                    if trusted == "all":
                        opened = {name: one.verdict for name, one in done.answers.items()}
            print(f"Linux {linux.version} trusts {trusted}", flush=True)
    if differences:
        print("\n".join(differences), file=sys.stderr)
        return 1
    if set(opened.values()) != {"reads"}:
        print(f"veritysetup open: {opened}", file=sys.stderr)
        return 1
    text = _text(kernels, answers, opened)
    others = page.read_text().partition(ML_DSA)[0].rstrip()
    page.write_text(f"{others}\n\n{ML_DSA}{text}")
    return 0


def _ask(linux: Kernel, tree: Path, makers: Makers, trusted: str):
    """Boot once; what ``verity sign`` makes of an image is opened by ``verity open``'s line."""
    folder = tree.parent / "identities"
    files = {name: one.write(folder / name) for name, one in makers.alone.items()}
    identities = Identities(folder, makers.alone, files, ())
    cases = [Case(f"image-{name}", signer=name) for name in makers.alone]
    make_images(cases, tree / "cases", identities)
    write_forms(tree / "forms", makers.forms(trusted))
    return boot(build(tree, linux, {}), linux)


def _differences(folder: Path, answers: FormAnswers, trusted: str) -> list[str]:
    """Where Linux and doctor disagree."""
    root_hash = bytes.fromhex((folder / "root-hash").read_text())
    enrolled = [path.read_bytes() for path in sorted((folder / "enrolled").iterdir())]
    found = [f"{name} is not enrolled" for name, yes in answers.enrolled.items() if not yes]
    for name, error in answers.errors.items():
        signature = (folder / "cases" / name).read_bytes()
        verdict = linux_verdict(signature, root_hash, enrolled)
        said = "unknown" if verdict.outcome is LinuxOutcome.UNKNOWN else verdict.errno
        if said != error:
            found.append(f"{name}, {trusted} trusted: Linux {error!r}, doctor {said!r}")
    return found


def _text(
    kernels: dict[bool, Kernel],
    answers: dict[tuple[bool, str], FormAnswers],
    opened: dict[str, str],
) -> str:
    columns = [(has, trusted) for has in kernels for trusted in TRUSTED]
    rows: dict[tuple[str, ...], list[str]] = {}
    for name in answers[columns[0]].errors:
        kind = next((one for one in pki.ML_DSA_SPECS if name.startswith(one)), "")
        form = name.removeprefix(f"{kind}-")
        if not form.startswith(_DAMAGED):
            verdicts = (answers[one].errors[name] or "ok" for one in columns)
            rows.setdefault((form, *verdicts), []).append(kind.removeprefix("ML-DSA-"))
    heads = (f"{'small' if has else 'Debian'}, {trusted}" for has, trusted in columns)
    return _TEXT.format(
        date=datetime.now(UTC).date(),
        version=kernels[True].version,
        plain=kernels[False].version,
        specs=" and ".join(opened).replace("image-", ""),
        count=sum(len(answers[True, trusted].errors) for trusted in TRUSTED),
        table=table(
            ("form", "ML-DSA", *heads),
            ((form, ", ".join(kinds), *said) for (form, *said), kinds in rows.items()),
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
