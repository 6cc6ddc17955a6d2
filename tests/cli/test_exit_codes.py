"""Every kind of failure has its exit status and one line that says what to do."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers import DMSIGN, Done, cli, dmsign, flip, noise, program, run, write
from pki import make_expired_leaf, make_leaf, make_root

from dmsign_fast import errors

ROOT = "00" * 32


@pytest.fixture
def image(tmp_path):
    """The arguments of a verify that is good: DATA, HASH and ROOT_HASH."""
    data = write(tmp_path / "data", noise(300 * 4096))
    made = cli("verity", "format", data, tmp_path / "hashes")
    return data, tmp_path / "hashes", made.root_hash.hex()


def assert_fails(done, exit_code, *words):
    assert done.exit_code == exit_code, done
    assert "Traceback" not in done.err
    lines = done.err.splitlines()
    assert lines[-1].startswith("dmsign-fast")
    assert ": error: " in lines[-1]
    for word in words:
        assert word in lines[-1]
    assert "Root hash:" not in done.out


def test_done_and_verified_is_0(image):
    assert cli("verity", "verify", *image).exit_code == 0
    assert cli("verity", "dump", image[1]).exit_code == 0


def test_corrupt_data_is_1(image):
    flip(image[0], 5000)
    assert_fails(cli("verity", "verify", *image), 1, "1 data block(s)", "0 hash block(s)")


def test_a_corrupt_hash_area_is_1(image):
    flip(image[1], 9000)
    assert_fails(cli("verity", "verify", *image), 1, "0 data block(s)", "1 hash block(s)")


def test_a_wrong_root_hash_is_1(image):
    assert_fails(cli("verity", "verify", *image[:2], ROOT), 1, "the root hash is wrong")


def test_missing_data_is_1(image):
    os.truncate(image[0], 4096)
    assert_fails(cli("verity", "verify", *image), 1, "299 data block(s)", "0 hash block(s)")


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--no-such-option",),
        ("verity",),
        ("verity", "format"),
        ("verity", "format", "data", "--salt", "xyz"),
        ("verity", "format", "data", "--salt", "abc"),
        ("verity", "format", "data", "--salt", "00" * 257),
        ("verity", "format", "data", "--hash", "sha257"),
        ("verity", "format", "data", "--format", "2"),
        ("verity", "format", "data", "--data-block-size", "4095"),
        ("verity", "format", "data", "--data-block-size", "0"),
        ("verity", "format", "data", "--data-block-size", "-4096"),
        ("verity", "format", "data", "--hash-block-size", "1048576"),
        ("verity", "format", "data", "--hash-block-size", "4k"),
        ("verity", "format", "data", "--uuid", "not-a-uuid"),
        ("verity", "format", "data", "hashes2", "--hash-offset", "100"),
        ("verity", "format", "data", "hashes2", "--hash-offset", "9223372036854775808"),
        ("verity", "format", "data", "hashes2", "--hash-offset", "9" * 30),
        ("verity", "format", "data", "hashes2", "--hash-offset", "512", "--no-superblock"),
        ("verity", "format", "data", "data"),
        ("verity", "format", "data", "data", "--hash-offset", "4096"),
        ("verity", "format", "data", "--threads", "4294967296"),
        ("verity", "format", "data", "--threads", "-1"),
        ("verity", "format", "data", "--output", "xml"),
        ("verity", "verify", "data", "hashes"),
        ("verity", "verify", "data", "hashes", "00"),
        ("verity", "verify", "data", "hashes", "xyz"),
        ("verity", "verify", "data", "hashes", ROOT, "--no-superblock"),
        ("verity", "verify", "data", "hashes", ROOT, "--signature", "s"),
        ("verity", "verify", "data", "hashes", ROOT, "--cert", "c"),
        ("verity", "verify", "data", "hashes", ROOT, "--hash-offset", "100"),
        ("verity", "verify", "data", "hashes", "--root-hash-file", "data"),
        ("verity", "dump", "hashes", "--hash-offset", "1"),
        ("verity", "sign", "data"),
        ("verity", "sign", "data", "--key", "k", "--cert", "c", "--digest", "sha1"),
        ("verity", "sign", "-", "--key", "k", "--cert", "c"),
    ],
    ids=" ".join,
)
@pytest.mark.usefixtures("image")
def test_usage_is_2_and_changes_nothing(wrong, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert_fails(cli(*wrong), 2)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_format_of_too_many_data_blocks_fails(image):
    assert_fails(cli("verity", "format", image[0], "--data-blocks", "301"), 4, "fewer than 301")


@pytest.mark.parametrize("name", ["hash", "root_hash"])
def test_an_output_that_is_the_data_is_2(name, tmp_path):
    data = write(tmp_path / "data", noise(8192))
    hashes = data if name == "hash" else tmp_path / "hashes"
    root_hash = data if name == "root_hash" else tmp_path / "root"
    done = cli("verity", "format", data, hashes, "--root-hash-file", root_hash)
    assert_fails(done, 2)
    assert data.read_bytes() == noise(8192)
    assert list(tmp_path.iterdir()) == [data]


def test_outputs_that_are_one_file_are_2(tmp_path):
    data = write(tmp_path / "data", noise(8192))
    same = tmp_path / "same"
    assert_fails(cli("verity", "format", data, same, "--root-hash-file", same), 2)
    assert list(tmp_path.iterdir()) == [data]


@pytest.mark.parametrize("content", [b"", noise(100), noise(4096), bytes(4096)])
def test_what_is_no_superblock_is_3(content, image, tmp_path):
    path = write(tmp_path / "other", content)
    assert_fails(cli("verity", "dump", path), 3, "--hash-offset right?")
    assert_fails(cli("verity", "verify", image[0], path, ROOT), 3, "--hash-offset right?")


def test_a_superblock_of_another_algorithm_is_3(image):
    with image[1].open("r+b") as file:
        file.seek(32)
        file.write(b"sha256\0!")
    assert_fails(cli("verity", "dump", image[1]), 3, "corrupt")


def test_a_hash_area_that_ends_early_is_3(image):
    os.truncate(image[1], 8192)
    assert_fails(cli("verity", "verify", *image), 3, "cut short")


def test_a_hash_offset_beyond_the_end_is_3(image):
    done = cli("verity", "dump", image[1], "--hash-offset", 1 << 40)
    assert_fails(done, 3, "cut short, 0 of 512")


@pytest.mark.parametrize("bad", ["key", "cert", "signature", "anchor"])
def test_what_is_no_key_certificate_or_signature_is_3(bad, image, tmp_path):
    files = make_leaf(make_root()).write(tmp_path / "pki")
    junk = write(tmp_path / "junk", b"junk")
    key, cert = (junk if bad == name else path for name, path in _key_and_chain(files))
    sign = cli("verity", "sign", image[0], "--key", key, "--cert", cert)
    if bad in ("key", "cert"):
        assert_fails(sign, 3, "junk is not a")
        return
    assert sign.exit_code == 0
    signature = junk if bad == "signature" else tmp_path / "data.roothash.p7s"
    verify = cli(
        *("verity", "verify", image[0], tmp_path / "data.verity"),
        *("--root-hash-file", tmp_path / "data.roothash", "--signature", signature),
        *("--cert", junk if bad == "anchor" else files.root),
    )
    assert_fails(verify, 3)


def _key_and_chain(files):
    return (("key", files.key), ("cert", files.chain))


def test_what_cannot_be_read_or_written_is_4(image, tmp_path):
    missing = tmp_path / "missing"
    assert_fails(cli("verity", "format", missing), 4, "cannot read", "missing: No such file")
    assert_fails(cli("verity", "format", tmp_path), 4, "Is a directory")
    assert_fails(cli("verity", "dump", missing), 4)
    assert_fails(cli("verity", "verify", missing, *image[1:]), 4)
    assert_fails(cli("verity", "verify", image[0], missing, ROOT), 4)
    assert_fails(cli("verity", "verify", *image[:2], "--root-hash-file", missing), 4)
    assert_fails(cli("verity", "format", image[0], missing / "x"), 4, "cannot write")
    assert_fails(cli("verity", "format", image[0], image[1], "--root-hash-file", missing / "x"), 4)
    assert_fails(cli("verity", "format", image[0], tmp_path), 4, "cannot write")
    assert cli("verity", "verify", *image).exit_code == 0


def test_a_missing_signature_or_anchor_is_4(image, tmp_path):
    files = make_leaf(make_root()).write(tmp_path / "pki")
    missing = tmp_path / "missing"
    for names in ((missing, files.root), (files.root, missing)):
        done = cli("verity", "verify", *image, "--signature", names[0], "--cert", names[1])
        assert_fails(done, 4, "missing")


def test_keys_and_certificates_that_cannot_sign_are_5(tmp_path):
    data = write(tmp_path / "data", noise(8192))
    root = make_root()
    leaf, other = make_leaf(root), make_leaf(root, "Other Signer")
    good, another = leaf.write(tmp_path / "good"), other.write(tmp_path / "other")
    expired = make_expired_leaf(root).write(tmp_path / "expired")
    before = sorted(tmp_path.iterdir())
    sign = ("verity", "sign", data)
    wrong_key = cli(*sign, "--key", good.key, "--cert", another.chain)
    assert_fails(wrong_key, 5, "wrong key for the certificate")
    assert_fails(cli(*sign, "--key", expired.key, "--cert", expired.chain), 5, "expired on")
    digest = cli(*sign, "--key", good.key, "--cert", good.chain, "--digest", "sha512")
    assert digest.exit_code in (2, 5)
    assert sorted(tmp_path.iterdir()) == before


def test_an_error_of_ours_has_one_status_each():
    codes = {
        "VerificationError": 1,
        "CorruptionError": 1,
        "UnrepairedError": 1,
        "ParameterError": 2,
        "FormatError": 3,
        "StorageError": 4,
        "NotFoundError": 4,
        "ProgramError": 4,
        "SigningError": 5,
        "RegistryError": 6,
        "AttachError": 6,
        "UnsignedError": 7,
        "DmsignError": 70,
    }
    assert {name: getattr(errors, name).exit_code for name in errors.__all__} == codes


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_bug_is_70_and_asks_for_a_report(output, image, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("by design")

    monkeypatch.setattr("dmsign_fast.verity.verify.read_superblock", fail)
    done = cli("verity", "dump", image[1], "--output", output)
    assert_fails(done, 70, "a bug, please report it", "by design")


def test_too_little_memory_is_4(image, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("dmsign_fast.verity.verify.read_superblock", fail)
    assert_fails(cli("verity", "dump", image[1]), 4, "out of memory")


@pytest.mark.parametrize("number", range(3))
def test_a_traceback_is_shown_when_asked_for_only(number, image, tmp_path):
    command = [
        ("verity", "format", tmp_path / "missing"),
        ("verity", "dump", image[0]),
        ("verity", "verify", *image[:2], ROOT),
    ][number]
    assert "Traceback" not in cli(*command).err
    assert "Traceback (most recent call last)" in cli(*command, "--debug").err


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (1, ("verity", "dump", "HASH")),
        (1, ("verity", "dump", "HASH", "--output", "json")),
        (1, ("sign", "--help")),
        (1, ("verity", "dump", "--output", "json")),
        (2, ("verity", "dump")),
        (2, ("verity", "dump", "nothing")),
    ],
)
def test_whoever_writes_to_a_reader_that_left_ends_quietly(stream, words, image):
    read, write_end = os.pipe()
    os.close(read)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    streams["stdout" if stream == 1 else "stderr"] = write_end
    command = [str(image[1]) if word == "HASH" else word for word in words]
    done = subprocess.run([*DMSIGN, *command], timeout=60, check=False, **streams)
    os.close(write_end)
    assert done.returncode == 141
    assert not done.stdout
    assert b"Traceback" not in (done.stderr or b"")
    assert b"Exception" not in (done.stderr or b"")
    assert b"cannot write" not in (done.stderr or b"")


@pytest.mark.parametrize("output", ["text", "json"])
def test_standard_output_that_is_full_is_4(output, image):
    with Path("/dev/full").open("w") as full:
        script = [*DMSIGN, "verity", "dump", image[1], "--output", output]
        done = _run_to(full, script)
    assert_fails(done, 4, "No space left on device")
    assert len(done.err.splitlines()) == 1


def _run_to(stdout, script):
    done = subprocess.run(script, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False)
    return Done(done.returncode, "", done.stderr.decode())


def test_standard_output_that_is_closed_is_no_bug(image):
    done = run(program("bash"), "-c", '"$@" >&-', "_", *DMSIGN, "verity", "dump", image[1])
    assert done.exit_code in (0, 4), done.err
    assert "a bug" not in done.err


def test_names_that_are_no_text_are_no_bug(tmp_path):
    data = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n\xe9"))
    write(data, noise(8192))
    strict = {"PYTHONIOENCODING": "utf-8:strict"}  # as in every locale but C
    for output in ("text", "json"):
        done = dmsign(
            *("verity", "format", data, f"{data}.hash", "--output", output),
            environment=strict,
        )
        assert done.exit_code == 0, done.err
    missing = dmsign("verity", "format", f"{data}2", environment=strict)
    assert missing.exit_code == 4
