"""One boot of the virtual machine for all tests here, whatever the number of workers."""

import fcntl
import json
import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from debian import UnavailableError
from helpers import write
from oci.conftest import docker_registry  # noqa: F401

from kernel.cases import CASES, make_images
from kernel.debian import pinned_kernel
from kernel.guest import Answer, FormAnswers, GuestError, boot, build, programs
from kernel.identities import make_identities
from kernel.images import Image
from kernel.layers import make_layers
from kernel.signature_forms import write_forms
from kernel.whole_image import Stack, make_stack, read_stack


@dataclass(frozen=True)
class Judged:
    """What was asked, below ``directory``, and what the kernel answered, by case."""

    directory: Path
    answers: dict[str, Answer]
    forms: FormAnswers
    stack: Stack

    @property
    def anchors(self) -> Path:
        return self.directory / "anchors.pem"

    def image(self, name: str) -> Image:
        return Image(self.directory / "guest/cases" / name)


@pytest.fixture(scope="session")
def judged(request, tmp_path_factory) -> Judged:
    """The answers of Linux to all cases."""
    if platform.machine() != "x86_64":
        pytest.skip("this machine's own programs run in the guest, whose kernel is for x86-64")
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all workers
    directory = base / "kernel"
    answers = directory / "answers.json"
    directory.mkdir(exist_ok=True)
    # should several workers have tests of it, the first does the work and the others wait
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not answers.exists():
            answers.write_text(json.dumps(_judge(directory, request)))
    known = json.loads(answers.read_text())
    if isinstance(known, str):
        pytest.fail(known, pytrace=False)
    cases = {name: Answer(**answer) for name, answer in known["cases"].items()}
    return Judged(directory, cases, FormAnswers(**known["forms"]), Stack(**known["stack"]))


def _judge(directory: Path, request) -> dict | str:
    """Return the answers, or why there are none, which would be so for every worker."""
    tree = directory / "guest"
    try:
        programs()
        linux = pinned_kernel()
        identities = make_identities(directory / "identities")
        write(directory / "anchors.pem", identities.anchors)
        make_images(CASES, tree / "cases", identities)
        registry = request.getfixturevalue("docker_registry")
        make_layers(directory, tree, identities, registry)
        make_stack(directory, tree, identities)
        write_forms(tree / "forms")
        initramfs = build(tree, linux, identities.certificates)
        done = boot(initramfs, linux)
    except (GuestError, UnavailableError, AssertionError) as error:
        return str(error)
    finally:
        for name in ("bin", "lib", "lib64", "usr"):
            shutil.rmtree(tree / name, ignore_errors=True)
        (directory / "guest.cpio").unlink(missing_ok=True)
    cases = {name: asdict(answer) for name, answer in done.answers.items()}
    stack = asdict(read_stack(done.console.read_text(errors="replace")))
    forms = asdict(done.forms)
    return {"cases": cases, "forms": forms, "stack": stack, "seconds": done.seconds}
