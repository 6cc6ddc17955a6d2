"""Sign and verify from the command line, against openssl, and what is refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import Done, cli, dmsign, flip, noise, program, run, write
from pki import Files, make_intermediate, make_leaf, make_root

KEYS = ("RSA-2048", "EC-256")


@dataclass(frozen=True)
class Signed:
    """An image.raw, what sign made of it, and the PKI's files."""

    directory: Path
    files: Files
    done: Done

    def __getattr__(self, suffix):
        return self.directory / f"image.{suffix}"

    @property
    def roothash(self):
        return self.directory / "image.roothash"

    @property
    def p7s(self):
        return self.directory / "image.roothash.p7s"

    def verify(self, *more, cert=None, root_hash=None, signature=None):
        root = (root_hash,) if root_hash else ("--root-hash-file", self.roothash)
        return cli(
            *("verity", "verify", self.raw, self.verity, *root),
            *("--signature", signature or self.p7s, "--cert", cert or self.files.root, *more),
        )


@pytest.fixture(scope="module", params=KEYS)
def leaf(request):
    return make_leaf(make_intermediate(make_root()), key=request.param)


@pytest.fixture
def signed(leaf, tmp_path):
    return signed_by(leaf, tmp_path)


def signed_by(leaf, directory, *more):
    files = leaf.write(directory / "pki")
    data = write(directory / "image.raw", noise(300 * 4096))
    done = cli("verity", "sign", data, "--key", files.key, "--cert", files.chain, *more)
    assert done.exit_code == 0, done.err
    return Signed(directory, files, done)


def openssl(signed, command, *more, anchors=None):
    return run(
        *(program("openssl"), command, "-verify", "-binary", "-inform", "DER", "-in", signed.p7s),
        *("-content", signed.roothash, "-CAfile", anchors or signed.files.root),
        *("-purpose", "any", *more),
    )


def test_three_files_have_the_names_that_systemd_looks_for(signed):
    names = {path.name for path in signed.directory.iterdir()} - {"pki"}
    assert names == {"image.raw", "image.verity", "image.roothash", "image.roothash.p7s"}
    assert signed.roothash.read_text() == signed.done.root_hash.hex()
    assert signed.done.field("Signer") == "CN=Test Signer"
    assert signed.done.field("Signature file") == str(signed.p7s)


@pytest.mark.parametrize("command", ["smime", "cms"])
def test_openssl_accepts_the_signature(command, signed):
    done = openssl(signed, command)
    assert done.exit_code == 0, done.err
    assert done.out == signed.done.root_hash.hex()
    write(signed.roothash, noise(32).hex().encode())
    assert openssl(signed, command).exit_code != 0


def test_our_verify_accepts_it_and_names_the_signer(signed):
    done = signed.verify()
    assert done.exit_code == 0, done.err
    assert done.field("Signed by") == "CN=Test Signer"


def test_the_signer_alone_may_be_the_anchor(signed):
    assert signed.verify(cert=signed.files.leaf).exit_code == 0


@pytest.mark.parametrize("command", ["smime", "cms"])
def test_certificates_can_be_left_out(command, leaf, tmp_path):
    signed = signed_by(leaf, tmp_path, "--no-certs")
    assert openssl(signed, command).exit_code != 0
    chain = signed.files.chain
    done = openssl(signed, command, "-certfile", chain, anchors=chain)
    assert done.exit_code == 0, done.err
    assert signed.verify(cert=signed.files.leaf).exit_code == 0
    refused = signed.verify()
    assert refused.exit_code == 1
    assert "give that certificate as a trust anchor" in refused.err


def test_a_larger_digest_can_be_asked_for(tmp_path):
    signed = signed_by(make_leaf(make_root(), key="RSA-2048"), tmp_path, "--digest", "sha512")
    done = signed.verify("--output", "json")
    assert json.loads(done.out)["signature"]["scheme"].endswith("sha512")


def assert_refused(done, *words):
    assert done.exit_code == 1
    assert "Signed by" not in done.out
    assert "Verified" not in done.out
    for word in words:
        assert word in done.err


def test_an_anchor_that_did_not_issue_it_is_refused(signed, tmp_path):
    other = make_root("Other Root").write(tmp_path / "other")
    assert_refused(signed.verify(cert=other.root), "not trusted")
    both = write(tmp_path / "both", other.root.read_bytes() + signed.files.root.read_bytes())
    assert signed.verify(cert=both).exit_code == 0
    assert signed.verify("--cert", other.root).exit_code == 0


