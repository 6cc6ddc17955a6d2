"""A node that runs only what is signed, as a story to watch: ``make demo-node``.

An image is signed here. A virtual machine, with require_signatures=1 and a policy of IPE,
mounts it and refuses what is not signed, in the kernel's own words.

cd tests && PYTHONPATH=oci python -m kernel.demo_node
"""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from debian import UnavailableError

from .debian import pinned_kernel
from .firmware import firmware
from .guest import GuestError
from .ipe_files import LAYERS, MOUNTED, IpeFiles
from .steps import Step, Told, run_steps

_IPE = "/sys/kernel/security/ipe"
# what nobody wants to read: times, numbers of messages, logins that there are none of
_NOISE = re.compile(r"^\[ *[\d.]+\] (?:audit: type=\d+ audit\([\d.:]+\): )?|(?:auid|ses)=\d+ ")
_KERNEL = re.compile(r"audit: type=14|device-mapper: (?!ioctl)")
_LONG = re.compile(r"[0-9a-fA-F]{16,64}(?:-[0-9a-f]{16})?")
_SHELL = re.compile(r"^/steps/\S+ line \d+: ")


@dataclass(frozen=True)
class Scene:
    """What is done on the node, and whether the kernel lets it."""

    name: str
    title: str
    commands: str
    is_let: bool


class Screen:
    """What is shown of the console: each scene, the words of its programs and of the kernel."""

    def __init__(self, scenes: list[Scene]) -> None:
        self._scenes = {one.name: one for one in scenes}
        self._last = ""

    def line(self, text: str) -> None:
        """Show a line, if it is for people."""
        match text.rstrip("\r").split("\t", 1):
            case ["step", name]:
                scene = self._scenes[name.partition("-")[2]]
                _say(scene.title)
                for command in scene.commands.splitlines():
                    self._print(f"# {command}")
            case ["said", words]:
                print(f"  {_SHELL.sub('', words)}", flush=True)
            case ["kernel", words] if _KERNEL.search(words):
                self._print(f"  kernel: {_NOISE.sub('', words)}")

    def _print(self, text: str) -> None:
        text = _shortened(text)
        if text != self._last:  # the kernel says of a bad block at each try to read it
            print(text, flush=True)
        self._last = text


def _shortened(text: str) -> str:
    """Digests by their first digits."""
    return _LONG.sub(lambda one: f"{one[0][:8]}…", text)


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _prepare(files: IpeFiles) -> list[Scene]:
    """Sign here, and return what is to happen there."""
    _say(f"Here: an image of {LAYERS} layers, each with a program, is signed")
    print("$ dmsign-fast sign --oci-layout app:1.0 --key key.pem --cert chain.pem")
    print(_shortened(re.sub(r"\S+/layout", "app", files.sign_image())).strip())
    _say("Here: a policy, that only what is signed runs, signed by a key in the node's firmware")
    print("$ dmsign-fast ipe policy --name only-signed --version 1.0.0 --initramfs --out policy")
    print("$ dmsign-fast ipe sign policy --key policy-key.pem --cert policy-cert.pem")
    files.policy("policy", "--name", "only-signed", "--version", "1.0.0", "--initramfs")
    print((files.policies / "policy").read_text().strip())
    _say("Here: the files of the image, and the lines that mount it on a node without Python")
    print("$ dmsign-fast export app:1.0 cache/app --oci-layout --trust root.pem")
    print("$ dmsign-fast mount app:1.0 /mnt/app --oci-layout --trust root.pem --dry-run")
    mount = "\n".join(files.export_image())
    unsigned, foreign = files.single("unsigned", "layers"), files.single("foreign", "stranger")
    changed = files.damaged("changed", files.single("good", "layers"))
    return [
        Scene(
            "policy",
            "There, as root: the policy is loaded",
            f"cat policy.p7b > {_IPE}/new_policy\necho 1 > {_IPE}/policies/only-signed/active",
            is_let=True,
        ),
        Scene(
            "mount", "The image is mounted: the kernel checks each signature", mount, is_let=True
        ),
        Scene(
            "run",
            "Programs of all layers run",
            "\n".join(f"chroot {MOUNTED} /bin/hello{number}" for number in range(LAYERS)),
            is_let=True,
        ),
        Scene(
            "unsigned",
            "A layer without its signature does not open",
            unsigned.open(signed=False),
            is_let=False,
        ),
        Scene(
            "foreign",
            "A layer signed by a key that the node does not know does not open",
            foreign.open(),
            is_let=False,
        ),
        Scene(
            "changed",
            "A bit of a program is changed: the signature is good, and the block cannot be read",
            f"{changed.mount()}\n/mnt/changed/bin/hello".replace(" && ", "\n"),
            is_let=False,
        ),
        Scene(
            "tmpfs",
            "A program that somebody dropped into a tmpfs does not run",
            "mkdir -p /mnt/tmp\nmount -t tmpfs none /mnt/tmp\ncp hello /mnt/tmp\n/mnt/tmp/hello",
            is_let=False,
        ),
        Scene("again", "The image still runs", f"chroot {MOUNTED} /bin/hello0", is_let=True),
    ]


def _surprises(scenes: list[Scene], told: dict[str, Told]) -> list[str]:
    """The scenes in which the kernel did otherwise than it should."""
    found = [one.name for one in scenes if (told[one.name].status == 0) is not one.is_let]
    return found if told["run"].said == ["hello"] * LAYERS else [*found, "run"]


def main() -> int:
    """Tell the story; the exit status is 1 if the kernel did not do as it should."""
    try:
        linux = pinned_kernel()
        with tempfile.TemporaryDirectory(prefix="demo-node-") as name:
            directory = Path(name)
            files = IpeFiles(directory)
            scenes = _prepare(files)
            _say(f"Linux {linux.version} boots under QEMU, with dm_verity.require_signatures=1")
            told = run_steps(
                files.tree,
                linux,
                [Step(one.name, f"{one.commands}\n") for one in scenes],
                "dm_verity.require_signatures=1",
                certificates={"layers": files.enrolled["layers"]},
                machine=firmware(files.firmware, directory / "variables"),
                show=Screen(scenes).line,
            )
    except (GuestError, UnavailableError) as error:
        print(error, file=sys.stderr)
        return 1
    if surprises := _surprises(scenes, told):
        print(f"The kernel did not do as it should: {', '.join(surprises)}", file=sys.stderr)
        return 1
    _say("Signed programs ran, and nothing else did.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
