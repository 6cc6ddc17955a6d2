"""The keyrings that Linux asks for the signer of a root hash, and what they hold.

``/proc/keys`` lists the keys that the reader may view, not which keyring has them; ``keyctl rlist``
tells that, to root. The keys themselves never come out: a certificate is known by its subject key
identifier, or its serial number without one (``x509_key_preparse()`` in x509_public_key.c).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.kernel import Kernel
from dmsign_fast.node.system import System, UnseenError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "Key",
    "Keyrings",
    "check_certificate",
    "check_keyrings",
    "look_at_keyrings",
    "parse_keys",
]

VERITY = ".dm-verity"
_BUILTIN, _SECONDARY, _PLATFORM = ".builtin_trusted_keys", ".secondary_trusted_keys", ".platform"
_AS_ROOT = "run as root: /proc/keys shows the keys that the reader may view"
_SEAL = "keyctl restrict_keyring %:.dm-verity"
_ENROL = (
    "boot with dm_verity.keyring_unsealed=1, then: modprobe dm_verity; keyctl padd asymmetric '' "
    f"%:.dm-verity < CERT.der; {_SEAL}"
)
_BUILD_IN = (
    "use Linux 7.0 or newer, which has .dm-verity, a kernel with the certificate built in, or add "
    "it to the machine's own keys (mokutil --import)"
)

# proc_keys_show() in security/keys/proc.c: names of types are cut after nine letters
_LINE = re.compile(
    r"^([0-9a-f]{8}) [-A-Za-z]{7} +\d+ +\w+ [0-9a-f]{8} +-?\d+ +-?\d+ (keyring|asymmetri) +(.*)$",
    re.MULTILINE,
)
# asymmetric_key_describe(): the description, then the key and the end of its identifier
_CERTIFICATE = re.compile(r"(.*): X509\.(\S+)(?: ([0-9a-f]+))? \[.*\]")

_OTHER_KERNEL = (
    "use Linux 7.0 or newer with CONFIG_CRYPTO_MLDSA, or sign with an RSA or ECDSA key "
    "(docs/signing.md)"
)


@dataclass(frozen=True, slots=True)
class Key:
    """A keyring or a certificate in ``/proc/keys``.

    Attributes:
        serial: the number of the key.
        name: of a keyring; of a certificate what it was called when it was added, which by
            default is its subject, ``: ``, and its identifier in hex.
        algorithm: such as ``rsa`` or ``ecdsa-nist-p256``; empty for a keyring.
        tail: the last bytes of the subject key identifier, in hex; empty without one.
    """

    serial: int
    name: str
    algorithm: str = ""
    tail: str = ""

    def is_of(self, certificate: x509.Certificate) -> bool:
        """Return True if the identifiers are those of the certificate; Linux shows no keys."""
        from cryptography.x509 import SubjectKeyIdentifier

        from dmsign_fast.signing.certificates import extension

        found = extension(certificate, SubjectKeyIdentifier)
        if found is None:
            number = certificate.serial_number
            serial = number.to_bytes(number.bit_length() // 8 + 1).hex()
            return not self.tail and self.name.endswith(f": {serial}")
        identifier = found.value.digest
        if not self.tail or not identifier.hex().endswith(self.tail):
            return False
        named = re.fullmatch(r".*: ([0-9a-f]+)", self.name)
        # with a name of its own only the tail is there to compare
        return not (named and named[1].endswith(self.tail)) or named[1] == identifier.hex()


@dataclass(frozen=True)
class Keyrings:
    """What could be seen of all keys.

    Attributes:
        keys: of the whole system, as far as they can be viewed.
        contents: the keys that a signature may be checked with, by the keyring they are in.
        sealed: True if .dm-verity is sealed; None if that cannot be seen, or without .dm-verity.
        unseen: why something could not be seen.
    """

    keys: tuple[Key, ...] = ()
    contents: Mapping[str, tuple[Key, ...]] | None = None
    sealed: bool | None = None
    unseen: str = ""

    def named(self, name: str) -> Key | None:
        """Return the keyring with that name."""
        return next((one for one in self.keys if one.name == name and not one.algorithm), None)


def parse_keys(text: str) -> tuple[Key, ...]:
    """Return the keyrings and certificates in the text of ``/proc/keys``."""
    found = []
    for serial, kind, rest in _LINE.findall(text):
        if kind == "keyring":
            found.append(Key(int(serial, 16), rest.rpartition(": ")[0]))
        elif certificate := _CERTIFICATE.fullmatch(rest):
            found.append(Key(int(serial, 16), certificate[1], certificate[2], certificate[3] or ""))
    return tuple(found)


def look_at_keyrings(system: System, kernel: Kernel, *, probe_seal: bool) -> Keyrings:
    """Read the keys, their keyrings and the seal; what cannot be seen is in ``unseen``.

    With ``probe_seal`` Linux is asked to restrict .dm-verity to the keys that .dm-verity vouches
    for, which it always refuses, changing nothing: with EEXIST if the keyring is sealed, else with
    EDEADLK, for a keyring must not depend on itself (``keyring_restrict()`` in
    security/keys/keyring.c).
    """
    try:
        text = system.text("/proc/keys")
    except UnseenError as error:
        return Keyrings(unseen=str(error))
    if text is None:
        return Keyrings(unseen="/proc/keys is not there")
    rings = Keyrings(parse_keys(text))
    contents, sealed, unseen = None, None, ""
    try:
        contents = {
            name: _read(system, rings, ring)
            for name in _asked(kernel)
            if (ring := rings.named(name))
        }
    except UnseenError as error:
        unseen = str(error)
    verity = rings.named(VERITY)
    if verity and kernel.parameters and kernel.parameters.get("keyring_unsealed") == "N":
        sealed = True
    elif verity and probe_seal:
        try:
            sealed = _probe(system, verity)
        except UnseenError as error:
            unseen = str(error)
    return Keyrings(rings.keys, contents, sealed, unseen)


def check_keyrings(rings: Keyrings, kernel: Kernel) -> Iterator[Finding]:
    """Check the keyrings that Linux asks, the seal of .dm-verity, and the trusted certificates."""
    if rings.named(_BUILTIN) is None:
        why = rings.unseen or "/proc/keys shows no .builtin_trusted_keys"
        yield Finding("keyrings", State.UNKNOWN, why, _AS_ROOT)
        return
    yield from _check_verity(rings, kernel)
    if rings.contents is None:
        held = [one.name for one in rings.keys if one.algorithm]
        evidence = f"in /proc/keys: {'; '.join(held) or 'none'}; {rings.unseen}"
        advice = "install keyutils and run as root, to see which keyring holds which"
        yield Finding("certificates", State.UNKNOWN if held else State.PROBLEM, evidence, advice)
        return
    for name, keys in rings.contents.items():
        listed = "; ".join(f"{key.name} ({key.algorithm})" for key in keys) or "empty"
        yield Finding(f"certificates in {name}", State.NOTE, listed)
    trusted = sum(len(keys) for name, keys in rings.contents.items() if _counts(rings, name))
    if trusted:
        yield Finding("certificates", State.OK, f"{trusted} in keyrings that are asked")
    elif rings.contents.get(VERITY) and rings.sealed is None:
        evidence = "all are in .dm-verity, which counts only when it is sealed"
        yield Finding("certificates", State.UNKNOWN, evidence, _SEAL)
    else:
        advice = _ENROL if kernel.has_keyring else _BUILD_IN
        yield Finding("certificates", State.PROBLEM, "no keyring that is asked holds any", advice)


def check_certificate(rings: Keyrings, certificate: x509.Certificate, kernel: Kernel) -> Finding:
    """Check that Linux has the certificate in a keyring that it asks, or could have it."""
    from dmsign_fast.signing.certificates import name_of
    from dmsign_fast.signing.scheme import ML_DSA

    name = f"certificate {name_of(certificate)}"
    holders = [
        ring
        for ring, keys in (rings.contents or {}).items()
        if any(key.is_of(certificate) for key in keys)
    ]
    asked = [ring for ring in holders if _counts(rings, ring)]
    if asked:
        evidence = f"in {', '.join(asked)}, by its identifier: keys do not come out of the kernel"
        return Finding(name, State.OK, evidence)
    if holders and rings.sealed is None:
        return Finding(name, State.UNKNOWN, "in .dm-verity, which may not be sealed", _SEAL)
    if holders:
        return Finding(name, State.PROBLEM, "in .dm-verity, which is not sealed", _SEAL)
    if certificate.public_key_algorithm_oid.dotted_string in ML_DSA and kernel.lacks_ml_dsa:
        evidence = "its key is of ML-DSA, which this kernel has not: it cannot be enrolled"
        return Finding(name, State.PROBLEM, evidence, _OTHER_KERNEL)
    if rings.contents is not None:
        return Finding(name, State.PROBLEM, f"in none of {', '.join(rings.contents)}", _ENROL)
    if any(key.is_of(certificate) for key in rings.keys):
        evidence = "in /proc/keys; which keyring holds it cannot be seen"
        return Finding(name, State.UNKNOWN, evidence, "install keyutils and run as root")
    return Finding(
        name, State.UNKNOWN, f"not seen: {rings.unseen or 'not in /proc/keys'}", _AS_ROOT
    )


def _asked(kernel: Kernel) -> tuple[str, ...]:
    """Return the keyrings in the order in which dm-verity asks them: dm-verity-verify-sig.c."""

    def has(name: str) -> bool:
        option = f"DM_VERITY_VERIFY_ROOTHASH_SIG_{name}_KEYRING"
        return kernel.options is None or kernel.options.get(option) == "y"

    # .secondary_trusted_keys has a link to the other, and to .machine
    first = _SECONDARY if has("SECONDARY") else _BUILTIN
    platform = (_PLATFORM,) if has("PLATFORM") else ()
    return (first, *platform, VERITY)


def _counts(rings: Keyrings, name: str) -> bool:
    """Return True if Linux asks the keyring: .dm-verity only when it is sealed."""
    return name != VERITY or rings.sealed is True


def _read(system: System, rings: Keyrings, ring: Key) -> tuple[Key, ...]:
    """Return the certificates in a keyring and in the keyrings that are linked into it."""
    by_serial = {key.serial: key for key in rings.keys}
    todo, seen = [ring], dict[int, Key]()
    while todo:
        ring = todo.pop()
        done = system.run("keyctl", "rlist", str(ring.serial))
        if done.exit_code:
            raise UnseenError(f"keyctl rlist {ring.name}: {done.last_words}")
        for word in done.out.split():
            key = by_serial.get(int(word)) if word.isdigit() else None
            if key is None or key.serial in seen:
                continue
            seen[key.serial] = key
            if not key.algorithm:
                todo.append(key)
    return tuple(key for key in seen.values() if key.algorithm)


def _probe(system: System, verity: Key) -> bool:
    serial = str(verity.serial)
    done = system.run(
        *("keyctl", "restrict_keyring", serial, "asymmetric", f"key_or_keyring:{serial}")
    )
    for words, sealed in (("File exists", True), ("deadlock", False)):
        if words in done.last_words:
            return sealed
    raise UnseenError(f"keyctl restrict_keyring: {done.last_words}")


def _check_verity(rings: Keyrings, kernel: Kernel) -> Iterator[Finding]:
    name = f"keyring {VERITY}"
    if rings.named(VERITY) is None:
        if not kernel.has_keyring:
            evidence = f"Linux {kernel.release} has none, which came with 7.0"
            yield Finding(name, State.NOTE, evidence)
        elif kernel.parameters is not None:
            advice = "use a kernel with CONFIG_DM_VERITY_VERIFY_ROOTHASH_SIG"
            yield Finding(name, State.PROBLEM, "not in /proc/keys, though dm_verity is", advice)
        else:
            evidence = "not in /proc/keys: it is there once dm_verity is loaded"
            yield Finding(name, State.PROBLEM, evidence, "modprobe dm_verity")
        return
    value = (kernel.parameters or {}).get("keyring_unsealed", "unknown")
    because = f"keyring_unsealed={value}"
    if rings.sealed:
        yield Finding(name, State.OK, f"sealed ({because})")
    elif rings.sealed is None:
        evidence = f"{because}: whether it was sealed since does not show"
        advice = f"run as root with --probe-seal; or seal it, which harms nothing: {_SEAL}"
        yield Finding(name, State.UNKNOWN, evidence, advice)
    else:
        yield Finding(name, State.PROBLEM, f"not sealed ({because}), and so not asked", _SEAL)
