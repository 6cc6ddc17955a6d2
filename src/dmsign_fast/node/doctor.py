"""Examines a node: can it refuse images without a signature, and if not, why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dmsign_fast.node.containerd import check_containerd
from dmsign_fast.node.findings import Finding
from dmsign_fast.node.ipe.check import check_boot_line, check_ipe
from dmsign_fast.node.kernel import check_kernel, look_at_kernel
from dmsign_fast.node.keyrings import check_certificate, check_keyrings, look_at_keyrings
from dmsign_fast.node.programs import check_programs

if TYPE_CHECKING:
    from cryptography import x509

    from dmsign_fast.node.system import System

__all__ = ["examine"]


def examine(
    system: System, certificates: Sequence[x509.Certificate] = (), *, probe_seal: bool = False
) -> tuple[Finding, ...]:
    """Look at everything that enforcement needs, and change nothing; root sees the most.

    Args:
        system: the node.
        certificates: are to be trusted by its kernel.
        probe_seal: see ``look_at_keyrings``.
    """
    kernel = look_at_kernel(system)
    rings = look_at_keyrings(system, kernel, probe_seal=probe_seal)
    return (
        *check_kernel(kernel),
        *check_boot_line(system),
        *check_ipe(system, kernel),
        *check_keyrings(rings, kernel),
        *(check_certificate(rings, one, kernel) for one in certificates),
        *check_programs(system),
        *check_containerd(system),
    )
