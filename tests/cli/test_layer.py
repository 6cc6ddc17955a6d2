"""``dmsign-fast layer``: text, JSON, exit statuses and messages."""

import gzip
import json
import os
import signal
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from cli.layer_commands import COMMANDS, fails, node, sha256
from erofs.tar_maker import header
from erofs_layers.twins import file, filled, image_of, tar_of, tree_of
from helpers import DMSIGN, cli, dmsign, has_read, veritysetup, wait_until, write
from helpers import program as installed

from dmsign_fast.erofs.recipe import RECIPES, Recipe

LAYER = {
    "layer",
    "root_hash",
    "digest",
    "diff_id",
    "size",
    "uncompressed_size",
    "compression",
    "recipe",
    "layout",
    "mkfs_version",
    "uuid",
    "image_size",
    "inodes",
    "data_blocks",
    "data_block_size",
    "hash_block_size",
    "salt",
}
WORK = {"bytes", "seconds"}
FILES = {"image", "hash_file", "hash_offset", "sidecar"}
WRONG = "sha256:" + "00" * 32


# help


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_names_the_recipes(command):
    done = cli("layer", command, "--help")
    assert done.exit_code == 0
    text = "".join(done.out.split())
    assert "examples:\n  " in done.out
    assert f"dmsign-fast layer {command} " in done.out.partition("examples:")[2]
    for recipe in RECIPES:
        assert recipe.name in text
    for option in ("--recipe", "--allow-lossy", "--memory", "--max-layer-size", "--converter"):
        assert option in text
    for line in done.out.splitlines():
        assert len(line) <= 100


def test_help_of_the_group():
    assert all(f"    {command} " in cli("layer", "--help").out for command in COMMANDS)
    assert "layer" in cli("--help").out
    assert cli("layer").exit_code == 2


# root hashes


@pytest.mark.parametrize("version", ["1.8.6", "1.9.4"])
@pytest.mark.parametrize("name", [recipe.name for recipe in RECIPES])
def test_lines_as_of_sha256sum(name, version, layers):
    done = cli("layer", "roothash", *layers, "--recipe", f"{name}@{version}")
    wanted = [f"{node(path.read_bytes(), name, version)}  {path}" for path in layers]
    assert done.out.splitlines() == wanted
    assert done.exit_code == 0
    total = sum(path.stat().st_size for path in layers)
    assert done.err.startswith(f"hashed {total} bytes in ")
    quiet = cli("layer", "roothash", *layers, "--recipe", f"{name}@{version}", "--quiet")
    assert (quiet.out, quiet.err, quiet.exit_code) == ("", "", 0)


def test_the_default_is_containerd_with_the_newest_mkfs_erofs(layers):
    done = cli("layer", "roothash", layers[1])
    assert done.out.split()[0] == node(layers[1].read_bytes())


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_several_layers_at_a_time_come_in_their_order(jobs, layers):
    many = [*layers, *reversed(layers), layers[1]]
    done = cli("layer", "roothash", *many, "--jobs", jobs, "--memory", "100")
    wanted = {path: node(path.read_bytes()) for path in layers}
    assert done.out.splitlines() == [f"{wanted[path]}  {path}" for path in many]


def test_roothash_as_json(layers, tar):
    done = cli("layer", "roothash", *layers, "--output", "json", "--quiet")
    value = json.loads(done.out)
    assert set(value) == {"layers"} | WORK
    assert all(set(layer) == LAYER for layer in value["layers"])
    assert value["bytes"] == sum(path.stat().st_size for path in layers)
    first, second, _ = value["layers"]
    image = image_of(tar, Recipe.parse("containerd"), first["uuid"])
    assert first == {
        "layer": str(layers[0]),
        "root_hash": node(tar),
        "digest": sha256(tar),
        "diff_id": None,
        "size": len(tar),
        "uncompressed_size": len(tar),
        "compression": "none",
        "recipe": "containerd",
        "layout": "full",
        "mkfs_version": "1.9.4",
        "uuid": str(Recipe.parse("containerd").image_uuid(digest=sha256(tar), diff_id=None)),
        "image_size": len(image),
        "inodes": first["inodes"],
        "data_blocks": len(image) // 4096,
        "data_block_size": 4096,
        "hash_block_size": 4096,
        "salt": "00" * 32,
    }
    assert first["inodes"] > 50
    assert (second["compression"], second["inodes"]) == ("gzip", 2)
    assert second["uncompressed_size"] > second["size"]


def test_json_of_a_native_layer(tar, tmp_path):
    image = write(tmp_path / "image", image_of(tar, Recipe.parse("containerd"), UUID(int=1)))
    done = cli("layer", "roothash", image, "--recipe", "osguard", "--output", "json")
    (layer,) = json.loads(done.out)["layers"]
    assert set(layer) == LAYER
    unknown = ("uuid", "layout", "mkfs_version", "inodes", "digest")
    assert [layer[name] for name in unknown] == [None] * 5
    params = Recipe.parse("osguard").params
    assert layer["root_hash"] == tree_of(image.read_bytes(), params)[0].hex()


