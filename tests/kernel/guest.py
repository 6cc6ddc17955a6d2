"""A virtual machine without disks: all is in its initramfs, and it answers on the console."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .debian import Kernel
from .images import Image, eio

_MODULES = ("dm-verity", "loop", "erofs", "overlay")
_PROGRAMS = {
    "busybox": "busybox-static",
    "veritysetup": "cryptsetup-bin",
    "dmsetup": "dmsetup",
    "keyctl": "keyutils",
    "getfattr": "attr",
}
_OUR_PROGRAMS = {
    "depmod": "kmod",
    "cpio": "cpio",
    "qemu-system-x86_64": "qemu-system-x86",
}
_ERRORS = {os.strerror(number): name for number, name in errno.errorcode.items()}
# One virtual processor: TCG with two takes longer. After cmpxchg16b without lock, by which Linux
# 6.12 allocates memory, QEMU 7.2 has flags at random, and the kernel soon dies of it.
_MACHINE = (
    *("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off,cx16=off"),
    *("-smp", "1", "-m", "512"),
    *("-nodefaults", "-no-reboot", "-display", "none"),
)
# without randomised addresses TCG translates each program once: that halves the time; on a busy
# machine timer interrupts come late, which Linux would take for a broken timer, and panic
_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=1 panic=-1 norandmaps mitigations=off no_timer_check "
    "dm_verity.keyring_unsealed=1"
)


@dataclass(frozen=True)
class Answer:
    """What the kernel did.

    Attributes:
        verdict: reads, the name of an error, or ``EIO`` and the blocks that could not be read.
        sha256: of all blocks that could be read, in their order.
        status: of the device then, by device-mapper: V verified or C corrupted.
        files: lines about what is in the file system; see expected_files.py.
    """

    verdict: str
    sha256: str = ""
    status: str = ""
    files: list[str] = field(default_factory=list)

    @property
    def opened(self) -> bool:
        """Whether there was a device, be it with bad blocks."""
        return bool(self.status)


@dataclass(frozen=True)
class Boot:
    """What the machine printed, by case."""

    answers: dict[str, Answer]
    forms: FormAnswers
    console: Path
    seconds: float


@dataclass(frozen=True)
class FormAnswers:
    """What Linux said to signature_forms.py.

    Attributes:
        errors: of each signature, empty for one that was accepted.
        enrolled: whether each certificate was taken into the keyring.
    """

    errors: dict[str, str] = field(default_factory=dict)
    enrolled: dict[str, bool] = field(default_factory=dict)


class GuestError(Exception):
    """The machine did not do what it was started for."""


def programs() -> dict[str, str]:
    """Return the paths of all programs.

    Raises:
        GuestError: some are missing, of these packages.
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    packages = _PROGRAMS | _OUR_PROGRAMS
    found = {name: shutil.which(name, path=path) for name in packages}
    if missing := [packages[name] for name, place in found.items() if not place]:
        message = f"missing on this machine: apt-get install {' '.join(missing)}"
        raise GuestError(message)
    return {name: place for name, place in found.items() if place}


def build(tree: Path, kernel: Kernel, certificates: dict[str, bytes], init: str = "init") -> Path:
    """Return the initramfs: the cases in the tree, their commands, programs, and certificates.

    ``init`` is the script here that is the first process.
    """
    paths = programs()
    _copy_programs(tree, paths)
    _copy_modules(tree, kernel, paths["depmod"])
    for name, certificate in certificates.items():
        _place(tree, f"certificates/{name}").write_bytes(certificate)
    for case in (tree / "cases").glob("*"):
        Image(case).write_command()
    shutil.copy(Path(__file__).with_name(init), tree / "init")
    (tree / "init").chmod(0o755)

    archive = tree.with_suffix(".cpio")
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    with archive.open("wb") as file:
        subprocess.run(
            [paths["cpio"], "--quiet", "-o", "-H", "newc", "-R", "0:0"],
            cwd=tree,
            input="\n".join(names).encode(),
            stdout=file,
            check=True,
        )
    return archive


def boot(
    initramfs: Path,
    kernel: Kernel,
    *,
    seconds: float = 1800,
    trust: str = "keyring",
    machine: Sequence[str] = (),
) -> Boot:
    """Run the machine to its end; the console is beside the initramfs.

    ``trust`` is keyring if the guest is to enrol the certificates, or firmware; ``machine`` are
    further options of QEMU.

    Raises:
        GuestError: it did not come to its end, or not in this time.
    """
    # without ACPI, which goes with modules here, Linux cannot power off
    end = "poweroff" if kernel.modules.exists() else "reboot"
    words = f"dm_verity.require_signatures=1 trust={trust} end={end}"
    console, lasted = run(initramfs, kernel, words, seconds=seconds, machine=machine)
    text = console.read_text(errors="replace")
    answers, forms = read_console(text, kernel.version), read_forms(text)
    return Boot(answers, forms, console, lasted)


