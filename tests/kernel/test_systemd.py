"""systemd in a machine: it takes exported files by their names, and passes the signature to Linux.

Without udev and without systemd as the first process: so not RootImage= of services, nor portable
services, which read the same files by the same functions.
"""

import shlex
import shutil
from pathlib import Path

import pki
import pytest
from container_images import push_image
from systemd_disks import Disk, sign_data
from systemd_programs import copy_systemd

from dmsign_fast.oci.layout import Layout
from kernel.debian import pinned_kernel
from kernel.guest import programs
from kernel.ipe_files import ok
from kernel.steps import Step, Told, make_hello, make_tar, run_steps, told_once

_PREPARE = """\
mount -t tmpfs -o mode=755 run /run && mount --make-rshared / &&
mkdir -p /usr/bin /mnt/signed /mnt/stranger /mnt/bare /mnt/disk /var/lib/extensions
"""


def _release(name: str) -> dict[str, bytes]:
    return {f"usr/lib/extension-release.d/extension-release.{name}": b"ID=_any\n"}


class _Files:
    """Images below ``files`` of the guest, by the key that is in .dm-verity and by another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tree = directory / "guest"
        self.files = self.tree / "files"
        self.files.mkdir(parents=True)
        self.leaf = pki.make_leaf(pki.make_root("Layers Root"), "Layers", key="RSA-2048")
        self.stranger = pki.make_leaf(pki.make_root("Strange Root"), "Stranger", key="RSA-2048")
        self._hello = make_hello(directory / "hello")
        self.loader = shlex.join(
            copy_systemd(self.tree / "systemd", "systemd-dissect", "systemd-sysext")
        )
        release = b"ID=guest\nVERSION_ID=1\n"
        for place in ("etc", "usr/lib"):
            (self.tree / place).mkdir(parents=True)
            (self.tree / place / "os-release").write_bytes(release)

    def extension(self, name: str, entity: pki.Entity) -> None:
        """A signed image of one layer as ``NAME.raw``, by ``export --for systemd``."""
        keys = entity.write(self._directory / f"keys-{name}")
        layout = self._directory / f"layout-{name}"
        with Layout.create(layout) as store:
            push_image(store, "v1", [make_tar({"usr/bin/hello": self._hello, **_release(name)})])
        reference = ("--oci-layout", f"{layout}:v1")
        ok("sign", *reference, "--key", keys.key, "--cert", keys.chain)
        out = self._directory / f"out-{name}"
        ok("export", *reference, "--trust", keys.root, out, "--for", "systemd")
        for file in out.glob("layer-0*"):
            shutil.copy(file, self.files / file.name.replace("layer-0", name))

    def disk(self, entity: pki.Entity) -> None:
        """A disk of systemd-repart with a ``/usr``, and beside it the names with ``.usrhash``."""
        keys = entity.write(self._directory / "keys-disk")
        tar, image = self._directory / "usr.tar", self._directory / "usr.erofs"
        tar.write_bytes(make_tar({"bin/hello": self._hello, "lib/os-release": b"ID=guest\n"}))
        ok("layer", "convert", tar, "--out", image, "--verity", "none")
        disk = Disk(self._directory / "repart", "usr", image.read_bytes(), signature=False)
        signed = sign_data(disk, "usr", keys, self._directory / "signed")
        shutil.copy(disk.path, self.files)
        for suffix in (".usrhash", ".usrhash.p7s"):
            shutil.copy(signed.with_suffix(suffix), self.files)

    def dissect(self, policy: str, image: str, place: str) -> str:
        """The line that mounts an image; it must not wait for a passphrase."""
        words = f"--mount --image-policy={policy}:=ignore {image} {place}"
        return f"timeout 60 {self.loader} /systemd/systemd-dissect {words} </dev/null"

    def sysext(self, verb: str) -> str:
        words = f"--no-reload {verb} --image-policy=root=signed:=ignore"
        return f"{self.loader} /systemd/systemd-sysext {words}"


def _judge(directory: Path) -> dict[str, Told]:
    programs()
    linux = pinned_kernel()
    files = _Files(directory)
    files.extension("signed", files.leaf)
    files.extension("stranger", files.stranger)
    files.disk(files.leaf)
    certificate = files.files / "stranger.crt"
    certificate.write_bytes(pki.pem(files.stranger.certificate))
    extensions = "/var/lib/extensions"
    steps = [
        Step("prepare", _PREPARE),
        Step("dissect", files.dissect("root=signed", "signed.raw", "/mnt/signed")),
        Step("program", "/mnt/signed/usr/bin/hello && dmsetup table"),
        Step(
            "no-signature",
            "for name in raw verity roothash; do cp signed.$name bare.$name; done; "
            + files.dissect("root=signed", "bare.raw", "/mnt/bare"),
        ),
        Step("stranger", files.dissect("root=signed", "stranger.raw", "/mnt/stranger")),
        Step("sysext", f"cp signed.* {extensions} && {files.sysext('merge')}"),
        Step("extended", "/usr/bin/hello && dmsetup table"),
        Step("unmerge", f"{files.sysext('unmerge')} && rm {extensions}/*; ls /usr/bin"),
        Step("strange-sysext", f"cp stranger.* {extensions} && {files.sysext('merge')}"),
        Step("usr", files.dissect("usr=verity", "disk.raw", "/mnt/disk")),
        Step("usr-program", "/mnt/disk/usr/bin/hello && dmsetup table"),
        Step(
            "verity.d",
            "mkdir -p /etc/verity.d && cp stranger.crt /etc/verity.d && "
            + files.dissect("root=signed", "stranger.raw", "/mnt/stranger"),
        ),
        Step(
            "verity.d-program",
            "/mnt/stranger/usr/bin/hello && dmsetup table | grep $(cat stranger.roothash)",
        ),
    ]
    return run_steps(
        files.tree,
        linux,
        steps,
        "dm_verity.require_signatures=0",
        certificates={"layers": pki.der(files.leaf.root)},
        machine=(),
    )


@pytest.fixture(scope="session")
def told(tmp_path_factory) -> dict[str, Told]:
    return told_once(tmp_path_factory, "systemd", _judge)


BY_SIGNATURE = "root_hash_sig_key_desc"  # in the table of a device whose signature Linux was given


@pytest.mark.parametrize("step", ["prepare", "dissect", "sysext", "unmerge", "usr", "verity.d"])
def test_what_must_work(step, told):
    assert told[step].status == 0, told[step]


@pytest.mark.parametrize(("step", "devices"), [("program", 1), ("extended", 2), ("usr-program", 2)])
def test_linux_is_given_the_signature_and_the_program_runs(step, devices, told):
    first, *tables = told[step].said
    assert first == "hello"
    assert len(tables) == devices
    assert all(BY_SIGNATURE in table for table in tables)


def test_the_extension_is_gone_with_unmerge(told):
    assert "hello" not in told["unmerge"].said


def test_without_a_signature_the_policy_refuses(told):
    assert told["no-signature"].status != 0
    assert "does not match image policy" in told["no-signature"].text


@pytest.mark.parametrize("step", ["stranger", "strange-sysext"])
def test_a_key_that_nobody_knows_is_refused(step, told):
    assert told[step].status != 0
    assert "verity: Root hash verification failed (-ENOKEY)" in told[step].log


def test_a_certificate_in_etc_verity_d_is_enough_for_systemd(told):
    """It verifies the signature itself then, and Linux is given none: require_signatures=0."""
    hello, table = told["verity.d-program"].said
    assert hello == "hello"
    assert BY_SIGNATURE not in table
    assert "verity: Root hash verification failed (-ENOKEY)" in told["verity.d"].log