@pytest.mark.parametrize("command", COMMANDS)
def test_standard_input(command, layers, tmp_path):
    more = ("-o", tmp_path / "out") if command == "convert" else ()
    packed = layers[1].read_bytes()
    done = dmsign("layer", command, "-", *more, "--digest", sha256(packed), input=packed)
    assert done.exit_code == 0, done.err
    assert node(packed) in done.out.split()


def test_standard_input_and_files(layers):
    done = dmsign(
        *("layer", "roothash", layers[0], "-", "--jobs", "2"),
        input=layers[1].read_bytes(),
    )
    assert done.out.splitlines()[1] == f"{node(layers[1].read_bytes())}  -"
    fails(dmsign("layer", "roothash", "-", "-", input=b""), 2, "standard input can be only one")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_while_standard_input_says_nothing(jobs, layers):
    process = subprocess.Popen(
        [*DMSIGN, "layer", "roothash", "-", layers[0], "--jobs", str(jobs)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdin.write(b"x")
        process.stdin.flush()
        wait_until(lambda: has_read(process), "the first byte")
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.returncode == 130
        assert process.stderr.read() == b"dmsign-fast: error: interrupted, nothing was written\n"


def test_a_name_that_is_no_text(tar, tmp_path):
    path = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.tar")), tar)
    for output in ("text", "json"):
        done = dmsign("layer", "roothash", path, "--output", output)
        assert done.exit_code == 0, done.err
        assert f"{path}" in done.out or output == "json"


# what a layer should be


def test_a_digest_for_each_layer(layers):
    contents = [path.read_bytes() for path in layers]
    good = [word for data in contents for word in ("--digest", sha256(data))]
    assert cli("layer", "roothash", *layers, *good).exit_code == 0
    plain = [contents[0], gzip.decompress(contents[1]), contents[2]]
    ids = [word for data in plain for word in ("--diff-id", sha256(data))]
    done = cli("layer", "roothash", *layers, *good, *ids, "--output", "json")
    found = [(one["digest"], one["diff_id"]) for one in json.loads(done.out)["layers"]]
    assert found == [(sha256(a), sha256(b)) for a, b in zip(contents, plain, strict=True)]


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("option", ["--digest", "--diff-id"])
@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_wrong_digest_is_1_and_names_the_layer(bad, option, jobs, layers):
    contents = [path.read_bytes() for path in layers]
    if option == "--diff-id":
        contents[1] = gzip.decompress(contents[1])
    digests = [sha256(data) for data in contents]
    digests[bad] = WRONG
    words = [word for digest in digests for word in (option, digest)]
    done = cli("layer", "roothash", *layers, *words, "--jobs", jobs)
    fails(done, 1, f"{layers[bad]}: the di", WRONG)


def test_digests_and_layers_that_do_not_match_in_number(layers):
    for option in ("--digest", "--diff-id"):
        done = cli("layer", "roothash", *layers, option, WRONG)
        fails(done, 2, f"{option} was given 1 times for 3 layers")


def test_a_convert_of_a_wrong_layer(layers, tmp_path):
    for option in ("--digest", "--diff-id"):
        done = cli("layer", "convert", layers[0], "-o", tmp_path / "out", option, WRONG)
        fails(done, 1, "should be sha256:0000")
    assert sorted(tmp_path.iterdir()) == sorted(layers)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--digest", "ab" * 32), "is not a digest: give sha256:"),
        (("--diff-id", "sha256:x"), "is not a diff id: give sha256:"),
        (("--recipe", "docker"), "containerd, containerd-cache, containerd-tar-index, osguard"),
        (("--recipe", "osguard@1.7"), "1.8.6, 1.8.8-1.8.10, 1.9.1, 1.9.2, 1.9.3-1.9.4"),
        (("--recipe", "osguard@"), "1.8.6, 1.8.8-1.8.10, 1.9.1, 1.9.2, 1.9.3-1.9.4"),
        (("--layout", "tar"), "invalid choice"),
        (("--uuid", "12345"), "'12345' is not a UUID"),
        (("--data-block-size", "1000"), "data block size 1000 is not supported"),
        (("--hash-block-size", "32"), "hash block size 32 is not supported"),
        (("--salt", "xyz"), "xyz"),
        (("--threads", "300"), "300 threads"),
        (("--memory", "1X"), "'1X' is not a size"),
        (("--memory", "-1"), "'-1' is not a size"),
        (("--max-layer-size", ""), "'' is not a size"),
        (("--max-layer-size", "10K"), "larger than 10240 bytes, the limit of --max-layer-size"),
        (("--converter", "other"), "invalid choice"),
        (("--mkfs-erofs", "/bin/true"), "--converter mkfs or both"),
        (("--mkfs-options=-zlz4",), "--converter mkfs or both"),
        (("--converter", "both", "--mkfs-options=-zlz4"), "cannot agree"),
        (("--no-such-option",), "unknown option --no-such-option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_usage_is_2(wrong, words, command, layers, tmp_path):
    more = ("-o", tmp_path / "out") if command == "convert" else ()
    fails(cli("layer", command, layers[0], *more, *wrong), 2, words)
    assert sorted(tmp_path.iterdir()) == sorted(layers)


def test_arguments_that_are_missing(layers):
    assert cli("layer", "roothash").exit_code == 2
    assert cli("layer", "convert").exit_code == 2
    assert cli("layer", "convert", layers[0]).exit_code == 2
    assert cli("layer", "convert", *layers, "-o", "out").exit_code == 2


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_bad_layer_is_named(jobs, layers, tmp_path):
    sparse = write(tmp_path / "sparse", tar_of(header(b"x/sparse", b"S")))
    cut = write(tmp_path / "cut", layers[1].read_bytes()[:-10])
    missing = tmp_path / "missing"
    for bad, exit_code, words in (
        (sparse, 3, f"{sparse}: the entry 'x/sparse' at byte 0 of the tar cannot be converted"),
        (cut, 3, f"{cut}: the layer ends within gzip data"),
        (missing, 4, f"{missing}: No such file"),
        (tmp_path, 4, "Is a directory"),
    ):
        done = cli("layer", "roothash", layers[0], bad, layers[2], "--jobs", jobs)
        fails(done, exit_code, words)


def test_errors_as_json(layers, tmp_path):
    done = cli("layer", "roothash", layers[0], "--digest", WRONG, "--output", "json")
    error = json.loads(done.out)["error"]
    assert (done.exit_code, error["exit_code"], error["type"]) == (1, 1, "VerificationError")
    missing = cli("layer", "convert", tmp_path / "no", "-o", tmp_path / "x", "--output", "json")
    assert json.loads(missing.out)["error"]["type"] == "StorageError"


def test_what_a_node_loses(tmp_path):
    tar = tar_of(header(b"sparse", b"S"), file(b"f", b"x"))
    path = write(tmp_path / "layer", tar)
    fails(cli("layer", "roothash", path), 3, "GNU sparse file: mkfs.erofs drops it")
    done = cli("layer", "roothash", path, "--allow-lossy")
    assert done.out.split()[0] == node(tar)


# convert


@pytest.mark.parametrize("verity", ["append", "separate", "none"])
def test_what_convert_prints(verity, tar, layers, tmp_path):
    out = tmp_path / "new.erofs"
    command = ("layer", "convert", layers[0], "-o", out, "--verity", verity)
    done = cli(*command)
    assert done.exit_code == 0, done.err
    assert done.root_hash.hex() == node(tar)
    assert done.field("Image") == str(out)
    blocks = int(done.field("Data blocks"))
    assert done.field("Data block size") == "4096"
    assert done.err.startswith(f"converted {len(tar)} bytes in ")
    value = json.loads(cli(*command, "--output", "json", "--quiet").out)
    assert set(value) == LAYER | FILES | WORK
    assert value["root_hash"] == node(tar)
    assert value["data_blocks"] == blocks
    hash_file = {"append": out, "separate": f"{out}.verity", "none": None}[verity]
    assert value["hash_file"] == (str(hash_file) if hash_file else None)
    assert value["sidecar"] == (f"{out}.dmverity" if verity == "append" else None)
    offset = blocks * 4096 if verity == "append" else 0
    assert value["hash_offset"] == offset
    assert ("Hash offset" in done.out) == (verity != "none")
    if hash_file:
        assert done.field("Hash offset") == str(offset)
        done = veritysetup(
            "verify", out, hash_file, node(tar), *(["--hash-offset", offset] if offset else [])
        )
        assert done.exit_code == 0, done.err
    else:
        image = image_of(tar, Recipe.parse("containerd"), value["uuid"])
        assert out.read_bytes() == filled(image, 4096)


def test_convert_refuses_its_input(layers, tmp_path):
    before = layers[0].read_bytes()
    fails(cli("layer", "convert", layers[0], "-o", layers[0]), 2, "would overwrite")
    assert layers[0].read_bytes() == before
    fails(cli("layer", "convert", layers[0], "-o", tmp_path), 4, "Is a directory")
    fails(cli("layer", "convert", layers[0], "-o", tmp_path / "no" / "x"), 4, "No such file")


def test_options_may_stand_anywhere(layers):
    wanted = cli("layer", "roothash", *layers, "--recipe", "osguard", "--jobs", "2").out
    done = cli("layer", "roothash", "--recipe", "osguard", layers[0], "--jobs", "2", *layers[1:])
    assert done.out == wanted


def test_the_example_with_a_pipe(layers):
    script = 'cat "$1" | "${@:3}" layer roothash - --digest "$2" --recipe osguard'
    packed = layers[1].read_bytes()
    done = subprocess.run(
        [installed("bash"), "-c", script, "_", layers[1], sha256(packed), *DMSIGN],
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == f"{node(packed, 'osguard')}  -\n"
