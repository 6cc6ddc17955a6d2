"""Certificates in the UEFI variable db, of which Linux makes its platform keyring.

Kernels before 7.0 have no keyring .dm-verity, but trust these. The variable is written into the
flash memory of OVMF, since OVMF itself takes no certificates but of RSA. Sources: UEFI
specification 2.10, 32.4 (EFI_SIGNATURE_LIST); EDK II, MdeModulePkg/Include/Guid/VariableFormat.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from .guest import GuestError

_OVMF = Path("/usr/share/OVMF")
_STORE = UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_DB = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le
_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
_OWNER = UUID("605dab50-e046-4300-abb6-3dd810dd8b23").bytes_le
_STORE_HEADER = 28
# non-volatile, for boot and run time, authenticated with a time
_ATTRIBUTES = 0x27


def firmware(certificates: Iterable[bytes], variables: Path) -> tuple[str, ...]:
    """Return options of QEMU for firmware with these DER certificates; ``variables`` is written.

    Raises:
        GuestError: there is no OVMF.
    """
    try:
        flash = bytearray((_OVMF / "OVMF_VARS_4M.fd").read_bytes())
    except FileNotFoundError:
        message = "the firmware is missing on this machine: apt-get install ovmf"
        raise GuestError(message) from None
    start = flash.index(_STORE) + _STORE_HEADER
    variable = _variable("db", b"".join(map(_signature_list, certificates)))
    assert flash[start : start + len(variable)] == b"\xff" * len(variable)
    flash[start : start + len(variable)] = variable
    variables.write_bytes(flash)
    drive = "if=pflash,format=raw"
    return (
        *("-drive", f"{drive},unit=0,readonly=on,file={_OVMF / 'OVMF_CODE_4M.fd'}"),
        *("-drive", f"{drive},unit=1,file={variables}"),
    )


def _signature_list(certificate: bytes) -> bytes:
    entry = _OWNER + certificate
    return _X509 + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry


def _variable(name: str, data: bytes) -> bytes:
    """Return an AUTHENTICATED_VARIABLE_HEADER, state added, with its name and data."""
    text = f"{name}\0".encode("utf-16-le")
    time_and_key = bytes(8 + 16 + 4)
    return (
        struct.pack("<HBBI", 0x55AA, 0x3F, 0, _ATTRIBUTES)
        + time_and_key
        + struct.pack("<II", len(text), len(data))
        + _DB
        + text
        + data
    )
