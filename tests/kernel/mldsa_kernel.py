"""A small Linux with ML-DSA, which Debian's kernels lack, built once from Debian's source.

It has what opens signed dm-verity devices from an initramfs, and no modules.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from debian import Apt, UnavailableError, made_once, output_of, unpack

from .debian import CACHE, Kernel

_META = "linux-source"
_OPTIONS = """
64BIT PRINTK TTY SERIAL_8250 SERIAL_8250_CONSOLE BINFMT_ELF BINFMT_SCRIPT BLK_DEV_INITRD
PROC_FS SYSFS DEVTMPFS MULTIUSER FUTEX POSIX_TIMERS FILE_LOCKING BLOCK BLK_DEV BLK_DEV_LOOP MD
BLK_DEV_DM DM_VERITY DM_VERITY_VERIFY_ROOTHASH_SIG KEYS ASYMMETRIC_KEY_TYPE
ASYMMETRIC_PUBLIC_KEY_SUBTYPE X509_CERTIFICATE_PARSER PKCS7_MESSAGE_PARSER SYSTEM_TRUSTED_KEYRING
CRYPTO CRYPTO_RSA CRYPTO_SHA256 CRYPTO_SHA512 CRYPTO_ECDSA CRYPTO_MLDSA MISC_FILESYSTEMS EROFS_FS
"""


def mldsa_kernel() -> Kernel:
    """Return the kernel, which the cache has once it was built.

    Raises:
        UnavailableError: the source cannot be fetched, or a program to build it is missing.
    """
    root = made_once(CACHE / "mldsa", _build)
    (image,) = (root / "boot").iterdir()
    return Kernel(image.name.removeprefix("vmlinuz-"), root)


def _build(home: Path) -> None:
    """Leave the image and its configuration in the cache."""
    apt = Apt(home, "sid", "amd64")
    meta = apt("apt-cache", "show", "--no-all-versions", _META)
    package = re.search(rf"^Depends: ({_META}-\S+)", meta, re.MULTILINE)
    if not package:
        message = f"{_META} of sid names no source"
        raise UnavailableError(message)
    unpack(apt.download(package[1]), home / "unpacked")
    (archive,) = (home / "unpacked/usr/src").glob("linux-source-*.tar.xz")
    source, root = home / "source", home / "root"
    source.mkdir()
    output_of("tar", "-xf", str(archive), "--strip-components=1", "-C", str(source))
    output_of("make", "tinyconfig", cwd=source)
    enable = [word for option in _OPTIONS.split() for word in ("--enable", option)]
    output_of("scripts/config", *enable, cwd=source)
    output_of("make", "olddefconfig", cwd=source)
    output_of("make", f"-j{os.cpu_count()}", "bzImage", cwd=source)
    release = output_of("make", "-s", "kernelrelease", cwd=source).strip()
    (root / "boot").mkdir(parents=True)
    shutil.copy(source / "arch/x86/boot/bzImage", root / f"boot/vmlinuz-{release}")
    shutil.copy(source / ".config", root / "config")
    root.rename(CACHE / "mldsa")
