"""What people and scripts read: help, veritysetup's words, and JSON."""

import json
import re
import uuid

import pytest
from helpers import Done, cli, flip, noise, write
from pki import make_leaf, make_root

COMMANDS = ("format", "verify", "dump", "sign")
HEADER = {
    "uuid",
    "hash_type",
    "data_blocks",
    "data_block_size",
    "hash_blocks",
    "hash_block_size",
    "hash_algorithm",
    "salt",
    "hash_offset",
    "hash_area_end",
}
WORK = {"bytes", "seconds"}
VERIFIED = {"verified", "root_hash", "computed_root_hash", "data_blocks", "bad"} | WORK


@pytest.fixture
def data(tmp_path):
    return write(tmp_path / "data", noise(300 * 4096))


def parsed(done):
    """The JSON object that is all of standard output."""
    value = json.loads(done.out)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_every_option_explained(command):
    done = cli("verity", command, "--help")
    assert done.exit_code == 0
    assert "examples:\n  " in done.out
    assert f"dmsign-fast verity {command} " in done.out.partition("examples:")[2]
    assert "--output {text,json}" in done.out


def test_help_names_commands_and_exit_statuses():
    main, group = cli("--help"), cli("verity", "--help")
    for status in (0, 1, 2, 3, 4, 5, 70, 130):
        assert f"\n  {status} " in main.out
    for command in COMMANDS:
        assert re.search(rf"^    {command}\s", group.out, re.MULTILINE)


def test_examples_of_sign_name_the_files_that_sign_writes():
    text = cli("verity", "sign", "--help").out
    assert "veritysetup open image.erofs NAME image.erofs.verity" in text


@pytest.mark.parametrize("more", [(), ("--output", "text"), ("--verbose",)])
def test_the_root_hash_can_be_grepped(more, data, tmp_path):
    done = cli("verity", "format", data, tmp_path / "hashes", "--salt", "-", *more)
    lines = [line for line in done.out.splitlines() if line.startswith("Root hash:")]
    assert len(lines) == 1
    assert len(lines[0].split()) == 3
    assert len(bytes.fromhex(lines[0].split()[2])) == 32


def test_the_summary_goes_to_standard_error_unless_quiet(data):
    done = cli("verity", "format", data)
    assert done.err.startswith("hashed 1228800 bytes in ")
    assert "GB/s" in done.err
    assert cli("verity", "format", data, "--quiet") == Done(0, "", "")


def test_format_as_json(data, tmp_path):
    identity = str(uuid.uuid4())
    options = ("--salt", "00ff", "--uuid", identity, "--hash-offset", "4096")
    done = cli("verity", "format", data, tmp_path / "hashes", *options, "--output", "json")
    value = parsed(done)
    assert set(value) == HEADER | WORK | {"root_hash"}
    assert value | {"seconds": 0, "root_hash": ""} == {
        "uuid": identity,
        "hash_type": 1,
        "data_blocks": 300,
        "data_block_size": 4096,
        "hash_blocks": 4,
        "hash_block_size": 4096,
        "hash_algorithm": "sha256",
        "salt": "00ff",
        "hash_offset": 4096,
        "hash_area_end": 4096 + 5 * 4096,
        "bytes": 1228800,
        "seconds": 0,
        "root_hash": "",
    }
    text = cli("verity", "format", data, "--salt", "00ff")
    assert text.root_hash.hex() == value["root_hash"]


def test_format_without_a_superblock_has_no_uuid(data):
    for more in ((), ("--no-superblock",)):
        assert parsed(cli("verity", "format", data, *more, "--output", "json"))["uuid"] is None


def test_dump_as_json_is_what_format_said(data, tmp_path):
    made = parsed(cli("verity", "format", data, tmp_path / "hashes", "--output", "json"))
    dumped = parsed(cli("verity", "dump", tmp_path / "hashes", "--output", "json"))
    assert set(dumped) == HEADER
    assert dumped == {name: made[name] for name in HEADER}


