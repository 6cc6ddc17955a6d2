"""What a node that runs only what is signed is given: keys, a signed image, and policies."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pki
from container_images import push_image
from helpers import cli, flip

from dmsign_fast.envelope.signed_content import MAX_MESSAGE, sign_content
from dmsign_fast.oci.layout import Layout
from dmsign_fast.signing.local import load_local_signer

from .steps import make_hello, make_tar

LAYERS = 5
MOUNTED = "/mnt/app"
_CACHE = "/files/cache"


def ok(*words: object) -> str:
    """Run our command line, which must do it; what it printed."""
    done = cli(*words)
    assert done.exit_code == 0, f"{words}: {done}"
    return done.out


@dataclass(frozen=True)
class Single:
    """A layer on its own, at ``/files/NAME`` of the guest."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def image(self) -> Path:
        return self.directory / "layer.erofs"

    @property
    def tar(self) -> Path:
        return self.directory / "layer.tar"

    @property
    def root_hash(self) -> str:
        return (self.directory / "layer.erofs.roothash").read_text()

    def open(self, *, signed: bool = True) -> str:
        """The command line that opens it in the guest, by ``verity open --dry-run``."""
        unsigned = () if signed else ("--unsigned",)
        line = ok("verity", "open", self.image, self.name, *unsigned, "--dry-run")
        return line.replace(str(self.directory), f"/files/{self.name}").strip()

    def mount(self, *, signed: bool = True) -> str:
        """The command lines that open and mount it at ``/mnt/NAME``."""
        place = f"/mnt/{self.name}"
        mount = f"mkdir -p {place} && mount -t erofs -o ro /dev/mapper/{self.name} {place}"
        return f"{self.open(signed=signed)} && {mount}"


class IpeFiles:
    """Keys in ``directory/keys``; in ``directory/guest/files`` what the guest has.

    The policies' key is in the firmware, as ``machine`` has it; the layers' keys are in .dm-verity,
    but for the stranger's.
    """

    def __init__(self, directory: Path) -> None:
        self.tree = directory / "guest"
        self.files = self.tree / "files"
        self.files.mkdir(parents=True)
        self.entities = {
            "policy": pki.make_leaf(name="Policy", key="RSA-2048"),
            "layers": pki.make_leaf(pki.make_root("Layers Root"), "Layers", key="RSA-2048"),
            "other": pki.make_leaf(pki.make_root("Other Root"), "Other"),
            "stranger": pki.make_leaf(pki.make_root("Strange Root"), "Stranger"),
        }
        self.keys = {
            name: one.write(directory / "keys" / name) for name, one in self.entities.items()
        }
        self.hello = make_hello(directory / "hello")
        (self.files / "hello").write_bytes(self.hello)
        (self.files / "hello").chmod(0o755)
        self.policies = directory / "policies"
        self.policies.mkdir()
        self._layout = directory / "layout"

    @property
    def firmware(self) -> list[bytes]:
        """The certificates for ``db``."""
        return [pki.der(self.entities["policy"].certificate)]

    @property
    def enrolled(self) -> dict[str, bytes]:
        """The certificates for .dm-verity."""
        return {name: pki.der(self.entities[name].root) for name in ("layers", "other")}

    def key(self, name: str) -> tuple[str | Path, ...]:
        return ("--key", self.keys[name].key, "--cert", self.keys[name].chain)

    @property
    def reference(self) -> tuple[str | Path, ...]:
        """The signed image for our command line, and whom to trust."""
        return (f"{self._layout}:v1", "--oci-layout", "--trust", self.keys["layers"].root)

    def sign_image(self) -> str:
        """Make an image of several layers, with a program in each, and sign it; what was said."""
        with Layout.create(self._layout) as layout:
            contents = [make_tar({f"bin/hello{number}": self.hello}) for number in range(LAYERS)]
            push_image(layout, "v1", contents)
        return ok("sign", "--oci-layout", f"{self._layout}:v1", *self.key("layers"))

    def export_image(self) -> list[str]:
        """Put the image into the guest; return the lines of ``mount --dry-run``."""
        line = ("mount", *self.reference, MOUNTED, "--cache", _CACHE, "--dry-run")
        planned = json.loads(ok(*line, "--output", "json"))
        kept = self.tree / planned["cache"].lstrip("/")
        kept.parent.mkdir()
        ok("export", *self.reference, kept)
        return [shlex.join(words) for words in planned["commands"]]

    def single(self, name: str, signer: str, recipe: str = "containerd") -> Single:
        """Make and sign a layer of its own; beside it is its tar."""
        directory = self.files / name
        directory.mkdir()
        made = Single(directory)
        made.tar.write_bytes(make_tar({"bin/hello": self.hello, f"name/{name}": b""}))
        of = ("--recipe", recipe)
        ok("layer", "convert", made.tar, "--out", made.image, "--verity", "none", *of)
        ok("verity", "sign", made.image, *self.key(signer), "--quiet", *of)
        return made

    def damaged(self, name: str, of: Single) -> Single:
        """The same with one bit of the program changed."""
        directory = self.files / name
        shutil.copytree(of.directory, directory)
        made = Single(directory)
        for file in (made.image, made.tar):
            flip(file, file.read_bytes().rindex(b"hello\n"))
        return made

    def policy(self, file: str, *options: object, signer: str = "policy") -> None:
        """Write and sign a policy at ``/files/FILE.p7b``."""
        text = self.policies / file
        ok("ipe", "policy", *options, "--out", text, "--quiet")
        ok("ipe", "sign", text, "--out", self.files / f"{file}.p7b", *self.key(signer), "--quiet")

    def texts(self, texts: dict[str, str]) -> None:
        """Sign texts, whatever they are, at ``/files/texts/NAME``, as ``ipe sign`` would.

        The text ``good`` is there as ``largest`` too, with so long a comment that the message has
        as many bytes as Linux takes.
        """
        directory = self.files / "texts"
        directory.mkdir()
        keys = self.keys["policy"]
        signer = load_local_signer(keys.key, keys.chain)
        for name, text in texts.items():
            (directory / name).write_bytes(sign_content(text.encode(), signer))
        filled = texts["good"].encode() + b"#" * 60000
        filled += b"#" * (MAX_MESSAGE - len(sign_content(filled, signer)))
        largest = sign_content(filled, signer)
        assert len(largest) == MAX_MESSAGE
        (directory / "largest").write_bytes(largest)


def root_hashes(lines: Iterable[str]) -> list[str]:
    """The root hashes that the lines open, the lowest layer first."""
    return [line.split()[5] for line in lines if line.startswith("veritysetup open")]
