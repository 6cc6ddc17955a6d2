"""What asks for signatures on a node: the module's parameter, or a policy of IPE."""

from __future__ import annotations

from collections.abc import Iterator

from dmsign_fast.errors import FormatError
from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.ipe.parse import parse_policy
from dmsign_fast.node.ipe.policy import Action, Operation, Source
from dmsign_fast.node.ipe.state import look_at_ipe
from dmsign_fast.node.kernel import PARAMETERS, Kernel
from dmsign_fast.node.system import System, UnseenError

__all__ = ["BYPASSES", "check_boot_line", "check_ipe"]

_REQUIRED = "signatures required"
_UNSIGNED = Source(root_hash="sha256:a device that no rule names")
_BOOT_WORDS = ("dm_verity.", "dm-verity.", "ipe.", "lsm=", "security=")
BYPASSES = {
    "`ignore_corruption` beside a valid signature, over other contents": "CAP_SYS_ADMIN",
    "the page cache of a device whose table is reloaded, from linear to a signed verity of the "
    "same size": "CAP_SYS_ADMIN",
    "an EROFS image on several devices (`-o device=`): only the first is judged": "CAP_SYS_ADMIN",
    "`echo 0 > /sys/kernel/security/ipe/enforce`": "CAP_MAC_ADMIN",
}
"""Ways around IPE that were shown with Linux 7.2, and the capability that each needs."""


def check_boot_line(system: System) -> Iterator[Finding]:
    """Name what the kernel was told about dm-verity and IPE when it booted."""
    name = "boot line"
    try:
        line = system.text("/proc/cmdline")
    except UnseenError as error:
        yield Finding(name, State.NOTE, str(error))
        return
    if line is None:
        yield Finding(name, State.NOTE, "no /proc/cmdline")
        return
    words = [word for word in line.split() if word.startswith(_BOOT_WORDS)]
    evidence = f"{' '.join(words) or 'nothing of dm-verity and IPE'} in /proc/cmdline"
    modules = [word.partition("=")[2].split(",") for word in words if word.startswith("lsm=")]
    if modules and "ipe" not in modules[-1]:
        yield Finding(name, State.NOTE, f"{evidence}: IPE is off", "add ipe to lsm=")
    else:
        yield Finding(name, State.NOTE, evidence)


def check_ipe(system: System, kernel: Kernel) -> Iterator[Finding]:
    """Check what asks for a signature."""
    try:
        enforced, findings = _policies(system)
    except UnseenError as error:
        advice = "run as root, with securityfs mounted"
        enforced, findings = None, [Finding("IPE policy", State.NOTE, str(error), advice)]
    yield from findings
    if kernel.parameters is None:
        return  # check_kernel() has said it
    value = kernel.parameters.get("require_signatures")
    if value == "Y":
        yield Finding(_REQUIRED, State.OK, f"require_signatures=Y in {PARAMETERS}")
    elif value is None:
        yield Finding(
            _REQUIRED,
            State.PROBLEM,
            f"{PARAMETERS} has no require_signatures",
            "use a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG",
        )
    elif enforced:
        yield Finding(_REQUIRED, State.OK, f"require_signatures={value}, and {enforced}")
    else:
        yield Finding(
            _REQUIRED,
            State.UNKNOWN if enforced is None else State.PROBLEM,
            f"require_signatures={value}: a device without a signature opens too",
            "boot with dm_verity.require_signatures=1, or load a policy of IPE: dmsign-fast ipe",
        )


def _policies(system: System) -> tuple[str, list[Finding]]:
    """Return what keeps unsigned files from running, empty if nothing does, and the findings."""
    name = "IPE policy"
    ipe = look_at_ipe(system)
    if not ipe.present:
        evidence = "no /sys/kernel/security/ipe: IPE is not active"
        return "", [Finding(name, State.NOTE, evidence)]
    active = ipe.active
    idle = ", ".join(f"{one.name} {one.version}" for one in ipe.policies if not one.active)
    loaded = f"; not active: {idle}" if idle else ""
    if active is None:
        return "", [Finding(name, State.NOTE, f"no policy is active{loaded}")]
    enforced = "enforced" if ipe.enforcing else "not enforced"
    evidence = f"{active.name} {active.version} is active, {enforced}"
    try:
        decision = parse_policy(active.text.encode(errors="surrogateescape")).decide(
            Operation.EXECUTE, _UNSIGNED
        )
    except FormatError as error:
        return "", [Finding(name, State.NOTE, f"{evidence}, and cannot be meant: {error}{loaded}")]
    evidence += f"; programs of an unsigned device: {decision}"
    holds = ipe.enforcing and decision.action is Action.DENY
    found = [Finding(name, State.OK if holds else State.NOTE, f"{evidence}{loaded}")]
    if holds:
        ways = "; ".join(f"{way} ({needs})" for way, needs in BYPASSES.items())
        advice = "run containers without these capabilities: docs/ipe.md"
        found.append(Finding("IPE bounds", State.NOTE, f"ways around it: {ways}", advice))
    return evidence if holds else "", found
