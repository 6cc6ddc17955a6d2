"""``export`` and ``mount --dry-run`` on the command line."""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from container_images import push_image, push_index, tars
from helpers import DMSIGN, cli, program, run, write
from images import layer
from pki import pem
from signed_images import LEAF, ROOT, STRANGER, sign

from dmsign_fast.oci.layout import Layout


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """A layout with a signed image, and certificates to trust and not to trust."""
    directory = tmp_path_factory.mktemp("export")
    store = Layout.create(directory / "layout")
    push_image(store, "v1", tars())
    sign(store, "v1")
    write(directory / "root.pem", pem(ROOT.certificate))
    write(directory / "stranger.pem", pem(STRANGER.root))
    return directory


def words(layout, trust="root"):
    return ("--oci-layout", f"{layout / 'layout'}:v1", "--trust", layout / f"{trust}.pem")


def test_json_is_the_list_of_layers_and_the_lines(layout, tmp_path):
    text = cli("export", *words(layout), tmp_path / "text")
    assert text.exit_code == 0, text.err
    done = cli("export", *words(layout), tmp_path / "json", "--output", "json")
    known = json.loads(done.out)
    listed = json.loads((tmp_path / "json/layers.json").read_text())
    assert {name: known[name] for name in listed} == listed
    assert known["directory"] == str(tmp_path / "json")
    printed = [line.strip() for line in text.out.splitlines() if line.startswith("  ")]
    as_json = [shlex.join(line) for line in known["commands"]]
    assert printed == [line.replace(f"{tmp_path}/json", f"{tmp_path}/text") for line in as_json]
    assert f"{listed['layers'][1]['root_hash']}  layer-1.erofs" in text.out


@pytest.mark.parametrize("command", ["export", "mount"])
def test_who_is_not_trusted_gets_nothing(command, layout, tmp_path):
    out = tmp_path / "out"
    more = ("--dry-run", "--cache", tmp_path / "cache") if command == "mount" else ()
    done = cli(command, *words(layout, "stranger"), out, *more)
    assert done.exit_code == 1
    assert "is valid and trusted" in done.err
    assert done.out == ""
    assert not list(tmp_path.iterdir())
    done = cli(command, *words(layout), out, "--no-dm-verity", *more)
    assert done.exit_code == 2
    assert "leave out --no-dm-verity" in done.err


def test_no_verify_is_said(layout, tmp_path):
    done = cli(
        *("export", "--oci-layout", f"{layout / 'layout'}:v1", tmp_path / "out", "--no-verify")
    )
    assert done.exit_code == 0, done.err
    assert "warning: --no-verify" in done.err
    assert json.loads((tmp_path / "out/layers.json").read_text())["verified"] is False


def test_a_directory_that_exists_is_refused_before_anything_is_fetched(tmp_path):
    (tmp_path / "out").mkdir()
    done = cli("export", "localhost:1/no/such:v1", tmp_path / "out", "--trust", "x.pem")
    assert done.exit_code == 2
    assert "out exists" in done.err


def test_an_index_wants_a_platform(layout, tmp_path):
    store = Layout(layout / "layout")
    images = [push_image(store, contents=tars(1, seed), seed=seed) for seed in (7, 8)]
    push_index(store, "all", [(images[0], "linux/amd64"), (images[1], "linux/arm64")])
    sign(store, "all", recursive=True)
    image = ("--oci-layout", f"{layout / 'layout'}:all", "--trust", layout / "root.pem")
    done = cli("export", *image, tmp_path / "out")
    assert done.exit_code == 2
    assert "--platform" in done.err
    done = cli("export", *image, tmp_path / "out", "--platform", "linux/arm64", "-o", "json")
    assert json.loads(done.out)["manifest"] == images[1].descriptor.digest


def test_a_dry_run_prints_lines_for_the_exported_files(layout, tmp_path):
    mount = ("mount", *words(layout), tmp_path / "mnt", "--cache", tmp_path / "cache", "--dry-run")
    done = cli(*mount, "--output", "json")
    assert done.exit_code == 0, done.err
    known = json.loads(done.out)
    assert "is not there yet" in done.err
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cache").mkdir()
    assert cli("export", *words(layout), known["cache"]).exit_code == 0
    text = cli(*mount)
    assert "is not there" not in text.err
    assert [shlex.split(line) for line in text.out.splitlines()] == known["commands"]
    opened = [line for line in known["commands"] if line[0] == "veritysetup"]
    assert len(opened) == 3
    for line in opened:
        _, _, data, _, hashes, root_hash, option, signature = line
        verified = run(program("veritysetup"), "verify", data, hashes, root_hash)
        assert verified.exit_code == 0, verified
        assert option == "--root-hash-signature"
        assert Path(signature).stat().st_size > 500


def test_mount_and_umount_without_a_right_to(layout, tmp_path, monkeypatch):
    done = cli("umount", tmp_path)
    assert done.exit_code == 2
    assert "has mounted nothing" in done.err
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    done = cli("mount", *words(layout), tmp_path)
    assert done.exit_code == 4
    assert "mount needs root" in done.err


def test_what_linux_does_not_open_is_closed_and_kept_in_the_cache(layout, tmp_path):
    """No kernel of a machine for tests opens it: tests/kernel has one that does."""
    if os.geteuid() != 0:
        pytest.skip("mount needs root")
    (tmp_path / "mnt").mkdir()
    options = ("--cache", tmp_path / "cache")
    done = cli("mount", *words(layout), tmp_path / "mnt", *options)
    assert done.exit_code in (1, 4)
    assert "error: " in done.err
    (kept,) = (tmp_path / "cache").iterdir()
    assert (kept / "layers.json").exists()
    done = cli("umount", tmp_path / "mnt")
    assert done.exit_code == 2
    assert "has mounted nothing" in done.err


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("target", ["veritysetup", "containerd"])
def test_export_takes_no_more_memory_than_sign_does(target, tmp_path):
    """Neither has a layer in memory: their peaks are within 32 MiB, and far below the layers."""
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", [layer(100 << 20, seed) for seed in (1, 2)])
    files = LEAF.write(tmp_path / "pki")
    anchor = write(tmp_path / "root.pem", pem(ROOT.certificate))

    def peak(command, *words):
        image = ("--oci-layout", f"{store.path}:v1", "--quiet")
        done = run(sys.executable, "-c", PEAK, *DMSIGN, command, *image, *words)
        assert done.exit_code == 0, done.err
        return int(done.out) >> 10

    signing = peak("sign", "--key", files.key, "--cert", files.chain)
    export = peak("export", tmp_path / "out", "--trust", anchor, "--for", target)
    assert export < signing + 32
    assert export < 150
