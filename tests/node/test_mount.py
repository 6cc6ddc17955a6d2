"""Layers opened and mounted, with programs that keep a record: what is opened is closed again.

The real programs, and the kernel, are those of tests/kernel.
"""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from dmsign_fast.errors import ParameterError, ProgramError, VerificationError
from dmsign_fast.node import mount as module
from dmsign_fast.node.device import OpenCommand
from dmsign_fast.node.mount import MountPoint, command_words, mount, mount_plan, unmount

PROGRAM = """#!/bin/sh
cd {state}
echo "${{0##*/}} $*" >>log
count=$(wc -l <log)
if grep -qx "$count" fail; then
    cat words >&2
    exit 4
fi
{body}
"""
PROGRAMS = {
    "veritysetup": """
case $1 in
open) [ ! -e devices/$3 ] || exit 5; : >devices/$3;;
close) rm devices/$2;;
esac""",
    # mount -t TYPE [-o ro] SOURCE [-o OPTIONS] PLACE
    "mount": """
for word; do place=$word; done
[ "$2" = erofs ] && source=$5 || source=$3
escaped=$(printf %s "$place" | sed 's/ /\\\\040/g')
printf '1 1 0:1 / %s ro - x %s ro\\n' "$escaped" "$source" >>mountinfo""",
    "umount": """
escaped=$(printf %s "$1" | sed 's/ /\\\\040/g')
grep -qF " / $escaped ro" mountinfo || exit 32
grep -vF " / $escaped ro" mountinfo >rest
mv rest mountinfo""",
}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of files: devices, a table of mounts, and programs that change both."""
    state = tmp_path / "state"
    (state / "devices").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    for name in ("log", "fail", "words", "mountinfo"):
        (state / name).touch()
    for name, body in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(PROGRAM.format(state=state, body=body))
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_RUN", tmp_path / "run")
    monkeypatch.setattr(module, "_DEVICES", state / "devices")
    monkeypatch.setattr(module, "_MOUNTS", state / "mountinfo")
    return state


def layers(where, count):
    return [
        OpenCommand(
            data=Path(f"/x/layer-{number}.erofs"),
            name=where.device(number),
            hashes=Path(f"/x/layer-{number}.verity"),
            root_hash=bytes([number % 256]) * 32,
            signature=Path(f"/x/layer-{number}.roothash.p7s"),
        )
        for number in range(count)
    ]


def log(machine):
    return [line.split() for line in (machine / "log").read_text().splitlines()]


def assert_closed(machine, tmp_path):
    assert not list((machine / "devices").iterdir())
    assert (machine / "mountinfo").read_text() == ""
    assert not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize("name", ["mnt", "a b"])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_layers_are_mounted_and_closed_in_reverse_order(count, name, machine, tmp_path):
    where = MountPoint.of(tmp_path / name)
    mount(where, layers(where, count))
    opened = [line[3] for line in log(machine) if line[:2] == ["veritysetup", "open"]]
    assert opened == [where.device(number) for number in range(count)]
    assert len((machine / "mountinfo").read_text().splitlines()) == (1 if count == 1 else count + 1)
    (machine / "log").write_text("")
    unmount(where)
    closed = [line[2] for line in log(machine) if line[:2] == ["veritysetup", "close"]]
    assert closed == opened[::-1]
    assert log(machine)[0][0] == "umount"
    assert_closed(machine, tmp_path)
    with pytest.raises(ParameterError, match="has mounted nothing"):
        unmount(where)


@pytest.mark.parametrize("step", range(1, 8))
def test_a_step_that_fails_closes_what_was_opened(step, machine, tmp_path):
    where = MountPoint.of(tmp_path / "mnt")
    (machine / "fail").write_text(f"{step}\n")
    (machine / "words").write_text("it is Tuesday\n")
    with pytest.raises(ProgramError, match="it is Tuesday"):
        mount(where, layers(where, 3))
    assert len(log(machine)) == 2 * step - 1
    assert_closed(machine, tmp_path)
    (machine / "fail").write_text("")
    mount(where, layers(where, 3))


def test_a_signature_that_linux_refuses(machine, tmp_path):
    where = MountPoint.of(tmp_path / "mnt")
    (machine / "fail").write_text("3\n")
    (machine / "words").write_text(
        "device-mapper: reload ioctl on x (254:0) failed: Required key not available\n"
    )
    with pytest.raises(VerificationError, match="ENOKEY"):
        mount(where, layers(where, 2))
    assert_closed(machine, tmp_path)


def test_an_interruption_between_two_steps(machine, tmp_path, monkeypatch):
    where = MountPoint.of(tmp_path / "mnt")
    opened = []

    def interrupted(command):
        if opened:
            raise KeyboardInterrupt
        opened.append(command)
        return real(command)

    real = module.open_device
    monkeypatch.setattr(module, "open_device", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mount(where, layers(where, 2))
    assert_closed(machine, tmp_path)


def test_what_cannot_be_closed_is_said_and_closed_later(machine, tmp_path):
    where = MountPoint.of(tmp_path / "mnt")
    # the mount of the second layer, and then the first step back
    (machine / "fail").write_text("4\n5\n")
    (machine / "words").write_text("busy\n")
    with pytest.raises(ProgramError, match=r"not all was closed again: .*umount"):
        mount(where, layers(where, 2))
    with pytest.raises(ParameterError, match="is in use: first dmsign-fast umount"):
        mount(where, layers(where, 2))
    unmount(where)
    assert_closed(machine, tmp_path)


def test_what_others_have_mounted_stays(machine, tmp_path):
    where = MountPoint.of(tmp_path / "mnt")
    theirs = f"1 1 0:1 / {where.path} rw - ext4 /dev/sda1 rw\n"
    (machine / "mountinfo").write_text(theirs)
    with pytest.raises(ParameterError, match="is a mount point already"):
        mount(where, layers(where, 2))
    with pytest.raises(ParameterError, match="has mounted nothing"):
        unmount(where)
    assert (machine / "mountinfo").read_text() == theirs
    assert not log(machine)


def test_the_lines_stack_the_last_layer_on_top(tmp_path):
    where = MountPoint.of(tmp_path / "mnt")
    lines = command_words(mount_plan(where, layers(where, 3)))
    assert [line[0] for line in lines] == [
        "mkdir",
        *(["veritysetup", "mount"] * 3),
        "mount",
    ]
    places = [line[-1] for line in lines if line[:3] == ("mount", "-t", "erofs")]
    assert all(below < above for below, above in pairwise(places))
    overlay = lines[-1]
    assert overlay[-1] == str(where.path)
    assert overlay[5] == f"ro,lowerdir={':'.join(reversed(places))}"
    with pytest.raises(ParameterError, match="500 layers are more"):
        mount_plan(where, layers(where, 500))
    assert len(mount_plan(where, layers(where, 100))) == 202


def test_each_directory_has_names_of_its_own(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "mnt")
    assert MountPoint.of(link) == MountPoint.of(tmp_path / "mnt")
    assert MountPoint.of(tmp_path / "mnt").name != MountPoint.of(tmp_path / "mnt2").name
