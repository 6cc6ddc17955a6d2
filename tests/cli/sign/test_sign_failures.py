"""What ``dmsign-fast sign`` says when it cannot, and that nothing is pushed then."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from container_images import push_artifact, push_image, push_index, tars
from helpers import DMSIGN, cli, wait_until, write
from images import layer as layer_of
from pki import make_expired_leaf, make_leaf, make_root, pem
from registry_server import cut_after, status
from sign_commands import DM_VERITY, NOTARY, assert_fails, name, types

USAGE = {
    "no tag": ("sign", "--oci-layout", "layout"),
    "a registry without a name": ("sign", "app:v1"),
    "a bad digest": ("sign", "localhost:5000/app@sha256:00"),
    "no unit": ("--expiry", "5"),
    "no time": ("--expiry", "0h"),
    "a year": ("--expiry", "1y"),
    "the past": ("--expiry", "-1h"),
    "for ever": ("--expiry", "9999999d"),
    "longer": ("--expiry", f"{'9' * 20}d"),
    "no value": ("--user-metadata", "build"),
    "no name": ("--user-metadata", "=7"),
    "twice": ("--user-metadata", "build=7", "--user-metadata", "build=8"),
    "reserved": ("--user-metadata", "io.cncf.notary.x=7"),
    "no root": ("--timestamp-url", "http://localhost:1"),
    "no url": ("--timestamp-root-cert", "tsa.pem"),
    "another scheme": ("--timestamp-url", "ftp://localhost", "--timestamp-root-cert", "tsa.pem"),
    "nothing": ("--no-dm-verity", "--no-manifest-signature"),
    "both": ("--platform", "linux/amd64", "--recursive"),
    "no recipe": ("--recipe", "podman"),
    "no version": ("--recipe", "containerd@1.4"),
    "no artifact": ("--artifact", "zip"),
    "no format": ("--signature-format", "pgp"),
    "no jobs": ("--jobs", "many"),
    "no digest": ("--digest", "sha1"),
}


@pytest.mark.parametrize("what", USAGE)
def test_usage_is_2_and_changes_nothing(what, home, key, leaf, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tsa.pem", pem(leaf.root))
    push_image(home.store, "v1", tars(1))
    before = home.contents
    wrong = USAGE[what]
    arguments = wrong if wrong[0] == "sign" else ("sign", *name(home), *wrong)
    assert_fails(cli(*arguments, *key), 2)
    assert home.contents == before


def fail(what, home, leaf, tmp_path):
    """Arguments that fail, the exit status, and words of the message."""
    files = leaf.write(tmp_path / "pki")
    key = ("--key", files.key, "--cert", files.chain)
    if what == "no image":
        push_artifact(home.store, "v1")
        return (*key,), 3, ["is no container image", "--no-dm-verity"]
    image = push_image(home.store, "v1", tars(2))
    if what == "an index":
        push_index(home.store, "v1", [(image, "linux/amd64"), (image, "linux/arm64")])
        return (*key,), 2, ["linux/amd64, linux/arm64", "--platform", "--recursive"]
    if what == "another platform":
        push_index(home.store, "v1", [(image, "linux/amd64")])
        return (*key, "--platform", "linux/riscv64"), 2, ["linux/riscv64", "it has linux/amd64"]
    if what == "a damaged layer":
        home.damage(image.layers[1], lambda data: data[:-1] + b"x")
        return (*key,), 1, [image.layers[1].digest]
    if what == "another key":
        other = make_leaf(make_root(), "Other").write(tmp_path / "other")
        return ("--key", other.key, "--cert", files.chain), 5, ["wrong key for the certificate"]
    if what == "an expired certificate":
        old = make_expired_leaf(make_root()).write(tmp_path / "old")
        return ("--key", old.key, "--cert", old.chain), 5, ["expired"]
    if what == "no root":
        return ("--key", files.key, "--cert", files.leaf), 5, ["certificates cannot sign for"]
    if what == "no key":
        return ("--key", tmp_path / "none", "--cert", files.chain), 4, ["none"]
    if what == "no authority":
        options = ("--timestamp-url", "http://127.0.0.1:1", "--timestamp-root-cert", files.root)
        return (*key, *options), 4, ["no timestamp from http://127.0.0.1:1"]
    assert what == "a key that is none"
    return ("--key", files.chain, "--cert", files.chain), 3, ["not a private key"]


@pytest.mark.parametrize("kind", ["layout", "api"])
@pytest.mark.parametrize(
    "what",
    [
        "no image",
        "an index",
        "another platform",
        "a damaged layer",
        "another key",
        "an expired certificate",
        "no root",
        "no key",
        "no authority",
        "a key that is none",
    ],
)
def test_failures_have_their_exit_status_and_push_nothing(what, kind, make_home, leaf, tmp_path):
    home = make_home(kind)
    options, exit_code, words = fail(what, home, leaf, tmp_path)
    before = home.contents
    done = cli("sign", *name(home), *options)
    assert_fails(done, exit_code, *words)
    assert done.out == ""
    assert home.contents == before


def test_what_can_be_signed_without_layers(home, key):
    artifact = push_artifact(home.store, "v1")
    assert cli("sign", *name(home), *key, "--no-dm-verity").exit_code == 0
    assert types(home, artifact) == [NOTARY]
    image = push_image(home.store, "v2", tars(1))
    assert cli("sign", *name(home, "v2"), *key, "--no-manifest-signature").exit_code == 0
    assert types(home, image) == [DM_VERITY]


def test_a_chain_without_its_root_is_enough_for_the_kernel(home, leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    image = push_image(home.store, "v1", tars(1))
    arguments = ("sign", *name(home), "--key", files.key, "--cert", files.leaf)
    assert cli(*arguments, "--no-manifest-signature").exit_code == 0
    assert types(home, image) == [DM_VERITY]


def test_a_tar_is_only_read(home, key, tmp_path):
    import tarfile

    push_image(home.store, "v1", tars(1))
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        tar.add(home.store.path, ".")
    before = (tmp_path / "layout.tar").read_bytes()
    done = cli("sign", "--oci-layout", f"{tmp_path}/layout.tar:v1", *key)
    assert_fails(done, 4, "a tar is only read")
    assert (tmp_path / "layout.tar").read_bytes() == before
    assert cli("list", "--oci-layout", f"{tmp_path}/layout.tar:v1").exit_code == 0


def test_a_registry_that_refuses(make_home, key):
    home = make_home("api")
    push_image(home.store, "v1", tars(1))
    before = home.contents
    home.server.fail("POST", "/blobs/uploads/", status(403))
    assert_fails(cli("sign", *name(home), *key), 6, "403", "that needs a login: dmsign-fast login")
    assert home.contents == before


def test_a_connection_that_breaks_and_a_busy_registry_are_no_failures(make_home, key):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", tars(2, seed=3))
    home.server.fail("GET", image.layers[0].digest, cut_after(100))
    home.server.fail("PUT", "/blobs/uploads/", status(503, Retry_After="0"))
    home.server.fail("PUT", "/manifests/", status(429, Retry_After="0"))
    done = cli("sign", *name(home), *key)
    assert done.exit_code == 0, done.err
    assert types(home, image) == [NOTARY, DM_VERITY]


# signals


EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}


class Stall:
    """Stops at a request, or in the middle of the answer, until it is let go."""

    def __init__(self, size=None):
        self.size = size
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, handler):
        if self.size:
            cut_after(self.size)(handler)
        self.reached.set()
        self.go.wait(60)
        handler.close_connection = True


@pytest.mark.parametrize("number", EXIT_CODES, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("method", "path", "jobs"),
    [
        ("GET", "layer", 1),
        ("GET", "layer", 4),
        ("GET", "half a layer", 4),
        ("PUT", "/uploads/", 1),
        ("PUT", "/manifests/", 1),
    ],
    ids=["reading", "reading four", "reading on", "pushing a blob", "pushing a manifest"],
)
def test_a_signal_at_a_registry_that_says_nothing(method, path, jobs, number, make_home, key):
    home = make_home("tag schema")
    image = push_image(home.store, "v1", [tars(1)[0], layer_of(8 << 20)])
    stall = Stall(5 << 20 if path.startswith("half") else None)
    path = image.layers[1].digest if path.endswith("layer") else path
    before = home.contents
    home.server.fail(method, path, stall)
    process = subprocess.Popen(
        [*DMSIGN, "sign", *name(home), *map(str, key), "--jobs", str(jobs)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert stall.reached.wait(60)
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        stall.go.set()
        process.kill()
        process.communicate()
    assert process.returncode == EXIT_CODES[number], err
    assert "Traceback" not in err
    assert out == ""
    assert home.store.referrers(image.descriptor) == []
    if method == "GET":
        assert home.contents == before


def test_a_signal_while_a_layer_is_hashed(home, key):
    image = push_image(home.store, "v1", [layer_of(64 << 20), *tars(1)])
    before = home.contents
    process = subprocess.Popen(
        [*DMSIGN, "sign", *name(home), *map(str, key), "--jobs", "2", "--threads", "1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DMSIGN_IMPL": "portable"},
    )
    threads = Path(f"/proc/{process.pid}/task")
    wait_until(
        lambda: process.poll() is not None or len([*threads.iterdir()]) > 2, "the first layer"
    )
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert out == ""
    assert "Traceback" not in err
    assert home.contents == before
    assert types(home, image) == []
