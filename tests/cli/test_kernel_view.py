"""``verity verify`` with our rules and with Linux's alone, and ``doctor`` on the same."""

import json

import pki
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from helpers import cli, noise, write
from helpers_pkcs7 import sign

SERVER = ((x509.ExtendedKeyUsage((ExtendedKeyUsageOID.SERVER_AUTH,)), False),)


@pytest.fixture
def image(tmp_path):
    """DATA with its tree and root hash, and the file for a signature."""
    data = write(tmp_path / "image", noise(4 * 4096))
    root_hash = tmp_path / "image.roothash"
    done = cli("verity", "format", data, f"{data}.verity", "--root-hash-file", root_hash)
    assert done.exit_code == 0
    return data


def verify(data, cert, *options):
    return cli(
        *("verity", "verify", data, f"{data}.verity", "--root-hash-file", f"{data}.roothash"),
        *("--signature", f"{data}.roothash.p7s", "--cert", cert, *options),
    )


def put(data, signature):
    write(data.with_name("image.roothash.p7s"), signature)


def signed(image, entity, monkeypatch):
    """Sign as a tool without our rules does."""
    monkeypatch.setattr("dmsign_fast.envelope.pkcs7.usage_problem", lambda _: None)
    root_hash = bytes.fromhex(image.with_name("image.roothash").read_text())
    made = sign(root_hash, entity)
    monkeypatch.undo()
    put(image, made)
    return made


def test_a_certificate_of_a_tls_server(image, tmp_path, monkeypatch):
    root = pki.make_root()
    entity = pki.make_leaf(root, "www.example.com", extensions=SERVER)
    signed(image, entity, monkeypatch)
    cert = entity.write(tmp_path / "pki").root
    ours = verify(image, cert)
    assert ours.exit_code == 1
    assert "extended key usage lacks codeSigning" in ours.err
    linux = verify(image, cert, "--kernel-view")
    assert linux.exit_code == 0
    assert "CN=www.example.com" in linux.out
    verdict = json.loads(verify(image, cert, "--kernel-view", "--output", "json").out)
    assert verdict["signature"]["outcome"] == "accepted"
    done = cli("doctor", "--signature", f"{image}.roothash.p7s", "--cert", cert)
    assert done.exit_code == 0
    assert done.field("Linux") == "accepted"
    assert "lacks codeSigning" in done.field("dmsign-fast")


def test_bytes_behind_the_der(image, tmp_path, monkeypatch):
    """Linux takes them; doctor says so, verify does not, and open is not in the way."""
    entity = pki.make_leaf()
    put(image, signed(image, entity, monkeypatch) + b"junk")
    cert = entity.write(tmp_path / "pki").leaf
    assert verify(image, cert).exit_code == 3
    assert verify(image, cert, "--kernel-view").exit_code == 0
    done = cli("doctor", "--signature", f"{image}.roothash.p7s", "--cert", cert)
    assert done.field("Linux") == "accepted"
    assert "4 bytes follow" in done.field("dmsign-fast")
    assert cli("verity", "open", image, "name", "--dry-run").exit_code == 0


def test_what_linux_refuses_is_refused_in_its_view_too(image, tmp_path, monkeypatch):
    entity = pki.make_leaf()
    signed(image, entity, monkeypatch)
    other = pki.make_leaf(name="Other").write(tmp_path / "pki").leaf
    done = verify(image, other, "--kernel-view")
    assert done.exit_code == 1
    assert "refused ENOKEY" in done.err
    done = cli("verity", "verify", image, f"{image}.verity", "ab" * 32, "--kernel-view")
    assert done.exit_code == 2


def test_a_changed_block_is_found_in_either_view(image, tmp_path, monkeypatch):
    entity = pki.make_leaf()
    signed(image, entity, monkeypatch)
    write(image, noise(4 * 4096, 7))
    cert = entity.write(tmp_path / "pki").leaf
    assert verify(image, cert, "--kernel-view").exit_code == 1
