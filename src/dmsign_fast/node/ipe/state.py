"""IPE in the running kernel: its policies, and what it denied according to the kernel's log.

Files are those of ``security/ipe/fs.c`` and ``policy_fs.c``, lines of the log those of
``security/ipe/audit.c``, Linux 7.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dmsign_fast.node.system import System, UnseenError

__all__ = ["Denial", "Loaded", "State", "denials", "look_at_ipe", "root_hash_of_device"]

_SECURITY = "/sys/kernel/security"
_DENIED = re.compile(r"\btype=(?:1420|IPE_ACCESS)\b.*?\bipe_op=(?P<rest>.*)")
# quotes nest in what the kernel does not escape, so the rule reaches to the last quote
_FIELD = re.compile(r'(?P<name>ipe_op|ipe_hook|enforcing|comm|path|dev|ino)=("[^"]*"|\S+)')
_RULE = re.compile(r'\brule="(.*)"')
_DIGEST = re.compile(r'"([a-z0-9-]+)(?::"|":)([0-9A-F]+)')
# of `dmsetup table`: start, length, verity, version, two devices, block sizes, blocks, start
_TABLE = re.compile(r"\d+ \d+ verity(?: \S+){7} (\S+) ([0-9a-f]+)(?: |$)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy in the kernel."""

    name: str
    active: bool
    version: str
    text: str


@dataclass(frozen=True, slots=True)
class State:
    """IPE in the kernel: whether it is there at all, enforces, and its policies."""

    present: bool
    enforcing: bool = False
    policies: tuple[Loaded, ...] = ()

    @property
    def active(self) -> Loaded | None:
        """The policy that decides; there is at most this one."""
        return next((one for one in self.policies if one.active), None)


@dataclass(frozen=True, slots=True)
class Denial:
    """A file that was not let through, by a line of the log."""

    operation: str
    hook: str
    path: str
    device: str
    inode: str
    program: str
    enforced: bool
    rule: str


def look_at_ipe(system: System) -> State:
    """Return the state of IPE.

    Raises:
        UnseenError: securityfs is not mounted, or cannot be read.
    """
    if system.names(_SECURITY) is None:
        raise UnseenError(f"no {_SECURITY}")
    # the directory is there without securityfs too, and empty then
    if not system.names(_SECURITY):
        raise UnseenError(f"{_SECURITY} is empty: mount -t securityfs none {_SECURITY}")
    directory = f"{_SECURITY}/ipe"
    if system.names(directory) is None:
        return State(present=False)
    policies = []
    for name in system.names(f"{directory}/policies") or ():
        place = f"{directory}/policies/{name}"
        active, version, text = (
            system.text(f"{place}/{one}") or "" for one in ("active", "version", "policy")
        )
        policies.append(Loaded(name, active == "1", version, text))
    return State(True, system.text(f"{directory}/enforce") == "1", tuple(policies))


def denials(log: str) -> Iterator[Denial]:
    """The denials in the text of a kernel's or audit daemon's log, in its order."""
    for line in log.splitlines():
        if not _DENIED.search(line):
            continue
        rule = _RULE.search(line)
        said = line[: rule.start()] if rule else line
        fields = {found["name"]: found[2] for found in _FIELD.finditer(said)}
        yield Denial(
            fields.get("ipe_op", ""),
            fields.get("ipe_hook", ""),
            _text(fields.get("path", "")),
            _text(fields.get("dev", "")),
            fields.get("ino", ""),
            _text(fields.get("comm", "")),
            fields.get("enforcing", "1") == "1",
            # as it stands in a policy
            _DIGEST.sub(lambda one: f"{one[1]}:{one[2].lower()}", rule[1]) if rule else "",
        )


def root_hash_of_device(system: System, device: str) -> str | None:
    """``ALG:HEX`` of the dm-verity device that is called ``dm-N`` now; None if there is none.

    Raises:
        UnseenError: dmsetup cannot be run, or says nothing.
    """
    name = system.text(f"/sys/block/{device}/dm/name") if re.fullmatch(r"dm-\d+", device) else None
    if not name:
        return None
    done = system.run("dmsetup", "table", name)
    if done.exit_code:
        raise UnseenError(f"dmsetup table {name}: {done.last_words}")
    found = _TABLE.match(done.out.decode(errors="replace"))
    return f"{found[1]}:{found[2]}" if found else None


def _text(value: str) -> str:
    """A value as the kernel had it: in quotes, or in hex if it has a quote or a space in it."""
    if value.startswith('"'):
        return value[1:-1]
    if re.fullmatch(r"(?:[0-9A-F]{2})+", value):
        return bytes.fromhex(value).decode(errors="replace")
    return "" if value == "?" else value