def run(
    initramfs: Path,
    kernel: Kernel,
    words: str,
    *,
    seconds: float = 1800,
    machine: Sequence[str] = (),
    show: Callable[[str], object] = lambda _: None,
) -> tuple[Path, float]:
    """Run the machine to its end; return the file with its console, and how long it took.

    ``words`` are more of the kernel's command line; ``show`` is called with each line of the
    console meanwhile.

    Raises:
        GuestError: it did not come to its end in this time.
    """
    console = initramfs.with_suffix(".log")
    console.write_bytes(b"")
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(programs()["qemu-system-x86_64"], *_MACHINE, *machine, "-serial", f"file:{console}"),
            *("-kernel", str(kernel.image), "-initrd", str(initramfs)),
            *("-append", f"{_COMMAND_LINE} {words}"),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        with console.open(errors="replace") as lines:
            rest, running = "", True
            while running:
                running = process.poll() is None
                *whole, rest = (rest + lines.read()).split("\n")
                for line in whole:
                    show(line)
                if time.monotonic() - began > seconds:
                    message = (
                        f"the virtual machine was not done after {seconds:.0f} s, see {console}"
                    )
                    raise GuestError(message)
                if running:
                    time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    return console, time.monotonic() - began


def read_console(text: str, version: str) -> dict[str, Answer]:
    """Return the answers.

    Raises:
        GuestError: the last line, with the kernel's version and the number of answers, is missing
            or wrong. QEMU's exit status is 0 for a kernel that panics as well.
    """
    answers: dict[str, Answer] = {}
    counts = []
    for line in text.splitlines():
        match line.split("\t"):
            case ["case", name, "read", sha256, status]:
                answers[name] = Answer("reads", sha256, status)
            case ["case", name, "bad", blocks, sha256, status]:
                answers[name] = Answer(eio(map(int, blocks.split(","))), sha256, status)
            case ["case", name, "refused", error]:
                answers[name] = Answer(_ERRORS.get(error.rstrip("."), error))
            case ["file", name, *about]:
                answers[name].files.append(" ".join(about))
            case ["done", release, count]:
                counts.append((release, count))
    if counts != [(version, str(len(answers)))]:
        end = "\n".join(text.splitlines()[-20:])
        message = (
            f"Linux {version} gave {len(answers)} answers and ended with {counts}; its last "
            f"lines:\n{end}"
        )
        raise GuestError(message)
    return answers


def read_forms(text: str) -> FormAnswers:
    """Return the answers to the forms; GuestError if some are missing."""
    answers = FormAnswers()
    counts = []
    for line in text.splitlines():
        match line.split("\t"):
            case ["form", name, "ok"]:
                answers.errors[name] = ""
            case ["form", name, error]:
                answers.errors[name] = _ERRORS.get(error.rstrip("."), error or "unknown")
            case ["enrolled", name, answer]:
                answers.enrolled[name] = answer == "yes"
            case ["forms", count]:
                counts.append(int(count))
    if counts != [len(answers.errors)] * bool(counts or answers.errors):
        raise GuestError(f"Linux answered {len(answers.errors)} forms of {counts}")
    return answers


def _place(tree: Path, name: str) -> Path:
    path = tree / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _copy_programs(tree: Path, paths: dict[str, str]) -> None:
    for name in _PROGRAMS:
        shutil.copy(paths[name], _place(tree, f"bin/{name}"))
        # fails for a static program, which needs nothing
        shown = subprocess.run(["ldd", paths[name]], capture_output=True, text=True, check=False)
        for library in re.findall(r"(?:=> |^\s*)(/\S+)", shown.stdout, re.MULTILINE):
            if not (place := _place(tree, library)).exists():  # of another release, and newer
                shutil.copy(library, place)


def _copy_modules(tree: Path, kernel: Kernel, depmod: str) -> None:
    if not kernel.modules.exists():  # all is built in
        return
    listed = kernel.modules / "modules.dep"
    if not listed.exists():
        base = kernel.root / "usr"
        subprocess.run([depmod, "-b", str(base), kernel.version], check=True, capture_output=True)
    # busybox looks for the file of a module and those before it on one line each
    lines = dict(line.split(":") for line in listed.read_text().splitlines())
    by_name = {Path(path).name.partition(".")[0]: path for path in lines}
    chosen = {by_name[name] for name in _MODULES}
    chosen |= {path for name in chosen for path in lines[name].split()}
    where = f"lib/modules/{kernel.version}"
    for path in chosen:
        shutil.copy(kernel.modules / path, _place(tree, f"{where}/{path}"))
    text = "".join(f"{path}:{lines[path]}\n" for path in sorted(chosen))
    _place(tree, f"{where}/modules.dep").write_text(text)
