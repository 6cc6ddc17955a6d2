"""Signed devices by veritysetup, with what Linux says to them explained."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dmsign_fast.errors import ParameterError, ProgramError, VerificationError
from dmsign_fast.node.system import administrators_environment
from dmsign_fast.processes import Finished, run_program

__all__ = ["OPEN_FLAGS", "OpenCommand", "close_device", "device_status", "open_device"]

# Options of veritysetup without a value, and what they mean; those of corruption exclude each other
OPEN_FLAGS = {
    "--ignore-corruption": "log corrupt blocks, and hand them out; not beside a signature",
    "--restart-on-corruption": "restart the machine at a corrupt block",
    "--panic-on-corruption": "have the kernel panic at a corrupt block",
    "--ignore-zero-blocks": "hand out zeros, unread, for blocks that should be zeros",
    "--check-at-most-once": "verify a block only when it is first read",
    "--shared": "more devices may use DATA (newer veritysetup)",
    "--deferred": "close the device when its last user closes it",
}
_SECONDS = 300.0  # udev may be slow

# libdevmapper: "device-mapper: reload ioctl on NAME (254:0) failed: Required key not available"
_FAILED = re.compile(r"ioctl on .*?failed: ([^;]+)")
_NAMES = {os.strerror(number): name for number, name in errno.errorcode.items()}
# Refusals of a signature. linux_verdict() has stopped a damaged signature before.
_REFUSALS = {
    "ENOKEY": "no certificate in the kernel leads to the signer, .dm-verity is not sealed, or a "
    "signature is required and there is none",
    "EKEYREJECTED": "a trusted certificate names the signer, but its key did not make this "
    "signature",
    "EBADMSG": "the signature is malformed",
    "ENOPKG": "the kernel lacks an algorithm of the signature",
}
_DOCTOR = "run dmsign-fast doctor with --cert as root, and doctor --signature with --trust"


@dataclass(frozen=True)
class OpenCommand:
    """What ``veritysetup open`` is told.

    Attributes:
        data: file or device.
        name: of the new device, below /dev/mapper.
        hashes: file or device with the hash area.
        root_hash: raw, or the file with its hex text.
        signature: the file with the signature of the root hash, or None.
        options: of the hash area, by veritysetup's names.
        flags: of OPEN_FLAGS.

    Raises:
        ParameterError: corruption is ignored in spite of a signature.
    """

    data: Path
    name: str
    hashes: Path
    root_hash: bytes | Path
    signature: Path | None
    options: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.signature and "--ignore-corruption" in self.flags:
            # the kernel calls the device signed, to IPE too, whatever is in its blocks
            raise ParameterError(
                "--ignore-corruption would hand out any contents as signed: leave it out, or open "
                "the device --unsigned"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command line."""
        root_hash = (
            ("--root-hash-file", str(self.root_hash))
            if isinstance(self.root_hash, Path)
            else (self.root_hash.hex(),)
        )
        signature = ("--root-hash-signature", str(self.signature)) if self.signature else ()
        places = (_operand(self.data), self.name, _operand(self.hashes))
        return ("veritysetup", "open", *places, *root_hash, *signature, *self.options, *self.flags)


def open_device(command: OpenCommand) -> Path:
    """Open the device and return its path; what it holds is verified when it is read.

    Raises:
        VerificationError: Linux refuses the signature.
        ProgramError: veritysetup fails otherwise, such as without root or device-mapper.
    """
    done = _run(command.words)
    if not done.exit_code:
        return Path("/dev/mapper") / command.name
    found = _FAILED.search(done.last_words)
    name = _NAMES.get(found[1].strip(), "") if found else ""
    if name in _REFUSALS:
        raise VerificationError(f"Linux refuses to open it, {name}: {_REFUSALS[name]}; {_DOCTOR}")
    raise _failed("open", done)


def close_device(name: str, *options: str) -> None:
    """Close the device; ProgramError if it is not open, is in use, or may not be closed."""
    done = _run(("veritysetup", "close", name, *options))
    if done.exit_code:
        raise _failed("close", done)


def device_status(name: str) -> dict[str, str]:
    """What ``veritysetup status`` says of an open device, by its own words (``root hash``).

    Raises:
        ProgramError: no device of that name is open, or veritysetup fails.
    """
    done = _run(("veritysetup", "status", name))
    said = done.out.decode(errors="replace")
    if done.exit_code:
        raise _failed("status", done)
    pairs = (line.partition(":") for line in said.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _failed(action: str, done: Finished) -> ProgramError:
    said = done.last_words or done.out.decode(errors="replace").strip() or "nothing"
    hint = "" if os.geteuid() == 0 else "; it needs root"
    return ProgramError(
        f"veritysetup {action}: exit status {done.exit_code}, it said: {said}{hint}"
    )


def _run(words: tuple[str, ...]) -> Finished:
    # for systems without udev, as libdevmapper has it
    without_udev = {one: os.environ[one] for one in ("DM_DISABLE_UDEV",) if one in os.environ}
    environment = administrators_environment() | without_udev
    return run_program(words, timeout=_SECONDS, environment=environment)


def _operand(path: Path) -> str:
    """Return the path as no option of the program."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text
