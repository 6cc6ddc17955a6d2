"""``ipe policy``, ``sign``, ``check`` and ``show``; openssl judges what is signed."""

import json
import os
import subprocess
from pathlib import Path

import pki
import pytest
from container_images import push_image
from helpers import cli, program, write
from signed_images import LEAF, STRANGER, sign

from dmsign_fast.envelope.signed_content import MAX_MESSAGE
from dmsign_fast.erofs.recipe import Recipe
from dmsign_fast.node.ipe.state import denials
from dmsign_fast.node.system import System
from dmsign_fast.oci.layout import Layout
from dmsign_fast.processes import Finished

HASH = "ab" * 32
NAMED = ("--name", "only-signed", "--version", "1.0.0")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return LEAF.write(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "only-signed.ipe"
    assert cli("ipe", "policy", *NAMED, "--out", path).exit_code == 0
    return path


@pytest.fixture
def image(tmp_path):
    layout = Layout.create(tmp_path / "layout")
    push_image(layout, "v1")
    sign(layout, "v1")
    return f"{layout.path}:v1"


def test_a_policy_says_what_room_is_left(tmp_path):
    done = cli("ipe", "policy", *NAMED, "--revoke", HASH, "--initramfs", "--strict")
    assert done.exit_code == 0
    assert done.out.startswith("policy_name=only-signed policy_version=1.0.0\nDEFAULT action=DENY")
    assert f"op=KMODULE dmverity_roothash=sha256:{HASH} action=DENY" in done.out
    assert "rules with a root hash, are left" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--root-hashes",), "go together"),
        (("--revoke", "abc"), "no root hash"),
        (("--name", "a/b"), "cannot be called"),
        (("--version", "1.0"), "is not A.B.C"),
    ],
)
def test_usage(options, words):
    done = cli("ipe", "policy", *NAMED, *options)
    assert (done.exit_code, words in done.err) == (2, True)


def test_openssl_verifies_what_is_signed(policy, keys, tmp_path):
    done = cli("ipe", "sign", policy, "--key", keys.key, "--cert", keys.chain, "--output", "json")
    assert done.exit_code == 0
    said = json.loads(done.out)
    signed = policy.with_name("only-signed.ipe.p7b")
    assert said["size"] == signed.stat().st_size == MAX_MESSAGE - said["size_left"]
    openssl = [program("openssl"), "smime", "-verify", "-binary", "-inform", "DER", "-purpose"]
    shown = subprocess.run(
        [*openssl, "any", "-in", signed, "-CAfile", keys.root],
        capture_output=True,
        check=True,
    )
    assert shown.stdout == policy.read_bytes()
    done = cli("ipe", "check", signed, "--cert", keys.root, "--root-hash", HASH)
    assert done.exit_code == 0
    assert f"EXECUTE          sha256:{HASH}, signed: ALLOW (line 4: " in done.out
    assert f"EXECUTE          sha256:{HASH}, unsigned: DENY (the default)" in done.out
    other = write(tmp_path / "other.pem", pki.pem(STRANGER.certificate))
    assert cli("ipe", "check", signed, "--cert", other).exit_code == 1
    assert cli("ipe", "check", signed).exit_code == 0


def test_openssl_signs_the_same(policy, tmp_path):
    files = pki.make_leaf(name="RSA", key="RSA-2048").write(tmp_path / "rsa")
    done = cli("ipe", "sign", policy, "--key", files.key, "--cert", files.leaf)
    assert done.exit_code == 0
    assert done.out.startswith("Policy:         only-signed ")
    form = ("-nodetach", "-noattr", "-nosmimecap", "-binary", "-md", "sha256", "-outform", "der")
    key = ("-signer", files.leaf, "-inkey", files.key)
    made = subprocess.run(
        [program("openssl"), "smime", "-sign", *form, *key, "-in", policy],
        capture_output=True,
        check=True,
    )
    assert made.stdout == policy.with_name("only-signed.ipe.p7b").read_bytes()


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda data: data.replace(b"TRUE", b"FALS"), 1, "not over this content"),
        (lambda data: data + b"\0", 3, ""),
        (lambda data: data[:-1], 3, ""),
        (lambda data: data.replace(b"ALLOW\n", b"ALLOX\n", 1), 1, ""),
    ],
)
def test_what_was_changed_is_refused(change, status, words, policy, keys):
    cli("ipe", "sign", policy, "--key", keys.key, "--cert", keys.chain)
    signed = policy.with_name("only-signed.ipe.p7b")
    signed.write_bytes(change(signed.read_bytes()))
    done = cli("ipe", "check", signed, "--cert", keys.root)
    assert (done.exit_code, words in done.err) == (status, True)


