"""Ours against the openssl program, both ways."""

import pytest
from helpers_pkcs7 import OpenSSL, sign, verify
from pki import KEY_SPECS, make_intermediate, make_leaf, make_root

from dmsign_fast.envelope.linux import root_hash_message
from dmsign_fast.errors import FormatError, VerificationError

CASES = [(spec, None) for spec in KEY_SPECS] + [("RSA-2048", "sha384"), ("RSA-4096", "sha512")]
OPENSSL_DIGEST = {"EC-384": "sha384", "EC-521": "sha512"}


@pytest.fixture
def openssl(tmp_path):
    return OpenSSL(tmp_path)


@pytest.fixture(scope="module")
def message(root_hash):
    return root_hash_message(root_hash)


def leaf_of(spec):
    return make_leaf(make_intermediate(make_root()), key=spec)


@pytest.mark.parametrize("certificates", [True, False])
@pytest.mark.parametrize(("spec", "digest"), CASES)
def test_openssl_takes_ours(spec, digest, certificates, root_hash, message, openssl):
    leaf = leaf_of(spec)
    signature = sign(root_hash, leaf, digest=digest, certificates=certificates)
    options = ("-certfile", str(leaf.write(openssl.directory).chain))
    for program in ("smime", "cms"):
        done = openssl.verify(program, signature, message, leaf, *(() if certificates else options))
        assert done.returncode == 0, done.stderr
        assert done.stdout == message
    for other in (message + b"\n", message.upper(), b"0" + message[1:]):
        assert openssl.verify("cms", signature, other, leaf, *options).returncode != 0


@pytest.mark.parametrize("program", ["smime", "cms"])
@pytest.mark.parametrize(("spec", "digest"), CASES)
def test_ours_takes_openssls(program, spec, digest, root_hash, message, openssl):
    leaf = leaf_of(spec)
    digest = digest or OPENSSL_DIGEST.get(spec, "sha256")
    bundle = str(leaf.write(openssl.directory).bundle)
    embedded = openssl.sign(program, message, leaf, "-noattr", "-md", digest, "-certfile", bundle)
    verdict = verify(embedded, root_hash, leaf.root)
    assert (verdict.key_spec, verdict.embedded, len(verdict.path)) == (spec, 3, 3)
    assert verdict.scheme.endswith(digest)
    bare = openssl.sign(program, message, leaf, "-noattr", "-md", digest, "-nocerts")
    assert verify(bare, root_hash, *leaf.chain).embedded == 0


def test_ours_is_what_openssl_writes_but_for_the_order_of_certificates(root_hash, message, openssl):
    leaf = leaf_of("RSA-2048")
    made = openssl.sign("smime", message, leaf, "-noattr", "-md", "sha256")
    alone = make_leaf(key="RSA-2048")
    assert sign(root_hash, alone) == openssl.sign(
        "smime", message, alone, "-noattr", "-md", "sha256"
    )
    assert (
        len(made)
        > len(sign(root_hash, leaf, certificates=False))
        == len(openssl.sign("smime", message, leaf, "-noattr", "-md", "sha256", "-nocerts"))
    )


def test_signed_attributes_without_capabilities_are_checked(root_hash, message, openssl):
    leaf = leaf_of("EC-256")
    options = ("-nosmimecap", "-certfile", str(leaf.write(openssl.directory).bundle))
    signature = openssl.sign("cms", message, leaf, *options)
    verdict = verify(signature, root_hash, leaf.root)
    assert verdict.signed_attributes
    assert verdict.signing_time.endswith("+00:00")
    with pytest.raises(VerificationError, match="not over this root hash"):
        verify(signature, root_hash[::-1], leaf.root)
    newline = openssl.sign("cms", message + b"\n", leaf, *options)
    with pytest.raises(VerificationError, match="and a newline"):
        verify(newline, root_hash, leaf.root)


@pytest.mark.parametrize(
    ("program", "options", "error", "reason"),
    [
        ("smime", ["-noattr", "-nodetach"], FormatError, "holds its content"),
        ("cms", ["-noattr", "-nodetach"], FormatError, "holds its content"),
        ("smime", [], VerificationError, "S/MIME capabilities"),
        ("cms", [], VerificationError, "S/MIME capabilities"),
        ("smime", ["-noattr", "-md", "sha1"], VerificationError, "sha1 .* is not allowed"),
        ("smime", ["-noattr", "-md", "md5"], VerificationError, "no digest MD5"),
        ("smime", ["-noattr", "-md", "sha224"], VerificationError, "sha224 .* is not allowed"),
        ("cms", ["-noattr", "-keyid"], FormatError, "-keyid"),
        (
            "cms",
            ["-noattr", "-keyopt", "rsa_padding_mode:pss"],
            VerificationError,
            "no signature algorithm RSA-PSS",
        ),
        ("cms", ["-noattr", "-econtent_type", "1.2.3.4"], FormatError, "version 1|id-data"),
    ],
)
def test_ours_refuses(program, options, error, reason, root_hash, message, openssl):
    leaf = make_leaf(key="RSA-2048")
    signature = openssl.sign(program, message, leaf, *options)
    with pytest.raises(error, match=reason):
        verify(signature, root_hash, leaf.certificate)


@pytest.mark.parametrize("form", ["PEM", "SMIME"])
def test_text_is_refused_with_the_way_to_convert(form, root_hash, message, openssl):
    leaf = make_leaf()
    signature = openssl.sign("smime", message, leaf, "-noattr", form=form)
    with pytest.raises(FormatError, match="openssl pkcs7 -in FILE -outform DER"):
        verify(signature, root_hash, leaf.certificate)


def test_a_curve_with_another_hash_is_refused(root_hash, message, openssl):
    leaf = make_leaf(key="EC-384")
    signature = openssl.sign("cms", message, leaf, "-noattr", "-md", "sha256")
    with pytest.raises(VerificationError, match="allowed is ecdsa-sha384"):
        verify(signature, root_hash, leaf.certificate)


def test_of_two_signers_one_must_be_trusted(root_hash, message, openssl):
    leaf, second = make_leaf(), make_leaf(name="second")
    files = second.write(openssl.directory / "second")
    more = ("-signer", str(files.leaf), "-inkey", str(files.key))
    signature = openssl.sign("cms", message, leaf, "-noattr", *more)
    for trusted in (leaf, second):
        assert verify(signature, root_hash, trusted.certificate).signers == 2
    with pytest.raises(VerificationError, match="not trusted"):
        verify(signature, root_hash, make_leaf(name="third").certificate)


@pytest.mark.parametrize(
    ("slip", "reason"),
    [
        (lambda text: text + b"\n", "and a newline"),
        (bytes.upper, "in upper case"),
        (lambda text: bytes.fromhex(text.decode()), "raw bytes"),
        (lambda text: text + b"\r\n", "not over this root hash"),
        (lambda text: b"", "not over this root hash"),
    ],
)
def test_a_slip_in_the_message_is_named(slip, reason, root_hash, message, openssl):
    leaf = make_leaf()
    signature = openssl.sign("smime", slip(message), leaf, "-noattr")
    with pytest.raises(VerificationError, match=reason):
        verify(signature, root_hash, leaf.certificate)


def test_a_missing_program_fails_the_test_with_the_way_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="apt install openssl"):
        OpenSSL(tmp_path).sign("cms", b"", make_leaf())
