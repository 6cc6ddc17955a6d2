"""What systemd's own programs say to the names and the JSON that we write for them."""

import json

import pytest
from container_images import push_image, tars
from helpers import cli, noise, write
from pki import make_leaf, openssl, pem
from signed_images import ROOT, sign
from systemd_disks import BLOCK, TYPES, Disk, sign_data
from systemd_programs import newer_systemd, systemd

from dmsign_fast.oci.layout import Layout


def protections(image, partition="root", programs=systemd):
    """How the image's file system is protected, as systemd-dissect sees it."""
    found = set()
    for protection in ("signed", "verity", "unprotected"):
        policy = f"--image-policy={partition}={protection}:=ignore"
        done = programs("systemd-dissect", "--validate", policy, image)
        if done.exit_code == 0:
            assert done.out == "OK\n"
            found.add(protection)
        else:
            assert "does not match image policy" in done.err
    return found


def test_systemd_dissect_takes_exported_layers_for_signed(tmp_path):
    store = Layout.create(tmp_path / "layout")
    push_image(store, "v1", tars(2))
    sign(store, "v1")
    anchor = write(tmp_path / "root.pem", pem(ROOT.certificate))
    out = tmp_path / "out"
    image = ("--oci-layout", f"{store.path}:v1")
    done = cli("export", *image, out, "--trust", anchor, "--for", "systemd", "--quiet")
    assert done.exit_code == 0, done.err
    for number in range(2):
        assert protections(out / f"layer-{number}.raw") == {"signed"}
    (out / "layer-0.roothash.p7s").unlink()
    assert protections(out / "layer-0.raw") == {"verity"}
    (out / "layer-1.roothash").unlink()
    assert protections(out / "layer-1.raw") == {"unprotected"}


@pytest.fixture
def files(tmp_path):
    return make_leaf(None, "self-signed", key="RSA-2048").write(tmp_path / "pki")


@pytest.mark.parametrize("partition", list(TYPES))
def test_the_json_is_what_systemd_repart_puts_into_a_partition(partition, files, tmp_path):
    key = (f"--private-key={files.key}", f"--certificate={files.chain}")
    disk = Disk(tmp_path / "repart", partition, noise(64 * BLOCK), *key)
    ours = sign_data(disk, partition, files, tmp_path / "ours")
    root_hash = f"{partition}hash"
    suffixes = ("raw", "verity", root_hash, f"{root_hash}.p7s", "verity-sig.json")
    assert {path.name for path in ours.parent.iterdir()} == {f"disk.{one}" for one in suffixes}
    theirs = disk.signature
    assert ours.with_suffix(".verity-sig.json").read_bytes() == theirs
    assert ours.with_suffix(f".{root_hash}").read_text() == json.loads(theirs)["rootHash"]


@pytest.mark.parametrize("partition", list(TYPES))
def test_systemd_repart_joins_our_signature_to_its_disk(partition, files, tmp_path):
    """So the key is never where the disk is made: systemd 258 and newer."""
    kind = f"{partition}-verity-sig"
    defer = f"--defer-partitions={kind}"
    content = noise(64 * BLOCK)
    disk = Disk(tmp_path / "repart", partition, content, defer, programs=newer_systemd)
    assert "signed" not in protections(disk.path, partition, newer_systemd)
    ours = sign_data(disk, partition, files, tmp_path / "ours")
    root_hash = ours.with_suffix(f".{partition}hash").read_text()
    message = ours.with_suffix(f".{partition}hash.p7s")
    disk.repart(f"--join-signature={root_hash}:{message}", f"--certificate={files.chain}")
    assert disk.signature == ours.with_suffix(".verity-sig.json").read_bytes()
    assert "signed" in protections(disk.path, partition, newer_systemd)


def test_attach_writes_the_json_of_a_signature_from_elsewhere(files, tmp_path):
    data = write(tmp_path / "data.raw", noise(8 * BLOCK))
    salt = ("--salt", "00" * 32, "--partition", "usr")
    key = ("--key", files.key, "--cert", files.chain)
    wanted = ("--partition", "usr", "--verity-sig-json")
    done = cli("verity", "sign", data, *key, *salt, "--verity-sig-json", "--quiet")
    assert done.exit_code == 0, done.err
    known = (tmp_path / "data.verity-sig.json").read_bytes()
    (tmp_path / "data.verity-sig.json").unlink()
    (tmp_path / "data.usrhash.p7s").unlink()
    request = tmp_path / "request"
    done = cli("verity", "prepare", data, "--cert", files.chain, "-o", request, *salt)
    assert done.exit_code == 0, done.err

    message = "root-hash-1.txt"
    openssl(
        "dgst", "-sha256", "-sign", str(files.key), "-out", f"{message}.sig", message, cwd=request
    )
    done = cli("verity", "attach", request, data, *wanted)
    assert done.exit_code == 0, done.err
    assert (tmp_path / "data.verity-sig.json").read_bytes() == known
    assert (tmp_path / "data.usrhash.p7s").exists()


def test_no_name_for_the_json_of_standard_input(files, tmp_path):
    names = ("hash", "--root-hash-file", "root", "--signature", "sig")
    done = cli(
        *("verity", "sign", "-", *names, "--key", files.key, "--cert", files.chain),
        "--verity-sig-json",
    )
    assert done.exit_code == 2
    assert "needs the name of DATA" in done.err
