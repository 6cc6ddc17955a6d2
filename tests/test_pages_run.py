"""README.md and docs/*.md: what they say to type, typed in their order, page by page."""

import copy
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from container_images import GZIP
from helpers import DMSIGN, program
from images import push_image
from pages import BLOCKS, COMMANDS, with_values
from pki import make_intermediate, make_leaf, make_root
from registry_server import RegistryServer

from dmsign_fast.oci.descriptor import Descriptor
from dmsign_fast.oci.layout import Layout
from dmsign_fast.oci.registry import Registry

NODE = "needs root on a node with dm-verity; tests/kernel opens devices so"
BOOTED = "changes the running kernel; tests/kernel boots one"
CLOUD = "needs a vault or KMS; tests/signing has both on the loopback"
INSTALLS = "installs; make does"
TOKEN = "needs the token release; tests/signing/test_pkcs11.py has one"
TAKES_LONG = "is a target of make, or minutes of measuring"
SYNOPSIS = "a synopsis: the name stands for what the reader has"
OWN_TEST = "runs in a test of its own"
ONLY_PARSED = {  # by page, or everywhere, and how the command begins: why it does not run here
    ("", "make "): TAKES_LONG,
    ("", "modprobe|keyctl|mount|umount|ctr |.*keyctl"): BOOTED,
    ("", "dmsign-fast (mount|umount) "): NODE,
    ("", "dmsign-fast verity (open|close|status) |veritysetup open "): NODE,
    ("", "pipx? install|python3 -m venv"): INSTALLS,
    ("", "dmsign-fast .*pkcs11:|softhsm2-util"): TOKEN,
    ("", "dmsign-fast (sign .*|plugin .*-)(azure-kv|aws-kms)|aws "): CLOUD,
    ("docs/providers.md", "dmsign-fast plugin describe"): CLOUD,
    ("", "dmsign-fast login "): "asks for a password; tests/oci/test_login.py types it",
    ("docs/chain.md", ""): f"{OWN_TEST}: test_chain_page.py",
    ("docs/ci.md", ""): f"{OWN_TEST}: test_ci_page.py",
    ("docs/two-steps.md", "for |dmsign-fast attach"): f"{OWN_TEST}: cli/test_offline_commands.py",
    ("docs/providers.md", "printf|openssl|cat"): f"{OWN_TEST}: signing/test_aws_kms.py",
    ("docs/providers.md", "notation sign"): f"{OWN_TEST}: cli/test_notation_plugin.py",
    ("docs/ipe.md", "cat |echo "): BOOTED,
    ("docs/node.md", "dmsign-fast doctor --cert"): NODE,
    ("docs/performance.md", "python|pytest|dmsign-fast benchmark"): TAKES_LONG,
    ("", "dmsign-fast .* /dev/mapper/"): NODE,
}


def reason(command):
    if command.synopsis:
        return SYNOPSIS
    return next(
        (
            why
            for (page, begins), why in ONLY_PARSED.items()
            if page in ("", command.page) and re.match(begins, command.text)
        ),
        None,
    )


RUN = [command for command in COMMANDS if reason(command) is None]