def test_forms_of_openssl_that_linux_takes_or_we_refuse(policy, keys, tmp_path):
    def signed(*options):
        path = tmp_path / "by-openssl.p7b"
        command = [program("openssl"), "smime", "-sign", "-binary", "-outform", "der", *options]
        command += ["-signer", keys.leaf, "-inkey", keys.key, "-in", policy, "-out", path]
        subprocess.run(command, check=True, capture_output=True)
        done = cli("ipe", "check", path, "--cert", keys.leaf)
        return done.exit_code, done.err

    assert signed("-nodetach", "-noattr")[0] == 0
    assert signed("-nodetach", "-nosmimecap")[0] == 0
    assert signed("-nodetach", "-noattr", "-nocerts")[0] == 0
    assert signed("-noattr")[0] == 3  # detached
    assert signed("-nodetach")[0] == 1  # S/MIME capabilities
    assert signed("-nodetach", "-noattr", "-md", "sha1")[0] == 1


def test_a_second_signer_is_refused(policy, keys, tmp_path):
    other = STRANGER.write(tmp_path / "other")
    path = tmp_path / "two.p7b"
    command = [program("openssl"), "smime", "-sign", "-binary", "-outform", "der", "-nodetach"]
    for files in (keys, other):
        command += ["-signer", files.leaf, "-inkey", files.key]
    subprocess.run(
        [*command, "-noattr", "-in", policy, "-out", path], check=True, capture_output=True
    )
    for trust in ((), ("--cert", keys.leaf), ("--cert", keys.leaf, "--cert", other.leaf)):
        done = cli("ipe", "check", path, *trust)
        assert (done.exit_code, "2 signers" in done.err) == (3, True)


def test_what_is_in_the_kernel_and_in_its_log(image, keys, tmp_path, monkeypatch):
    def executed(command):
        out = f"0 24 verity 1 7:1 7:0 4096 4096 3 1 sha256 {root} 00\n"
        return Finished(0, (LOG if command == ("dmesg",) else out).encode(), b"", 0)

    place = ("--oci-layout", "--trust", keys.root, "--output", "json")
    allowed = cli("ipe", "policy", image, "--root-hashes", *NAMED, *place)
    named = json.loads(allowed.out)["allowed"][0]
    root = named["root_hash"].partition(":")[2]
    monkeypatch.setattr(System, "running", lambda: System(tmp_path / "node", executed))
    (tmp_path / "node").mkdir()
    done = cli("ipe", "show")
    assert (done.exit_code, "run as root" in done.err) == (4, True)
    policies = tmp_path / "node/sys/kernel/security/ipe/policies/only-signed"
    policies.mkdir(parents=True)
    write(policies.parent.parent / "enforce", b"1")
    for name, text in (("active", "1\n"), ("version", "1.0.0"), ("policy", "policy_name=a\n")):
        write(policies / name, text.encode())
    (tmp_path / "node/sys/block/dm-0/dm").mkdir(parents=True)
    write(tmp_path / "node/sys/block/dm-0/dm/name", b"layer\n")
    done = cli("ipe", "show", image, *place[:-2])
    assert done.exit_code == 0, done.err
    assert "IPE: enforcing\nonly-signed 1.0.0: active\n    policy_name=a\n" in done.out
    assert "denied: EXECUTE (BPRM_CHECK) /tmp/hello of tmpfs by sh: DEFAULT op" in done.out
    assert f"dm-0 is now sha256:{root}, layer {named['layer']} of {named['image']}" in done.out
    (said,) = json.loads(cli("ipe", "show", "--last", "1", "--output", "json").out)["denials"]
    assert (said["path"], said["enforced"], said["layer"]) == ("/a b", False, None)


def test_only_a_policy_is_signed(keys, tmp_path):
    path = write(tmp_path / "policy", b"policy_name=a\n")
    done = cli("ipe", "sign", path, "--key", keys.key, "--cert", keys.chain)
    assert (done.exit_code, "line 1" in done.err) == (3, True)
    assert not path.with_name("policy.p7b").exists()


