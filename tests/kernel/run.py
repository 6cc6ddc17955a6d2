"""Has a Linux kernel judge our images and signatures, and compares its verdicts with ours.

    cd tests && python -m kernel.run [--cache DIRECTORY] [--update] [--mutants N]

The kernel is the newest one of Debian sid, in a virtual machine that QEMU emulates.
"""

from __future__ import annotations

import argparse
import os
import platform
import secrets
import shutil
import sys
import time
from pathlib import Path

from .cases import make
from .debian import kernel
from .guest import Answer, boot, build, programs
from .images import Case, Images

_CHECKOUT = Path(__file__).parents[2]
_NOTHING = Answer("no answer")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="kernel.run", description=__doc__)
    default = os.environ.get("KERNEL_CACHE") or _CHECKOUT / ".cache/kernel"
    parser.add_argument("--cache", type=Path, default=default, help="default: $KERNEL_CACHE")
    parser.add_argument("--update", action="store_true", help="look for a newer kernel")
    parser.add_argument("--timeout", type=float, default=600, help="of the virtual machine, in s")
    parser.add_argument("--mutants", type=int, default=0, help="signatures with a random byte")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    return parser.parse_args()


def _ours(status: int | None) -> str:
    if status is None:
        return "-"
    return {0: "accepts", 1: "refuses"}.get(status, f"refuses ({status})")


def _problem(case: Case, answer: Answer, status: int | None) -> str:
    """Say what is wrong with the verdicts, or nothing."""
    if case.expected and answer.verdict != case.expected:
        return f"expected {case.expected}"
    if case.sha256 and answer.sha256 != case.sha256 and answer.verdict == case.expected:
        return "other contents"
    if status is None:
        return ""
    accepts = answer.verdict == "reads" and not case.stricter
    if (status == 0) != accepts and (case.expected or status == 0):
        return "DISAGREE"
    return "" if status in (0, 1, 3) else "exit status"


def main() -> int:
    args = _arguments()
    if platform.machine() != "x86_64":
        raise SystemExit("an x86-64 machine is needed: its own programs run on the kernel")
    programs()
    cache = args.cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    linux = kernel(cache, update=args.update)

    began = time.monotonic()
    work = cache / "work"
    shutil.rmtree(work, ignore_errors=True)
    images = Images(work)
    cases = list(make(images, args.mutants, args.seed))
    anchors = images.anchors()
    ours = {case.name: case.verify(anchors) if case.judged else None for case in cases}
    directories = [case.directory for case in cases]
    initramfs = build(work, linux, directories, images.certificates())
    print(f"{len(cases)} cases made and judged by dmsign-fast in {time.monotonic() - began:.0f} s")
    print(f"booting Linux {linux.version}", flush=True)
    result = boot(work, linux, initramfs, args.timeout)

    failed = stricter = agreed = judged = 0
    print(f"\n{'case':<40} {'kernel':<14} dmsign-fast")
    for case in cases:
        answer, status = result.answers.get(case.name, _NOTHING), ours[case.name]
        problem = _problem(case, answer, status)
        failed += bool(problem)
        judged += status is not None
        both = status is not None and answer is not _NOTHING
        agreed += both and (answer.verdict == "reads") == (status == 0)
        stricter += status not in (None, 0) and answer.verdict == "reads" and not problem
        print(f"{case.name:<40} {answer.verdict:<14} {_ours(status):<12} {problem}".rstrip())

    print(f"\nLinux {linux.version}, {result.seconds:.0f} s; console: {work / 'console.log'}")
    print(
        f"kernel and dmsign-fast agree on {agreed} of {judged}; dmsign-fast is stricter on "
        f"{stricter}"
    )
    if args.mutants:
        print(f"mutants: --mutants {args.mutants} --seed {args.seed}")
    if not result.finished:
        print("the virtual machine did not come to its end")
        failed = max(failed, 1)
    print(f"{len(cases) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
