"""The kernel of a node: its release, options and dm-verity."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dmsign_fast.node.findings import Finding, State
from dmsign_fast.node.system import System, UnseenError

__all__ = ["PARAMETERS", "Kernel", "check_kernel", "look_at_kernel", "parse_options"]

_MODULE = "/sys/module/dm_verity"
PARAMETERS = f"{_MODULE}/parameters"
_FIRST_WITH_SIGNATURES = (5, 4)
_FIRST_WITH_KEYRING = (7, 0)

# Options without which Linux refuses no unsigned device, and what fails without them (Kconfig).
_NEEDED = {
    "DM_VERITY": "there is no dm-verity",
    "DM_VERITY_VERIFY_ROOTHASH_SIG": "signatures of root hashes are not verified",
    "SYSTEM_TRUSTED_KEYRING": "there is no trusted keyring",
    "SYSTEM_DATA_VERIFICATION": "PKCS#7 signatures cannot be verified",
    "ASYMMETRIC_PUBLIC_KEY_SUBTYPE": "public keys cannot be used",
    "X509_CERTIFICATE_PARSER": "certificates cannot be loaded",
    "PKCS7_MESSAGE_PARSER": "signatures cannot be parsed: ENOPKG",
    "CRYPTO_SHA256": "hash trees and signatures with SHA-256 fail",
    "EROFS_FS": "EROFS images, and so converted layers, cannot be mounted",
}
_WANTED = {
    "DM_VERITY_VERIFY_ROOTHASH_SIG_SECONDARY_KEYRING": ".secondary_trusted_keys is not asked",
    "DM_VERITY_VERIFY_ROOTHASH_SIG_PLATFORM_KEYRING": ".platform is not asked",
    "SECONDARY_TRUSTED_KEYRING": "there is no .secondary_trusted_keys",
    "INTEGRITY_PLATFORM_KEYRING": "there is no .platform",
    "CRYPTO_RSA": "RSA keys fail",
    "CRYPTO_ECDSA": "ECDSA keys fail",
    "CRYPTO_MLDSA": (
        "ML-DSA keys cannot be enrolled, and their signatures fail: ENOKEY, or ENOENT where such a "
        "certificate is embedded; ENOPKG before Linux 7.0"
    ),
    "CRYPTO_SHA512": "signatures with SHA-384 and SHA-512 fail",
    "EROFS_FS_ZIP": "compressed EROFS images cannot be mounted",
    "EROFS_FS_BACKED_BY_FILE": "EROFS images need loop devices",
    "BLK_DEV_LOOP": "image files cannot become devices",
    "SECURITY_IPE": "there is no IPE to ask for signatures by policy",
    "IPE_PROP_DM_VERITY": "IPE has no dmverity_roothash",
    "IPE_PROP_DM_VERITY_SIGNATURE": "IPE has no dmverity_signature",
}
_OPTION = re.compile(r"^(?:CONFIG_(\w+)=(\S+)|# CONFIG_(\w+) is not set)$", re.MULTILINE)


@dataclass(frozen=True)
class Kernel:
    """What could be seen.

    Attributes:
        release: as uname has it, or empty.
        options: value by name without ``CONFIG_``, ``n`` if it is not set; None if unknown.
        source: the file with the options.
        parameters: of the module dm_verity; None if it is not loaded or cannot be seen.
        unseen: why something could not be seen.
    """

    release: str = ""
    options: Mapping[str, str] | None = None
    source: str = ""
    parameters: Mapping[str, str] | None = None
    unseen: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_keyring(self) -> bool:
        """True if this release has the keyring .dm-verity, or if the release is unknown."""
        version = _version(self.release)
        return version is None or version >= _FIRST_WITH_KEYRING

    @property
    def lacks_ml_dsa(self) -> bool:
        """True if this kernel cannot verify ML-DSA; False too if that is unknown."""
        return self.options is not None and self.options.get("CRYPTO_MLDSA", "n") not in ("y", "m")


def parse_options(text: str) -> dict[str, str]:
    """Return the options in a kernel configuration, ``n`` for those that are not set."""
    return {one[1] or one[3]: one[2] or "n" for one in _OPTION.finditer(text)}


def look_at_kernel(system: System) -> Kernel:
    """Read all that the checks need; what cannot be read is in ``unseen``."""
    unseen: dict[str, str] = {}
    release, source = "", ""
    options: dict[str, str] | None = None
    parameters: dict[str, str] | None = None
    try:
        release = _release(system)
    except UnseenError as error:
        unseen["release"] = str(error)
    try:
        source, options = _options(system, release)
    except UnseenError as error:
        unseen["options"] = str(error)
    try:
        parameters = _parameters(system)
    except UnseenError as error:
        unseen["module"] = str(error)
    return Kernel(release, options, source, parameters, unseen)


def check_kernel(kernel: Kernel) -> Iterator[Finding]:
    """Check release, options and module."""
    yield _check_release(kernel)
    if kernel.options is None:
        advice = "install the configuration of the kernel, or load the module configs"
        yield Finding("options", State.UNKNOWN, kernel.unseen["options"], advice)
    else:
        yield from _check_options(kernel.options, kernel.source)
    yield _check_module(kernel)


def _version(release: str) -> tuple[int, ...] | None:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else None


def _release(system: System) -> str:
    if release := system.text("/proc/sys/kernel/osrelease"):
        return release
    installed = system.names("/lib/modules") or ()
    if len(installed) == 1:
        return installed[0]
    raise UnseenError(
        f"no /proc/sys/kernel/osrelease, and {len(installed)} kernels in /lib/modules"
    )


def _options(system: System, release: str) -> tuple[str, dict[str, str]]:
    places = ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config")
    for place in places:
        contents = system.read(place)
        if contents is None:
            continue
        try:
            text = gzip.decompress(contents) if place.endswith(".gz") else contents
        except (OSError, EOFError) as error:
            raise UnseenError(f"{place} cannot be unpacked: {error}") from None
        if options := parse_options(text.decode(errors="replace")):
            return place, options
        raise UnseenError(f"{place} is no configuration of a kernel")
    raise UnseenError(f"none of {', '.join(places)} is there")


def _parameters(system: System) -> dict[str, str] | None:
    if system.names("/sys/module") is None:
        raise UnseenError("/sys is not there")
    if system.names(_MODULE) is None:
        return None
    names = system.names(PARAMETERS) or ()
    return {name: system.text(f"{PARAMETERS}/{name}") or "" for name in names}


def _check_release(kernel: Kernel) -> Finding:
    version = _version(kernel.release)
    if version is None:
        why = kernel.unseen.get("release") or f"{kernel.release!r} is no release"
        return Finding("kernel", State.UNKNOWN, why, "run on the node itself, or mount its /proc")
    if version < _FIRST_WITH_SIGNATURES:
        advice = "use 5.4 or newer; 7.0 or newer has the keyring .dm-verity"
        return Finding(
            "kernel", State.PROBLEM, f"Linux {kernel.release} knows no signatures", advice
        )
    return Finding("kernel", State.OK, f"Linux {kernel.release}")


def _check_options(options: Mapping[str, str], source: str) -> Iterator[Finding]:
    for table, otherwise in ((_NEEDED, State.PROBLEM), (_WANTED, State.NOTE)):
        for name, without in table.items():
            value = options.get(name, "n")
            if value in ("y", "m"):
                yield Finding(f"CONFIG_{name}", State.OK, f"{value} in {source}")
            else:
                advice = "use a kernel with it" if otherwise is State.PROBLEM else ""
                evidence = f"not set in {source}: {without}"
                yield Finding(f"CONFIG_{name}", otherwise, evidence, advice)
    families = ("CRYPTO_RSA", "CRYPTO_ECDSA", "CRYPTO_MLDSA")
    if not {"y", "m"} & {options.get(name) for name in families}:
        yield Finding("keys", State.PROBLEM, "no RSA, ECDSA or ML-DSA", "use a kernel with one")


def _check_module(kernel: Kernel) -> Finding:
    name = "module dm_verity"
    if "module" in kernel.unseen:
        return Finding(name, State.UNKNOWN, kernel.unseen["module"], "run on the node itself")
    if kernel.parameters is None:
        return Finding(name, State.PROBLEM, f"no {_MODULE}: not loaded", "modprobe dm_verity")
    values = " ".join(f"{one}={value}" for one, value in kernel.parameters.items())
    return Finding(name, State.OK, f"loaded: {values or 'no parameters'}")
