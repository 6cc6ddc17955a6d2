"""``doctor``, ``verity open`` and ``verity close`` as people and scripts see them."""

import json
import os
import shlex

import pki
import pytest
from helpers import cli, dmsign, noise, program, write

from dmsign_fast.errors import ProgramError

STATES = {"ok", "problem", "unknown", "note"}


@pytest.fixture
def signer():
    return pki.make_leaf(name="The Signer")


@pytest.fixture
def image(tmp_path, signer):
    """DATA with the three files beside it."""
    files = signer.write(tmp_path / "pki")
    data = write(tmp_path / "image.raw", noise(4 * 4096))
    done = cli("verity", "sign", data, "--key", files.key, "--cert", files.chain, "--quiet")
    assert done.exit_code == 0
    return data


@pytest.fixture
def cert(tmp_path, image):
    return tmp_path / "pki/leaf.pem"


class TestSignature:
    def test_accepted_is_0(self, image, cert):
        signature = image.with_suffix(".roothash.p7s")
        done = cli("doctor", "--signature", signature, "--cert", cert)
        assert done.exit_code == 0
        assert done.field("Linux") == "accepted"
        assert done.field("Signer") == "CN=The Signer"
        assert "What to do" not in done.out

    def test_refused_is_1_with_the_errno(self, image, cert):
        signature = image.with_suffix(".roothash.p7s")
        done = cli("doctor", "--signature", signature, "--cert", cert, "--root-hash", "ab" * 32)
        assert done.exit_code == 1
        assert done.field("Linux") == "refused EKEYREJECTED"
        assert "not over this root hash" in done.field("Reason")
        assert done.field("What to do")

    def test_without_certificates_it_is_4(self, image):
        signature = image.with_suffix(".roothash.p7s")
        done = cli("doctor", "--signature", signature)
        assert done.exit_code == 4
        assert done.field("Linux") == "unknown"

    def test_json(self, image, cert, tmp_path):
        signature = image.with_suffix(".roothash.p7s")
        hashed = ("--root-hash-file", image.with_suffix(".roothash"))
        options = ("--signature", signature, *hashed, "--cert", cert, "--output", "json")
        assert json.loads(cli("doctor", *options).out) == {
            "outcome": "accepted",
            "errno": "",
            "reason": "the signature is of this root hash, by a trusted key",
            "advice": "",
            "signer": "CN=The Signer",
            "needs": "",
            "stricter": "",
        }
        other = write(tmp_path / "other.pem", pki.pem(pki.make_root().certificate))
        options = ("--signature", signature, "--cert", other, "--output", "json")
        refused = json.loads(cli("doctor", *options).out)
        assert (refused["outcome"], refused["errno"]) == ("refused", "ENOKEY")

    def test_what_only_we_refuse_is_shown(self, image, tmp_path):
        old = pki.make_expired_leaf(name="Old").write(tmp_path / "old")
        signature = tmp_path / "by-old.p7s"
        pki.openssl(
            *("smime", "-sign", "-binary", "-noattr", "-md", "sha256", "-outform", "DER"),
            *("-in", str(image.with_suffix(".roothash")), "-out", str(signature)),
            *("-signer", str(old.leaf), "-inkey", str(old.key)),
            cwd=tmp_path,
        )
        hashed = ("--root-hash-file", image.with_suffix(".roothash"))
        done = cli("doctor", "--signature", signature, *hashed, "--cert", old.leaf)
        assert done.exit_code == 0
        assert "CN=Old expired" in done.field("dmsign-fast")

    @pytest.mark.parametrize(
        "options",
        [
            ("--root-hash", "00"),
            ("--signature", "x.der"),
            ("--signature", "x.p7s", "--root", "/tmp"),
            ("--signature", "x.p7s", "--probe-seal"),
            ("--root", "/tmp", "--probe-seal"),
            ("--root", "/no/such/directory"),
        ],
    )
    def test_usage_is_2(self, options):
        assert cli("doctor", *options).exit_code == 2

    def test_a_file_that_is_not_there_is_4(self, tmp_path):
        assert cli("doctor", "--signature", tmp_path / "no.p7s").exit_code == 4


