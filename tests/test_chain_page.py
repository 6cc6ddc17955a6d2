"""docs/chain.md: every line is pasted into a shell, and makes the chain that the page describes."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cryptography import x509
from helpers import DMSIGN, cli, program
from images import push_image

from dmsign_fast.oci.layout import Layout

PAGE = Path(__file__).parent.parent / "docs" / "chain.md"
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)
BLOCKS = [textwrap.dedent(block) for block in INDENTED.findall(PAGE.read_text()) if block.strip()]


@pytest.fixture(scope="module")
def pasted(tmp_path_factory):
    """The directory after all lines, and what they printed."""
    program("openssl")
    place = tmp_path_factory.mktemp("chain")
    tool = place / "bin" / "dmsign-fast"
    tool.parent.mkdir()
    code = DMSIGN[2].replace("'", '"')
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
    tool.chmod(0o755)
    environment = {
        "PATH": f"{tool.parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "XDG_CONFIG_HOME": str(place / "config"),
    }
    done = subprocess.run(
        [program("bash"), "-e"],
        input="".join(BLOCKS),
        check=False,
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return place, done.stdout


def test_all_lines_run(pasted):
    place, said = pasted
    assert len(BLOCKS) == 5
    made = {"root.pem", "root.der", "chain.pem", "key.pem", "data.roothash.p7s"}
    assert made <= {path.name for path in place.iterdir()}
    assert re.search(r"^Linux: +accepted$", said, re.MULTILINE), said
    for name in ("root.key", "key.pem"):
        assert (place / name).stat().st_mode & 0o777 == 0o600


def test_the_certificates_are_as_the_table_says(pasted):
    place, _ = pasted
    signer, root = x509.load_pem_x509_certificates((place / "chain.pem").read_bytes())

    def of(certificate, kind):
        found = certificate.extensions.get_extension_for_class(kind)
        return found.critical, found.value

    critical, constraints = of(root, x509.BasicConstraints)
    assert (critical, constraints.ca, constraints.path_length) == (True, True, 0)
    assert of(signer, x509.BasicConstraints)[1].ca is False
    critical, usage = of(root, x509.KeyUsage)
    assert (critical, usage.key_cert_sign, usage.digital_signature) == (True, True, False)
    critical, usage = of(signer, x509.KeyUsage)
    assert (critical, usage.key_cert_sign, usage.digital_signature) == (True, False, True)
    extended = of(signer, x509.ExtendedKeyUsage)[1]
    assert list(extended) == [x509.oid.ExtendedKeyUsageOID.CODE_SIGNING]
    issuer = of(signer, x509.AuthorityKeyIdentifier)[1].key_identifier
    assert issuer == of(root, x509.SubjectKeyIdentifier)[1].digest


def test_an_image_is_signed_and_verified_with_it(pasted, tmp_path, monkeypatch):
    place, _ = pasted
    for name in ("NOTATION_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    push_image(Layout.create(tmp_path / "image"), "1.0")
    image = ("--oci-layout", f"{tmp_path}/image:1.0")
    done = cli("sign", *image)
    assert done.exit_code == 0, done.err
    done = cli("verify", *image, "--scope", "local/app", "--deep")
    assert done.exit_code == 0, done.err


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("keyUsage = critical,digitalSignature\n", "keyUsage = critical,keyAgreement\n"),
        ("extendedKeyUsage = codeSigning\n", "extendedKeyUsage = serverAuth\n"),
        ("authorityKeyIdentifier = keyid:always\n", "authorityKeyIdentifier = none\n"),
    ],
)
def test_what_the_table_asks_for_is_needed(pasted, tmp_path, line, why):
    """The same chain with a line of it changed signs nothing."""
    assert line in BLOCKS[1]
    place, _ = pasted
    for name in ("root.key", "root.pem", "root.srl"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    made = subprocess.run(
        [program("bash"), "-e"],
        input=BLOCKS[1].replace(line, why),
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    (tmp_path / "data").write_bytes(bytes(8192))
    keys = ("--key", tmp_path / "key.pem", "--cert", tmp_path / "chain.pem")
    done = cli("verity", "sign", tmp_path / "data", *keys)
    assert done.exit_code == 5, done.err
    assert not (tmp_path / "data.verity").exists()
