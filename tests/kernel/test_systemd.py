"""A machine with systemd: it takes exported files by their names, and gives Linux the signature."""

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
mount --make-rshared / &&
mkdir -p /mnt/signed /mnt/stranger /mnt/bare /mnt/disk /var/lib/extensions
"""


_SERVICE = """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardOutput=file:/tmp/{name}
ExecStart=/usr/bin/hello
"""
_ROOT_IMAGE = """\
RootImage=/files/{image}.raw
RootImagePolicy=root=signed
MountAPIVFS=yes
"""
_STEPS = """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/busybox sh /steps_run
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""
_GUEST = {
    "etc/os-release": "ID=guest\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/passwd": "root:x:0:0::/:/bin/sh\nmessagebus:x:100:100::/:/bin/false\n",
    "etc/group": "root:x:0:\nmessagebus:x:100:\n",
    "etc/systemd/system/steps.service": _STEPS,
    # what else would be started before the bus
    **{
        f"etc/systemd/system/{name}.d/alone.conf": "[Unit]\nDefaultDependencies=no\n"
        for name in ("dbus.socket", "dbus.service", "systemd-portabled.service")
    },
}


def _extension(name: str, hello: bytes) -> dict[str, bytes]:
    release = f"usr/lib/extension-release.d/extension-release.{name}"
    return {"usr/bin/hello": hello, release: b"ID=_any\n"}


def _application(name: str, hello: bytes) -> dict[str, bytes]:
    """A root file system with places for what systemd mounts there."""
    places = ("dev", "proc", "run", "sys", "tmp", "var/tmp")
    return {
        "usr/bin/hello": hello,
        "usr/lib/os-release": f"ID=app\nPORTABLE_PREFIXES={name}\n".encode(),
        f"usr/lib/systemd/system/{name}.service": _SERVICE.format(name=name).encode(),
        **{f"etc/{file}": b"" for file in ("machine-id", "resolv.conf")},
        **{f"{place}/empty": b"" for place in places},
    }


class _Files:
    """Images below ``files`` of the guest, by the key that is in .dm-verity and by another."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tree = directory / "guest"
        copy_systemd(self.tree)
        self.files = self.tree / "files"
        self.files.mkdir()
        self.leaf = pki.make_leaf(pki.make_root("Layers Root"), "Layers", key="RSA-2048")
        self.stranger = pki.make_leaf(pki.make_root("Strange Root"), "Stranger", key="RSA-2048")
        self.hello = make_hello(directory / "hello")
        for name, text in _GUEST.items():
            self.put(name, text)
        # portable services want it, and it would hide what steps_run has there
        (self.tree / "etc/systemd/system/tmp.mount").symlink_to("/dev/null")

    def put(self, name: str, text: str) -> None:
        place = self.tree / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def image(self, name: str, content: dict[str, bytes], entity: pki.Entity) -> None:
        """A signed image of one layer as ``NAME.raw``, by ``export --for systemd``."""
        keys = entity.write(self._directory / f"keys-{name}")
        layout = self._directory / f"layout-{name}"
        with Layout.create(layout) as store:
            push_image(store, "v1", [make_tar(content)])
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
        tar.write_bytes(make_tar({"bin/hello": self.hello, "lib/os-release": b"ID=guest\n"}))
        ok("layer", "convert", tar, "--out", image, "--verity", "none")
        disk = Disk(self._directory / "repart", "usr", image.read_bytes(), signature=False)
        signed = sign_data(disk, "usr", keys, self._directory / "signed")
        shutil.copy(disk.path, self.files)
        for suffix in (".usrhash", ".usrhash.p7s"):
            shutil.copy(signed.with_suffix(suffix), self.files)


def _dissect(policy: str, image: str, place: str) -> str:
    """The line that mounts an image; where Linux refuses that, it would ask for a passphrase."""
    return f"systemd-dissect --mount --image-policy={policy}:=ignore {image} {place}"


def _sysext(verb: str) -> str:
    return f"systemd-sysext --no-reload {verb} --image-policy=root=signed:=ignore"


def _judge(directory: Path) -> dict[str, Told]:
    programs()
    linux = pinned_kernel()
    files = _Files(directory)
    for name, content, entity in (
        ("signed", _extension, files.leaf),
        ("stranger", _extension, files.stranger),
        ("app", _application, files.leaf),
        ("strange", _application, files.stranger),
    ):
        files.image(name, content(name, files.hello), entity)
    for name in ("app", "strange"):
        service = _SERVICE.format(name=f"root-{name}") + _ROOT_IMAGE.format(image=name)
        files.put(f"etc/systemd/system/root-{name}.service", service)
    files.disk(files.leaf)
    certificate = files.files / "stranger.crt"
    certificate.write_bytes(pki.pem(files.stranger.certificate))
    extensions = "/var/lib/extensions"
    portable = "portablectl attach --runtime --profile=trusted /files"
    steps = [
        Step("prepare", _PREPARE),
        Step("dissect", _dissect("root=signed", "signed.raw", "/mnt/signed")),
        Step("program", "/mnt/signed/usr/bin/hello && dmsetup table"),
        Step(
            "no-signature",
            "for name in raw verity roothash; do cp signed.$name bare.$name; done; "
            + _dissect("root=signed", "bare.raw", "/mnt/bare"),
        ),
        Step("sysext", f"cp signed.* {extensions} && {_sysext('merge')}"),
        Step("extended", "/usr/bin/hello && dmsetup table"),
        Step("unmerge", f"{_sysext('unmerge')} && rm {extensions}/*; ls /usr/bin"),
        Step("strange-sysext", f"cp stranger.* {extensions} && {_sysext('merge')}"),
        Step("usr", _dissect("usr=verity", "disk.raw", "/mnt/disk")),
        Step("usr-program", "/mnt/disk/usr/bin/hello && dmsetup table"),
        Step("root-image", "systemctl start root-app && cat /tmp/root-app"),
        Step("strange-root-image", "systemctl start root-strange"),
        Step(
            "portable",
            f"systemctl start dbus.socket && {portable}/app.raw && systemctl start app && "
            "cat /tmp/app",
        ),
        Step("strange-portable", f"{portable}/strange.raw && systemctl start strange"),
        Step(
            "verity.d",
            "mkdir -p /etc/verity.d && cp stranger.crt /etc/verity.d && "
            + _dissect("root=signed", "stranger.raw", "/mnt/stranger"),
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
        machine=("-m", "1024"),
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


@pytest.mark.parametrize("step", ["root-image", "portable"])
def test_a_service_runs_in_a_signed_image(step, told):
    assert (told[step].status, told[step].said[-1]) == (0, "hello"), told[step]


@pytest.mark.parametrize("step", ["strange-sysext", "strange-root-image", "strange-portable"])
def test_a_key_that_nobody_knows_is_refused(step, told):
    assert told[step].status != 0
    assert "verity: Root hash verification failed (-ENOKEY)" in told[step].log


def test_a_certificate_in_etc_verity_d_is_enough_for_systemd(told):
    """It verifies the signature itself then, and Linux is given none: require_signatures=0."""
    hello, table = told["verity.d-program"].said
    assert hello == "hello"
    assert BY_SIGNATURE not in table
    assert "verity: Root hash verification failed (-ENOKEY)" in told["verity.d"].log