class TestNode:
    def test_this_machine_as_json(self):
        done = cli("doctor", "--output", "json", "--quiet")
        value = json.loads(done.out)
        assert value["findings"]
        assert {one["state"] for one in value["findings"]} <= STATES
        assert {"name", "state", "evidence", "advice"} == set(value["findings"][0])
        assert done.exit_code == {"ok": 0, "problem": 1, "unknown": 4}[value["state"]]
        assert done.err == ""

    def test_nothing_but_this_machine_is_needed(self):
        done = dmsign("doctor", environment={"HOME": "/nonexistent", "PATH": "/nonexistent"})
        assert done.exit_code in (0, 1, 4)
        assert "Traceback" not in done.err

    def test_an_empty_root_is_4_and_says_what_it_could_not_see(self, tmp_path):
        done = cli("doctor", "--root", tmp_path)
        assert done.exit_code == 4
        lines = done.out.splitlines()
        assert any(line.startswith("unknown  kernel: ") for line in lines)
        assert any(line.startswith("         -> ") for line in lines)
        assert "could be seen" in done.err

    def test_a_problem_is_1(self, tmp_path):
        release = tmp_path / "proc/sys/kernel/osrelease"
        release.parent.mkdir(parents=True)
        release.write_text("4.19.0\n")
        done = cli("doctor", "--root", tmp_path)
        assert done.exit_code == 1
        assert "problem  kernel: Linux 4.19.0 knows no signatures" in done.out

    def test_certificates_are_looked_for(self, cert, tmp_path):
        done = cli("doctor", "--root", tmp_path / "pki", "--cert", cert)
        assert "unknown  certificate CN=The Signer: not seen" in done.out


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A veritysetup that notes its words and its environment, and says what ``said`` holds."""
    directory = tmp_path / "bin"
    directory.mkdir()
    script = f"""#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done >{tmp_path}/words