def test_layers_of_verified_images_alone(image, keys, tmp_path):
    place = ("--oci-layout", "--trust", keys.root, "--output", "json")
    done = cli("ipe", "policy", image, "--root-hashes", *NAMED, *place)
    assert done.exit_code == 0, done.err
    hashes = [one["root_hash"] for one in json.loads(done.out)["allowed"]]
    assert hashes
    text = json.loads(done.out)["policy"]
    for one in hashes:
        assert f"op=EXECUTE dmverity_roothash={one} dmverity_signature=TRUE action=ALLOW" in text
    done = cli("ipe", "policy", *NAMED, "--revoke", image, *place)
    assert json.loads(done.out)["revoked"] == list(dict.fromkeys(hashes))
    other = write(tmp_path / "other.pem", pki.pem(STRANGER.certificate))
    for options in ((image, "--root-hashes"), ("--revoke", image)):
        done = cli("ipe", "policy", *options, *NAMED, "--oci-layout", "--trust", other)
        assert (done.exit_code, done.out) == (1, "")


def test_doctor_says_whether_this_node_takes_an_image(image, keys, tmp_path, monkeypatch):
    root = tmp_path / "node"
    config = root / "etc/containerd/config.toml"
    config.parent.mkdir(parents=True)

    (tmp_path / "bin").mkdir()
    mkfs = write(tmp_path / "bin/mkfs.erofs", b"")
    mkfs.chmod(0o755)
    monkeypatch.setenv("PATH", str(mkfs.parent), prepend=os.pathsep)
    monkeypatch.setattr(System, "running", lambda: System(root, lambda _: Finished(1, b"", b"", 0)))

    def finding(setting, version="1.8.6", trust=keys.root, where=()):
        mkfs.write_text(f"#!/bin/sh\necho 'mkfs.erofs (erofs-utils) {version}'\n")
        config.write_text(
            f'[plugins."io.containerd.snapshotter.v1.erofs"]\n{setting} = true\n'
            '[plugins."io.containerd.differ.v1.erofs"]\n'
            'mkfs_options = ["-T0", "--mkfs-time", "--sort=none"]\n'
        )
        place = ("--oci-layout", "--trust", trust, "--for-image", image, *where)
        done = cli("doctor", *place, "--output", "json")
        named = [one for one in json.loads(done.out)["findings"] if one["name"].startswith("image")]
        return named[0]["state"], named[0]["evidence"]

    assert "passes no signature" in finding("other")[1]
    state, evidence = finding("enable_dmverity_referrers")
    assert (state, "no artifact of the form acl" in evidence) == ("problem", True)
    layout = Layout(Path(image.rpartition(":")[0]))
    with layout:
        sign(layout, "v1", forms=("osguard",))
    recipe = Recipe.parse("containerd")
    signed_by = recipe.mkfs_version
    assert finding("require_signatures", signed_by)[0] == "ok"
    other = next(
        one for one in ("1.8.6", "1.9.4") if one not in Recipe.parse("containerd").mkfs_versions
    )
    state, evidence = finding("require_signatures", other)
    assert (state, f"this node makes images by containerd@{other}" in evidence) == ("problem", True)
    assert finding("require_signatures", where=("--root", root))[0] == "unknown"
    stranger = write(tmp_path / "other.pem", pki.pem(STRANGER.certificate))
    assert finding("require_signatures", signed_by, trust=stranger)[0] == "problem"


LOG = """\
[    8.1] audit: type=1420 audit(1.1:5): ipe_op=EXECUTE ipe_hook=BPRM_CHECK enforcing=1 pid=9 \
comm="sh" path="/tmp/hello" dev="tmpfs" ino=12 rule="DEFAULT op=EXECUTE action=DENY"
[    8.2] audit: type=1421 audit(1.1:6): policy_name="a"
type=IPE_ACCESS msg=audit(1.2:7): ipe_op=EXECUTE ipe_hook=MMAP enforcing=0 pid=9 comm=6120622271 \
path=2F612062 dev="dm-0" ino=3 rule="op=EXECUTE dmverity_roothash="sha256:"AB01 action=DENY"
"""


def test_denials_are_read_with_nested_quotes_and_hex():
    first, second = denials(LOG)
    assert (first.path, first.device, first.program) == ("/tmp/hello", "tmpfs", "sh")
    assert first.rule == "DEFAULT op=EXECUTE action=DENY"
    assert (second.path, second.program, second.enforced) == ("/a b", 'a b"q', False)
    assert second.rule == "op=EXECUTE dmverity_roothash=sha256:ab01 action=DENY"
