"""What each command imports at its start, counted: time would depend on the machine.

docs/performance.md says what the imports cost. A module is in a list here because the command works
without it; what a list forbids is imported where it is used.
"""

import sys
from importlib import import_module

import pytest
from container_images import push_image
from helpers import run
from pki import make_intermediate, make_leaf, make_root, pem

from dmsign_fast.oci.layout import Layout

# For anything but the commands that sign or verify signatures.
CRYPTOGRAPHY = {"asn1crypto", "cbor2", "cryptography", "pyhanko_certvalidator"}
# Half of what a command that hashes a small file would take, if it imported them.
SLOW = {
    *("ast", "bz2", "concurrent", "dataclasses", "difflib", "email", "hashlib", "http", "inspect"),
    *("json", "logging", "lzma", "numpy", "random", "shutil", "socket", "subprocess", "tarfile"),
    *("tempfile", "threading", "tokenize", "traceback", "tqdm"),
}
# What plain hashing of a layer uses of them.
OF_LAYERS = {*("ast", "bz2", "dataclasses", "hashlib", "inspect", "lzma", "random", "shutil")} | {
    *("tempfile", "threading", "tokenize"),
}
# What a registry needs, a layout that is a tar, services that keep keys, and what nobody may need.
FOR_OTHERS = {
    *("azure", "boto3", "botocore", "http", "numpy", "oras", "pkcs11", "requests"),
    *("ssl", "tarfile", "tqdm", "urllib3"),
}


def loaded_by(*arguments):
    """Names of the modules that a command has imported when it ends, and their packages."""
    script = (
        "import sys\nfrom dmsign_fast.cli import main\n"
        f"status = main({list(map(str, arguments))!r})\n"
        "print(*sys.modules, file=sys.stderr)\nsys.exit(status)"
    )
    done = run(sys.executable, "-c", script)
    assert done.exit_code == 0, done.err
    names = set(done.err.splitlines()[-1].split())
    return names | {name.partition(".")[0] for name in names}


def commands_of(names):
    """Commands among the names, and commands of several commands."""
    below = {name.partition(".cli.")[2] for name in names if name.startswith("dmsign_fast.cli.")}
    modules = {name: import_module(f"dmsign_fast.cli.{name}") for name in below}
    return {name for name, module in modules.items() if hasattr(module, "HELP")}


@pytest.fixture
def tree(tmp_path):
    """Arguments for a small file, its hash area, and the root hash."""
    data, hashes, root = tmp_path / "data", tmp_path / "hashes", tmp_path / "root"
    data.write_bytes(bytes(4096))
    arguments = ("verity", "format", data, hashes, "--root-hash-file", root, "--quiet")
    return arguments, data, hashes, root


def test_verity_format(tree):
    loaded = loaded_by(*tree[0])
    assert not loaded & (SLOW | CRYPTOGRAPHY)
    assert commands_of(loaded) == {"verity", "verity.format"}
    assert len(loaded) <= 120, "110 with Python 3.11, 112 with 3.13"


def test_verity_verify_and_dump(tree):
    arguments, data, hashes, root = tree
    loaded_by(*arguments)
    verify = loaded_by("verity", "verify", data, hashes, root.read_text(), "--quiet")
    assert not verify & (SLOW | CRYPTOGRAPHY)
    assert commands_of(verify) == {"verity", "verity.verify"}
    dump = loaded_by("verity", "dump", hashes, "--quiet")
    assert not dump & (SLOW | CRYPTOGRAPHY)
    assert commands_of(dump) == {"verity", "verity.dump"}


def test_layer_roothash(tmp_path):
    layer = tmp_path / "layer.tar"
    layer.write_bytes(bytes(1024))
    loaded = loaded_by("layer", "roothash", layer, "--quiet")
    assert not loaded & ((SLOW - OF_LAYERS) | CRYPTOGRAPHY)


def test_sign_and_verify_of_a_layout(tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "notation"))
    root = make_root()
    files = make_leaf(make_intermediate(root)).write(tmp_path / "pki")
    (tmp_path / "root.pem").write_bytes(pem(root.certificate))
    push_image(Layout.create(tmp_path / "layout"), "v1")
    image = ("--oci-layout", f"{tmp_path / 'layout'}:v1", "--quiet")
    sign = loaded_by("sign", *image, "--key", files.key, "--cert", files.chain)
    assert not sign & FOR_OTHERS
    assert commands_of(sign) <= {"sign", "layer", "verity"}
    verify = loaded_by("verify", *image, "--trust", tmp_path / "root.pem")
    assert not verify & FOR_OTHERS
    assert commands_of(verify) <= {"verify", "layer", "verity"}


def test_the_end_of_the_process_is_whole(tmp_path):
    """``program`` ends without Python's own end, and yet nothing that waits for it is lost."""
    script = (
        "import atexit, sys, weakref\nfrom dmsign_fast.cli import program\n"
        "class Kept: pass\nkept = Kept()\nweakref.finalize(kept, print, 'finalized', flush=True)\n"
        "atexit.register(print, 'at exit', flush=True)\n"
        f"sys.argv = ['dmsign-fast', 'verity', 'dump', {str(tmp_path / 'none')!r}]\nprogram()"
    )
    done = run(sys.executable, "-c", script)
    assert done.exit_code == 4
    assert done.err.startswith("dmsign-fast: error: cannot read")
    assert {"finalized", "at exit"} <= set(done.out.splitlines())