def test_a_signature_of_another_root_hash_is_refused(signed):
    made = cli("verity", "format", signed.raw, signed.verity, "--salt", "-")
    done = signed.verify(root_hash=made.root_hash.hex())
    assert_refused(done, "not over this root hash")


def test_a_signature_of_other_bytes_is_refused(signed):
    content = signed.p7s.read_bytes()
    write(signed.p7s, content[:-1] + bytes([content[-1] ^ 1]))
    assert_refused(signed.verify(), "signature")


def test_corrupt_data_with_a_good_signature_is_corrupt(signed):
    flip(signed.raw, 70_000)
    done = signed.verify()
    assert_refused(done, "1 data block(s)")
    assert "data block 17," in done.out


def test_corrupt_data_and_a_bad_signature_are_both_reported(signed, tmp_path):
    flip(signed.raw, 70_000)
    other = make_root("Other Root").write(tmp_path / "other")
    done = signed.verify(cert=other.root)
    assert_refused(done, "1 data block(s)", "the signature is refused too", "not trusted")
    assert "data block 17," in done.out
    value = json.loads(signed.verify("--output", "json", cert=other.root).out)
    assert not value["verified"]
    assert [bad["first_block"] for bad in value["bad"]] == [17]
    assert value["signature"]["error"] == "VerificationError"


def test_a_bad_signature_of_good_data_says_so_in_json(signed, tmp_path):
    other = make_root("Other Root").write(tmp_path / "other")
    done = signed.verify("--output", "json", cert=other.root)
    value = json.loads(done.out)
    assert (done.exit_code, value["verified"], value["bad"]) == (1, False, [])
    assert "not trusted" in value["signature"]["message"]


def test_signature_and_anchor_go_together(signed):
    for option in (("--signature", signed.p7s), ("--cert", signed.files.root)):
        command = ("verity", "verify", signed.raw, signed.verity, signed.roothash.read_text())
        done = cli(*command, *option)
        assert done.exit_code == 2
        assert "go together" in done.err


def test_what_is_signed_again_with_the_same_options_is_the_same(tmp_path):
    options = ("--salt", "00", "--uuid", "3f3d53fd-0038-4c72-a5f0-0d4802e76b45")
    leaf = make_leaf(make_root(), key="RSA-2048")
    signed = signed_by(leaf, tmp_path, *options)
    before = [path.read_bytes() for path in (signed.verity, signed.roothash, signed.p7s)]
    signed_by(leaf, tmp_path, *options)
    assert [path.read_bytes() for path in (signed.verity, signed.roothash, signed.p7s)] == before


def test_a_tree_can_be_appended_and_signed(leaf, tmp_path):
    data = write(tmp_path / "image.raw", noise(300 * 4096))
    files = leaf.write(tmp_path / "pki")
    offset = ("--hash-offset", 300 * 4096)
    done = cli("verity", "sign", data, data, "--key", files.key, "--cert", files.chain, *offset)
    assert done.exit_code == 0, done.err
    verified = cli(
        *("verity", "verify", data, data, "--root-hash-file", tmp_path / "image.roothash"),
        *("--signature", tmp_path / "image.roothash.p7s", "--cert", files.root, *offset),
    )
    assert verified.exit_code == 0, verified.err


def test_data_from_a_pipe_is_signed_under_names_that_are_given(leaf, tmp_path):
    files = leaf.write(tmp_path / "pki")
    done = dmsign(
        *("verity", "sign", "-", "h", "--root-hash-file", "r", "--signature", "s"),
        *("--key", files.key, "--cert", files.chain),
        input=noise(8192),
        cwd=tmp_path,
    )
    assert done.exit_code == 0, done.err
    assert {path.name for path in tmp_path.iterdir()} == {"pki", "h", "r", "s"}


def test_a_serial_number_of_zero(tmp_path):
    """As one in 200 of notation's test certificates has; cryptography warns of each."""
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    usage = ("-addext", "keyUsage=critical,digitalSignature", "-set_serial", "0")
    made = run(
        *(program("openssl"), "req", *words, *usage, "-subj", "/CN=Zero"),
        *("-keyout", key, "-out", cert, "-days", "9"),
    )
    assert made.exit_code == 0, made.err
    data = write(tmp_path / "data", noise(8192))
    done = dmsign("verity", "sign", data, "--key", key, "--cert", cert, "--quiet")
    assert (done.exit_code, done.err) == (0, "")
    cli_done = cli(
        *("verity", "verify", data, f"{data}.verity", "--root-hash-file", f"{data}.roothash"),
        *("--signature", f"{data}.roothash.p7s", "--cert", cert, "--quiet"),
    )
    assert (cli_done.exit_code, cli_done.err) == (0, "")
