"""A node as Linux 7.2.13 of Debian shows it, captured in a virtual machine: files and keyctl."""

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from dmsign_fast.errors import ProgramError
from dmsign_fast.node.doctor import examine
from dmsign_fast.node.system import System
from dmsign_fast.processes import Finished

CAPTURED = Path(__file__).with_name("linux-7.2.13")
RELEASE = "7.2.13+deb14-cloud-amd64"

# keyctl rlist, by the number of the keyring
_BUILTIN, _SECONDARY, _PLATFORM, _VERITY = 296100562, 696699799, 971173134, 295975628
RINGS = {
    _BUILTIN: "30298655",
    _SECONDARY: "296100562 1024592555",
    _PLATFORM: "",
    1024592555: "",
    _VERITY: "42321018 510698119 1031317170 140236599",
}


def certificate(name: str) -> x509.Certificate:
    """Return one of those that were enrolled: root, ec, rsa and v1."""
    return x509.load_der_x509_certificate((CAPTURED / f"{name}.der").read_bytes())


@dataclass
class Node:
    """A root directory, and the programs of a running system."""

    root: Path
    rings: dict
    sealed: bool | None = None  # what keyctl restrict_keyring finds; None is no keyctl at all
    running: bool = True

    def write(self, path: str, contents: str | bytes) -> "Node":
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        data = contents.encode() if isinstance(contents, str) else contents
        place.write_bytes(data)
        return self

    def remove(self, path: str) -> "Node":
        (self.root / path).unlink()
        return self

    def parameter(self, name: str, value: str) -> "Node":
        return self.write(f"sys/module/dm_verity/parameters/{name}", f"{value}\n")

    def option(self, name: str, value: str | None) -> "Node":
        """Change one line of the configuration."""
        path = self.root / f"boot/config-{RELEASE}"
        lines = path.read_text().splitlines()
        at = next(i for i, one in enumerate(lines) if one.startswith(f"CONFIG_{name}="))
        lines[at] = f"CONFIG_{name}={value}" if value else f"# CONFIG_{name} is not set"
        path.write_text("\n".join(lines))
        return self

    @property
    def system(self) -> System:
        return System(self.root, self._execute if self.running else None)

    def _execute(self, command: tuple[str, ...]) -> Finished:
        match command:
            case ("veritysetup", "--version"):
                return _finished(out="veritysetup 2.7.5 flags: UDEV BLKID KEYRING\n")
            case ("keyctl", *_) if self.sealed is None:
                raise ProgramError("cannot run keyctl: [Errno 2] No such file: 'keyctl'")
            case ("keyctl", "rlist", ring):
                return _finished(out=f"{self.rings[int(ring)]}\n")
            case ("keyctl", "restrict_keyring", ring, "asymmetric", how):
                # any other restriction would change the keyring
                assert how == f"key_or_keyring:{ring}"
                said = "File exists" if self.sealed else "Resource deadlock avoided"
                return _finished(1, err=f"keyctl_restrict_keyring: {said}\n")
        raise AssertionError(command)


def _finished(exit_code: int = 0, out: str = "", err: str = "") -> Finished:
    return Finished(exit_code, out.encode(), err.encode(), 0.0)


def found(node, *certificates, probe_seal=True):
    """Return the findings about a node by their names, each of which is there once."""
    findings = examine(node.system, certificates, probe_seal=probe_seal)
    names = [one.name for one in findings]
    assert len(names) == len(set(names))
    return {one.name: one for one in findings}
