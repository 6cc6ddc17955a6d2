"""A virtual machine without disks: all is in its initramfs, and it answers on the console."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .debian import Kernel
from .images import spans

_MODULES = ("dm-verity", "loop")
_PROGRAMS = {
    "busybox": "busybox-static",
    "veritysetup": "cryptsetup-bin",
    "keyctl": "keyutils",
    "depmod": "kmod",
    "cpio": "cpio",
    "qemu-system-x86_64": "qemu-system-x86",
}
_ERRORS = {os.strerror(number): name for number, name in errno.errorcode.items()}
# one virtual processor: TCG with two takes longer
_MACHINE = (
    *("-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off", "-smp", "1", "-m", "1024"),
    *("-nodefaults", "-no-reboot", "-display", "none"),
)
_COMMAND_LINE = (
    "console=ttyS0 quiet loglevel=1 panic=-1 "
    "dm_verity.keyring_unsealed=1 dm_verity.require_signatures=1"
)


@dataclass(frozen=True)
class Answer:
    """What the kernel did: ``verdict`` is reads, the name of an error, or ``EIO`` and blocks.

    ``sha256`` is of all blocks that could be read, in their order.
    """

    verdict: str
    sha256: str = ""


@dataclass(frozen=True)
class Boot:
    """What the machine printed, by case."""

    answers: dict[str, Answer]
    finished: bool
    seconds: float


def programs() -> dict[str, str]:
    """Return the paths of all programs; SystemExit says which packages are missing."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = {name: shutil.which(name, path=path) for name in _PROGRAMS}
    missing = [_PROGRAMS[name] for name, place in found.items() if not place]
    if missing:
        message = f"missing on this machine: apt-get install {' '.join(missing)}"
        raise SystemExit(message)
    return {name: place for name, place in found.items() if place}


def build(
    work: Path, kernel: Kernel, cases: Sequence[Path], certificates: dict[str, bytes]
) -> Path:
    """Return the initramfs with the cases and the DER certificates to enrol."""
    tree = work / "initramfs"
    shutil.rmtree(tree, ignore_errors=True)
    paths = programs()
    _copy_programs(tree, paths)
    _copy_modules(tree, kernel, paths["depmod"])
    for name, certificate in certificates.items():
        _place(tree, f"certificates/{name}").write_bytes(certificate)
    for case in cases:
        shutil.copytree(case, tree / "cases" / case.name)
    shutil.copy(Path(__file__).with_name("init"), tree / "init")
    (tree / "init").chmod(0o755)

    archive = work / "initramfs.cpio"
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


def boot(work: Path, kernel: Kernel, initramfs: Path, seconds: float) -> Boot:
    """Run the machine to its end, or kill it; the console is in ``work``."""
    console = work / "console.log"
    console.unlink(missing_ok=True)
    began = time.monotonic()
    machine = subprocess.Popen(
        [
            *(programs()["qemu-system-x86_64"], *_MACHINE, "-serial", f"file:{console}"),
            *("-kernel", str(kernel.image), "-initrd", str(initramfs), "-append", _COMMAND_LINE),
        ],
        stdin=subprocess.DEVNULL,
    )
    try:
        machine.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"the virtual machine was not done after {seconds:.0f} s, see {console}")
    finally:
        machine.kill()
        machine.wait()
    text = console.read_text(errors="replace") if console.exists() else ""
    # QEMU's exit status is 0 for a kernel that panics as well
    finished = re.search(rf"^done\t{re.escape(kernel.version)}$", text, re.MULTILINE)
    return Boot(_answers(text), bool(finished), time.monotonic() - began)


def _answers(console: str) -> dict[str, Answer]:
    answers = {}
    for line in console.splitlines():
        match line.split("\t"):
            case ["case", name, "read", "", sha256]:
                answers[name] = Answer("reads", sha256)
            case ["case", name, "bad", blocks, sha256]:
                answers[name] = Answer(f"EIO {spans(map(int, blocks.split(',')))}", sha256)
            case ["case", name, "refused", error]:
                answers[name] = Answer(_ERRORS.get(error.rstrip("."), error))
    return answers


def _place(tree: Path, name: str) -> Path:
    path = tree / name.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _copy_programs(tree: Path, paths: dict[str, str]) -> None:
    for name in ("busybox", "veritysetup", "keyctl"):
        shutil.copy(paths[name], _place(tree, f"bin/{name}"))
        # fails for a static program, which needs nothing
        shown = subprocess.run(["ldd", paths[name]], capture_output=True, text=True, check=False)
        for library in re.findall(r"(?:=> |^\s*)(/\S+)", shown.stdout, re.MULTILINE):
            shutil.copy(library, _place(tree, library))


def _copy_modules(tree: Path, kernel: Kernel, depmod: str) -> None:
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