def test_verify_as_json(data, tmp_path):
    root_hash = cli("verity", "format", data, tmp_path / "hashes").root_hash.hex()
    command = ("verity", "verify", data, tmp_path / "hashes", root_hash, "--output", "json")
    value = parsed(cli(*command))
    assert set(value) == VERIFIED
    assert (value["verified"], value["bad"], value["data_blocks"]) == (True, [], 300)
    assert value["root_hash"] == value["computed_root_hash"] == root_hash

    flip(data, 5000)
    flip(data, 10_000)
    flip(tmp_path / "hashes", 4096 * 4 + 1)
    done = cli(*command)
    assert done.exit_code == 1
    value = parsed(done)
    assert not value["verified"]
    assert value["bad"] == [
        {
            "kind": "data",
            "level": None,
            "reason": "digest",
            "first_block": 1,
            "blocks": 2,
            "offset": 4096,
            "size": 8192,
        },
        {
            "kind": "hash",
            "level": 0,
            "reason": "digest",
            "first_block": 2,
            "blocks": 1,
            "offset": 16384,
            "size": 4096,
        },
    ]


def test_sign_as_json(data, tmp_path):
    files = make_leaf(make_root()).write(tmp_path / "pki")
    done = cli(
        *("verity", "sign", data, "--key", files.key, "--cert", files.chain, "--output", "json")
    )
    value = parsed(done)
    names = {"root_hash", "hash_file", "root_hash_file", "signature_file", "signer"}
    assert set(value) == HEADER | WORK | names | {"verity_sig_file"}
    assert value["verity_sig_file"] is None, "without --verity-sig-json"
    assert value["hash_file"] == f"{data}.verity"
    assert value["root_hash_file"] == f"{data}.roothash"
    assert value["signature_file"] == f"{data}.roothash.p7s"
    assert value["signer"] == "CN=Test Signer"
    verified = parsed(
        cli(
            *("verity", "verify", data, value["hash_file"], value["root_hash"]),
            *("--signature", value["signature_file"], "--cert", files.root, "--output", "json"),
        )
    )
    assert set(verified) == VERIFIED | {"signature"}
    assert verified["signature"]["signer"]["subject"] == "CN=Test Signer"


@pytest.mark.parametrize("output", ["json"])
def test_errors_are_json_too(output, data, tmp_path):
    missing = tmp_path / "missing"
    for exit_code, kind, command in (
        (4, "StorageError", ("format", missing)),
        (4, "StorageError", ("verify", missing, missing, "00" * 32)),
        (3, "FormatError", ("dump", data)),
        (2, "ParameterError", ("format", data, "--salt", "00" * 257)),
        (2, "ParameterError", ("verify", data, data)),
        (4, "StorageError", ("sign", data, "--key", missing, "--cert", missing)),
    ):
        done = cli("verity", *command, "--output", output)
        error = parsed(done)["error"]
        assert set(error) == {"type", "message", "exit_code"}
        assert (error["type"], error["exit_code"]) == (kind, exit_code)
        assert done.exit_code == exit_code
        assert done.err == f"dmsign-fast: error: {error['message']}\n"


def test_corruption_is_one_json_object_and_not_two(data, tmp_path):
    cli("verity", "format", data, tmp_path / "hashes")
    command = ("verity", "verify", data, tmp_path / "hashes", "00" * 32, "--output", "json")
    assert set(parsed(cli(*command))) == VERIFIED


def test_options_may_stand_between_the_arguments_as_in_veritysetup(data):
    hash_file = f"{data}.hash"
    made = cli("verity", "format", data, "--salt", "00", hash_file, "--output", "json")
    root_hash = parsed(made)["root_hash"]
    for arguments in (
        (data, hash_file, "--debug", root_hash),
        (data, "--debug", hash_file, root_hash),
        ("--debug", data, hash_file, root_hash),
    ):
        assert cli("verity", "verify", *arguments).exit_code == 0
    assert cli("verity", "verify", data, hash_file, root_hash, "more").exit_code == 2
