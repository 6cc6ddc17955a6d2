"""``verity status``, and the options of ``verity open`` that change how the kernel reads."""

import json
import os

import pytest
from helpers import cli, veritysetup

from dmsign_fast.errors import ParameterError
from dmsign_fast.node.device import OPEN_FLAGS, OpenCommand

# as veritysetup 2.6.1 prints it
STATUS = """\
/dev/mapper/layer0 is active and is in use.
  type:        VERITY
  status:      verified
  hash type:   1
  data block:  4096
  hash name:   sha256
  data device: /dev/loop0
  data loop:   /srv/a: b.erofs
  mode:        readonly
  root hash:   abcd
"""


@pytest.fixture
def says(tmp_path, monkeypatch):
    """A veritysetup that says what it is told to, and notes its words."""

    def tell(out="", err="", status=0):
        (tmp_path / "out").write_text(out)
        (tmp_path / "err").write_text(err)
        script = f"""#!/bin/sh
echo "$@" >{tmp_path}/words
cat {tmp_path}/out
cat {tmp_path}/err >&2
exit {status}
"""
        (tmp_path / "veritysetup").write_text(script)
        (tmp_path / "veritysetup").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    return tell


def test_the_status_of_an_open_device(says, tmp_path):
    says(STATUS)
    done = cli("verity", "status", "layer0")
    assert done.exit_code == 0, done.err
    assert done.field("root hash") == "abcd"
    assert done.field("data loop") == "/srv/a: b.erofs"
    assert (tmp_path / "words").read_text() == "status layer0\n"
    value = json.loads(cli("verity", "status", "layer0", "--output", "json").out)
    assert (value["name"], value["status"], value["root_hash"]) == ("layer0", "verified", "abcd")


@pytest.mark.parametrize("status", ["corrupted", "verified, or not"])
def test_a_device_with_a_corrupt_block_is_1(says, status):
    says(STATUS.replace("verified", status))
    done = cli("verity", "status", "layer0")
    assert done.exit_code == 1
    assert f"layer0 is {status}" in done.err
    done = cli("verity", "status", "layer0", "--output", "json")
    assert (done.exit_code, json.loads(done.out)["status"]) == (1, status)


def test_what_has_no_status_is_not_verified(says):
    says("/dev/mapper/layer0 is active.\n")
    assert cli("verity", "status", "layer0").exit_code == 1


def test_a_device_that_is_not_open_is_4(says):
    says("/dev/mapper/layer0 is inactive.\n", status=4)
    done = cli("verity", "status", "layer0")
    assert done.exit_code == 4
    assert "is inactive" in done.err


def test_the_real_veritysetup_knows_no_such_device():
    """By its own text, or for want of device-mapper."""
    done = cli("verity", "status", "dmsign-fast-nothing")
    assert done.exit_code == 4, done.out
    assert "veritysetup status: exit status" in done.err


@pytest.mark.parametrize("flag", OPEN_FLAGS)
def test_options_are_passed_on(flag):
    done = cli("verity", "open", "d", "n", "--unsigned", "--dry-run", flag)
    assert done.exit_code == 0, done.err
    assert done.out.split()[-1] == flag


def test_several_options_are_passed_on_once():
    given = ("--shared", "--check-at-most-once", "--shared")
    done = cli("verity", "open", "d", "n", "--dry-run", *given)
    assert done.out.split()[-2:] == ["--shared", "--check-at-most-once"]


@pytest.mark.parametrize("flag", [one for one in OPEN_FLAGS if one != "--shared"])
def test_veritysetup_knows_the_options(flag):
    """The 2.6.1 of Debian 12 has no --shared yet."""
    assert f" {flag} " in veritysetup("--help").out


def test_only_one_answer_to_corruption():
    flags = [flag for flag in OPEN_FLAGS if flag.endswith("-corruption")]
    assert len(flags) == 3
    assert cli("verity", "open", "d", "n", "--unsigned", "--dry-run", *flags[:2]).exit_code == 2


def test_corruption_is_not_ignored_beside_a_signature(says, tmp_path):
    says()
    for more in ((), ("--dry-run",), ("--root-hash-signature", "d.p7s")):
        done = cli("verity", "open", "d", "n", "--ignore-corruption", *more)
        assert done.exit_code == 2
        assert "any contents as signed" in done.err
    assert not (tmp_path / "words").exists()
    with pytest.raises(ParameterError, match="--unsigned"):
        OpenCommand("d", "n", "h", bytes(32), "s", flags=("--ignore-corruption",))
