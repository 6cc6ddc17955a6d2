"""A machine in which commands are run one after another, and what they and the kernel said."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path

import pytest
from debian import UnavailableError
from helpers import program

from .debian import Kernel
from .guest import GuestError, build, run

# write(1, text, 6); exit(0)
_HELLO = """
.globl _start
_start:
    mov $1, %eax
    mov $1, %edi
    lea text(%rip), %rsi
    mov $6, %edx
    syscall
    mov $60, %eax
    xor %edi, %edi
    syscall
text: .ascii "hello\\n"
.section .note.GNU-stack,"",@progbits
"""


@dataclass(frozen=True)
class Step:
    """Shell commands, run in ``/files`` of the guest."""

    name: str
    commands: str


@dataclass
class Told:
    """What came of a step: lines of the commands, lines of the kernel, and the exit status."""

    said: list[str] = field(default_factory=list)
    kernel: list[str] = field(default_factory=list)
    status: int | None = None

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    @property
    def log(self) -> str:
        return "\n".join(self.kernel)


def make_hello(path: Path) -> bytes:
    """Return a program for x86-64 that says hello; ``path`` is where it is made."""
    source = path.with_suffix(".s")
    source.write_text(_HELLO)
    command = [program("gcc"), "-nostdlib", "-static", "-o", path, source]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes()


def make_tar(files: dict[str, bytes]) -> bytes:
    """Return a layer with these files, all of which can be executed."""
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in sorted({part for one in files for part in _above(one)}):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, BytesIO(data))
    return made.getvalue()


def _above(name: str) -> Iterable[str]:
    parts = name.split("/")[:-1]
    return ("/".join(parts[: count + 1]) for count in range(len(parts)))


def run_steps(
    tree: Path,
    kernel: Kernel,
    steps: Sequence[Step],
    words: str,
    *,
    certificates: dict[str, bytes],
    machine: Sequence[str],
    seconds: float = 600,
    show: Callable[[str], object] = lambda _: None,
) -> dict[str, Told]:
    """Boot a machine with what is in the tree, run the steps, and return what came of them.

    Args:
        tree: its files; what the steps use is below ``files``.
        kernel: to boot.
        steps: in their order.
        words: more of the kernel's command line.
        certificates: DER, for ``.dm-verity``.
        machine: more options of QEMU.
        seconds: that the machine may take.
        show: is called with each line of the console.

    Raises:
        GuestError: not all steps were run.
    """
    scripts = tree / "steps"
    shutil.rmtree(scripts, ignore_errors=True)
    scripts.mkdir(parents=True)
    for number, step in enumerate(steps):
        (scripts / f"{number:02d}-{step.name}").write_text(step.commands)
    shutil.copy(Path(__file__).with_name("steps_run"), tree)
    initramfs = build(tree, kernel, certificates, "steps_init")
    console, _ = run(initramfs, kernel, words, seconds=seconds, machine=machine, show=show)
    return _read(console.read_text(errors="replace"), kernel, steps)


def told_once(
    factory: pytest.TempPathFactory, name: str, judge: Callable[[Path], dict[str, Told]]
) -> dict[str, Told]:
    """What came of the steps of one boot for all workers; ``judge`` is given a directory.

    Where the machine did not get through, the test fails with the reason.
    """
    if platform.machine() != "x86_64":
        pytest.skip("this machine's own programs run in the guest, whose kernel is for x86-64")
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / name
    directory.mkdir(exist_ok=True)
    answers = directory / "answers.json"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answers.exists():
            try:
                found: object = {step: asdict(one) for step, one in judge(directory).items()}
            except (GuestError, UnavailableError, AssertionError) as error:
                found = str(error)
            answers.write_text(json.dumps(found))
    known = json.loads(answers.read_text())
    if isinstance(known, str):
        pytest.fail(known, pytrace=False)
    return {step: Told(**one) for step, one in known.items()}


def _read(text: str, kernel: Kernel, steps: Sequence[Step]) -> dict[str, Told]:
    told: dict[str, Told] = {}
    now = Told()
    counts = []
    for line in text.splitlines():
        match line.split("\t", 1):
            case ["step", name]:
                now = told[name.partition("-")[2]] = Told()
            case ["said", words]:
                now.said.append(words)
            case ["kernel", words]:
                now.kernel.append(words)
            case ["end", status]:
                now.status = int(status)
            case ["done", rest]:
                counts.append(rest)
    if counts != [f"{kernel.version}\t{len(steps)}"] or len(told) != len(steps):
        end = "\n".join(text.splitlines()[-20:])
        message = f"Linux {kernel.version} ran {len(told)} steps of {len(steps)}:\n{end}"
        raise GuestError(message)
    return told