echo "$LC_ALL $DM_DISABLE_UDEV" >{tmp_path}/environment
cat {tmp_path}/said >&2
exit "$(cat {tmp_path}/status)"
"""
    (directory / "veritysetup").write_text(script)
    (directory / "veritysetup").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory), prepend=os.pathsep)
    monkeypatch.setenv("DM_DISABLE_UDEV", "1")

    def says(status=0, text=""):
        (tmp_path / "status").write_text(str(status))
        (tmp_path / "said").write_text(text)

    says()
    return says


def words(tmp_path):
    return (tmp_path / "words").read_text().splitlines()


class TestOpen:
    def test_defaults_are_what_sign_wrote(self, image, fake, tmp_path):
        done = cli("verity", "open", image, "layer0")
        assert done == type(done)(0, "/dev/mapper/layer0\n", "")
        stem = image.with_suffix("")
        assert words(tmp_path) == [
            *("open", str(image), "layer0", f"{stem}.verity"),
            *("--root-hash-file", f"{stem}.roothash"),
            *("--root-hash-signature", f"{stem}.roothash.p7s"),
        ]
        assert (tmp_path / "environment").read_text() == "C 1\n"

    def test_all_options(self, image, fake, tmp_path):
        root_hash = image.with_suffix(".roothash").read_text()
        options = ("--no-superblock", "--salt", "00FF", "--hash", "sha256", "--format", "0")
        sizes = ("--data-block-size", "512", "--hash-block-size", "1024", "--data-blocks", "3")
        signature = ("--root-hash-signature", image.with_suffix(".roothash.p7s"))
        given = (image, "x", image, root_hash, *options, *sizes, "--hash-offset", "8192")
        done = cli("verity", "open", *given, *signature, "--output", "json")
        assert done.exit_code == 0
        expected = [
            *("open", str(image), "x", str(image), root_hash, *map(str, signature)),
            *("--no-superblock", "--hash", "sha256", "--format", "0"),
            *("--data-block-size", "512", "--hash-block-size", "1024", "--data-blocks", "3"),
            *("--salt", "00ff", "--hash-offset", "8192"),
        ]
        assert words(tmp_path) == expected
        assert json.loads(done.out) == {
            "device": "/dev/mapper/x",
            "command": ["veritysetup", *expected],
        }

    def test_a_dry_run_prints_what_a_shell_takes_and_runs_nothing(self, fake, tmp_path):
        """It reads nothing either: the files may be on another machine."""
        done = cli("verity", "open", "my data.raw", "n", "--dry-run", "--hash-offset", "512")
        assert done.exit_code == 0
        assert shlex.split(done.out) == [
            *("veritysetup", "open", "my data.raw", "n", "my data.verity"),
            *("--root-hash-file", "my data.roothash"),
            *("--root-hash-signature", "my data.roothash.p7s", "--hash-offset", "512"),
        ]
        assert not (tmp_path / "words").exists()
        value = json.loads(
            cli("verity", "open", "d", "n", "--unsigned", "--dry-run", "--output", "json").out
        )
        assert value == {
            "command": [
                *("veritysetup", "open", "d", "n", "d.verity"),
                *("--root-hash-file", "d.roothash"),
            ]
        }

    def test_no_name_is_an_option(self):
        done = cli("verity", "open", "--dry-run", "./-d", "n", "./-h")
        assert shlex.split(done.out)[2:5] == ["./-d", "n", "./-h"]

    def test_veritysetup_takes_these_words(self, image):
        """The real one: here it comes as far as device-mapper, or even opens the device."""
        program("veritysetup")
        options = ("--no-superblock", "--salt", "-", "--data-blocks", "4", "--hash-offset", "4096")
        for more in ((), options):
            done = dmsign("verity", "open", image, "dmsign-fast-test", *more)
            assert "unknown option" not in done.err
            assert "Usage" not in done.err
            if done.exit_code == 0:
                assert cli("verity", "close", "dmsign-fast-test").exit_code == 0
            else:
                assert done.exit_code in (1, 4)

    def test_a_signature_that_linux_would_refuse_is_not_tried(self, image, fake, tmp_path):
        root_hash = "ab" * 32
        done = cli("verity", "open", image, "x", image.with_suffix(".verity"), root_hash)
        assert done.exit_code == 1
        assert "EKEYREJECTED: the signature is not over this root hash" in done.err
        signature = write(tmp_path / "text.p7s", b"-----BEGIN PKCS7-----\n")
        done = cli("verity", "open", image, "x", "--root-hash-signature", signature)
        assert done.exit_code == 1
        assert "EBADMSG" in done.err
        assert not (tmp_path / "words").exists()

    @pytest.mark.parametrize(
        ("status", "said", "exit_code", "expected"),
        [
            (4, "failed: Required key not available\n", 1, ("ENOKEY", "doctor", "not sealed")),
            (4, "failed: Key was rejected by service\n", 1, ("EKEYREJECTED", "its key")),
            (4, "failed: Bad message\n", 1, ("EBADMSG",)),
            (4, "failed: Package not installed\n", 1, ("ENOPKG", "algorithm")),
            (4, "failed: Invalid argument\n", 4, ("exit status 4", "Invalid argument")),
            (2, "failed: Required key not available yet\n", 4, ("exit status 2",)),
            (1, "Cannot initialize device-mapper.\n", 4, ("exit status 1", "device-mapper")),
            (5, "", 4, ("exit status 5", "nothing")),
        ],
    )
    def test_what_veritysetup_says_is_explained(
        self, status, said, exit_code, expected, image, fake
    ):
        where = "device-mapper: reload ioctl on x (254:0) " if said.startswith("failed") else ""
        fake(status, where + said)
        done = cli("verity", "open", image, "x")
        assert done.exit_code == exit_code
        assert done.out == ""
        for word in expected:
            assert word in done.err

    @pytest.mark.parametrize(
        "options",
        [("--no-superblock",), ("--unsigned", "--root-hash-signature", "x"), ("--salt", "x")],
    )
    def test_usage_is_2(self, options, fake, image):
        assert cli("verity", "open", image, "x", *options).exit_code == 2

    def test_a_missing_signature_is_an_error(self, image, fake, tmp_path):
        image.with_suffix(".roothash.p7s").unlink()
        done = cli("verity", "open", image, "x")
        assert done.exit_code == 4
        assert "image.roothash.p7s" in done.err
        assert cli("verity", "open", image, "x", "--unsigned").exit_code == 0
        assert "--root-hash-signature" not in words(tmp_path)

    def test_a_missing_program_is_an_error(self, image, monkeypatch):
        def nothing(*arguments, **options):
            raise ProgramError("cannot run veritysetup: not found")

        monkeypatch.setattr("dmsign_fast.node.device.run_program", nothing)
        assert cli("verity", "open", image, "x").exit_code == 4


class TestClose:
    def test_closing(self, fake, tmp_path):
        done = cli("verity", "close", "layer0")
        assert done == type(done)(0, "", "")
        assert words(tmp_path) == ["close", "layer0"]
        done = cli("verity", "close", "layer0", "--output", "json")
        assert json.loads(done.out) == {"closed": "layer0"}

    def test_what_is_not_open_is_4(self, fake):
        fake(4, "Device layer0 is not active.\n")
        done = cli("verity", "close", "layer0")
        assert done.exit_code == 4
        assert "Device layer0 is not active." in done.err