def tar_of_a_layer() -> bytes:
    """With the file that explain.md proves, and the bytes that it asks about."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add("/usr/bin/env", "usr/bin/env", filter=plain)
        member = tarfile.TarInfo("usr/lib/data")
        member.size = 6 << 20
        tar.addfile(member, io.BytesIO(bytes(range(256)) * (member.size // 256)))
    return buffer.getvalue()


def plain(member):
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def environment(place) -> dict[str, str]:
    kept = ("PATH", "LANG", "PYTHONDONTWRITEBYTECODE")
    said = {name: os.environ[name] for name in kept if name in os.environ}
    said["PATH"] = f"{place}/bin:{said['PATH']}:/usr/sbin:/sbin"
    return said | {"HOME": str(place), "XDG_CONFIG_HOME": f"{place}/config", "LC_ALL": "C"}


def shell(place, line):
    return subprocess.run(
        [program("bash"), "-euo", "pipefail", "-c", line],
        check=False,
        cwd=place,
        env=environment(place),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


FILES = {  # of a signer, by the names that the pages have for them
    "root.pem": ("root-ca.pem", "acme-root.pem", "ca.pem"),
    "leaf.pem": ("signer.pem", "cert.pem"),
    "key.pem": ("policy-key.pem",),
    "chain.pem": ("policy-chain.pem", "second-chain.pem"),
}
DEVICES = (
    "head -c 65536 /dev/urandom > DATA",
    "cp DATA image.raw",
    "dmsign-fast verity sign DATA HASH --key key.pem --cert chain.pem",
    "dmsign-fast layer convert layer.tar.gz -o image.erofs --verity none",
    "dmsign-fast verity sign image.erofs --recipe containerd --key key.pem --cert chain.pem",
    "cp image.erofs.verity image.verity",
    "cp image.erofs.roothash image.roothash; cp image.erofs.roothash.p7s image.roothash.p7s",
)
POLICY = (
    "dmsign-fast cert add --type ca --store page root.pem",
    "dmsign-fast policy init --name page --trust-store ca:page --trusted-identity '*'",
    "dmsign-fast sign app:1.0 --key key.pem --cert chain.pem",
)
CONFIRMED = {  # where a person is asked first
    r"dmsign-fast policy (init|import) ": "--force",
    r"dmsign-fast (cert|key) delete ": "--yes",
}
FROM_NOTHING = ("README.md", "docs/keys.md")  # pages that make keys and policy themselves


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """What readers have: a key and its chain, an image, a layer, devices, a policy, a registry."""
    place = tmp_path_factory.mktemp("prepared")
    make_leaf(make_intermediate(make_root())).write(place)
    post_quantum = make_leaf(make_root(), key="ML-DSA-65").write(place / "ml-dsa")
    shutil.copy(post_quantum.key, place / "ml-dsa.pem")
    shutil.copy(post_quantum.chain, place / "ml-dsa-chain.pem")
    for name, others in FILES.items():
        for other in others:
            shutil.copy(place / name, place / other)
    tool = place / "bin" / "dmsign-fast"
    tool.parent.mkdir()
    code = DMSIGN[2].replace("'", '"')
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    tool.chmod(0o755)
    push_image(Layout.create(place / "image"), "1.0")
    layer = gzip.compress(tar_of_a_layer(), 1)
    (place / "layer.tar.gz").write_bytes(layer)
    Layout(place / "image").push(Descriptor.of(layer, GZIP), layer)
    with RegistryServer() as server:
        for seed, name in enumerate(("app:1.0", "app:1.1", "web:2.1")):
            repository, tag = name.split(":")
            server.repository(repository)
            with Registry(f"{server.host}/{repository}") as store:
                push_image(store, tag, seed)
                store.push(Descriptor.of(layer, GZIP), layer)
        for line in (*DEVICES, *POLICY):
            done = shell(place, line.replace("app:", f"{server.host}/app:"))
            assert done.returncode == 0, done.stderr
        yield place, server, copy.deepcopy(server.repositories)


@pytest.fixture
def place(prepared, tmp_path):
    """A copy of it."""
    whole, server, repositories = prepared
    server.repositories = copy.deepcopy(repositories)
    shutil.copytree(whole, tmp_path / "place")
    return tmp_path / "place", server


def values(place, server):
    root_hash = (place / "image.roothash").read_text()
    return {
        "REF": f"{server.host}/app:1.0",
        "ROOT_HASH": root_hash,
        "registry.example": server.host,
        "sha256:...": f"sha256:{root_hash}",
        "localhost:5000/app/web": f"{server.host}/app",
        "sha256:99ce...": Descriptor.of((place / "layer.tar.gz").read_bytes(), GZIP).digest,
    }


PRINTED = {  # and what stands for it in the lines behind
    r"^Root hash:\s+([0-9a-f]{64})$": ("ROOT_HASH",),
    r"^Hash offset:\s+(\d+)$": ("884736",),
}


BEFORE = """
from pathlib import Path
from dmsign_fast import *
recipe = Recipe.parse("containerd")
signer = open_signer("file:key.pem", KeyOptions(certificates=Path("chain.pem")))
options, trust = SignOptions(recipe=recipe), trust_files(load_trust_anchors(Path("root.pem")))
verify_options = VerifyOptions(recipe=recipe, trust=trust)
"""
NEEDED = {  # by the Python of a page, besides that: what its text speaks of
    "docs/export.md": """
store = Registry(HOST + "/app")
""",
    "docs/fleet.md": """
references, recipes = [HOST + "/app:1.1", HOST + "/web:2.1"], [recipe]
""",
    "docs/node.md": """
certificates = signer.certificate_chain
signature = Path("image.roothash.p7s").read_bytes()
root_hash = bytes.fromhex(Path("image.roothash").read_text())
""",
}
PYTHON = [one for one in BLOCKS if one.language == "python" and one.page != "docs/python.md"]


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"{block.page}:{block.line}")
def test_the_python_of_a_page_runs(place, block):
    directory, server = place
    server.requests.clear()
    code = with_values(block.text, values(directory, server))
    script = f"HOST = {server.host!r}{BEFORE}{NEEDED.get(block.page, '')}{code}"
    (directory / "page.py").write_text(script)
    done = shell(directory, f"{sys.executable} page.py")
    assert done.returncode == 0, done.stderr
    if "sign_fleet(" in code:  # which raises nothing for an image that fails
        assert {"/v2/app/", "/v2/web/"} <= {path[:8] for path in server.paths("PUT")}


def test_no_page_has_python_that_is_not_run():
    assert {block.page for block in PYTHON} >= NEEDED.keys()
    assert [b for b in BLOCKS if b.language == "" and re.match("(from|import) ", b.text)] == []


PAGES = sorted({command.page for command in RUN})


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_says_to_type_does_what_it_should(place, page):
    directory, server = place
    known = values(directory, server)
    if page in FROM_NOTHING:
        shutil.rmtree(directory / "config")
    for command in RUN:
        if command.page != page:
            continue
        line = with_values(command.text, known)
        line += "".join(f" {word}" for begin, word in CONFIRMED.items() if re.match(begin, line))
        if made := re.search("^dmsign-fast prepare .* -o (\\S+)", line):
            shutil.rmtree(directory / made[1], ignore_errors=True)  # of an example before
        done = shell(directory, line)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        for pattern, names in PRINTED.items():
            if said := re.search(pattern, done.stdout, re.MULTILINE):
                known |= dict.fromkeys(names, said[1])


def test_what_does_not_run_has_a_reason_that_still_stands():
    for page, begins in ONLY_PARSED:
        lines = [c for c in COMMANDS if page in ("", c.page) and re.match(begins, c.text)]
        assert lines, f"nothing on {page or 'any page'} begins with {begins}"
    assert len(RUN) > 60
