"""Keys in PKCS#12 files: those that openssl writes, every encryption, and what is no such file."""

import subprocess

import pki
import pytest
from asn1crypto import pkcs12 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from helpers import cli, dmsign, noise, program, write

from dmsign_fast.errors import FormatError, SigningError
from dmsign_fast.signing.file_kinds import is_pkcs12
from dmsign_fast.signing.local import load_local_signer
from dmsign_fast.signing.scheme import pkcs7_scheme
from dmsign_fast.signing.signer import check_raw_signature

SECRET = "Pass phrase 42 é"
LEGACY = (
    "-legacy",
    ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
    ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-RC2-40", "-legacy"),
)


@pytest.fixture(scope="module")
def leaf():
    return pki.make_leaf(pki.make_intermediate(pki.make_root()))


@pytest.fixture
def files(leaf, tmp_path):
    return leaf.write(tmp_path / "pki")


def export(files, *options, secret=SECRET, more=None):
    """What ``openssl pkcs12 -export`` makes."""
    out = files.key.with_name("made.p12")
    more = ("-in", files.leaf, "-certfile", files.bundle) if more is None else more
    words = ["pkcs12", "-export", "-inkey", files.key, *more, "-passout", "env:SECRET"]
    subprocess.run(
        [program("openssl"), *map(str, (*words, *options, "-out", out))],
        check=True,
        capture_output=True,
        env={"SECRET": secret, "PATH": "/usr/bin:/bin"},
    )
    return out


def load(path, secret=SECRET):
    return load_local_signer(path, None, secret.encode)


def serialized(entity, encryption):
    return pkcs12.serialize_key_and_certificates(
        b"name", entity.key, entity.certificate, entity.above, encryption
    )


def assert_signs(signer, leaf):
    assert signer.certificate_chain == leaf.chain
    scheme = pkcs7_scheme(signer.key_spec)
    signature = signer.sign(b"message", scheme)
    check_raw_signature(leaf.certificate, b"message", signature, scheme)


@pytest.mark.parametrize("options", [(), ("-macalg", "sha512"), ("-keypbe", "AES-128-CBC")])
def test_what_openssl_writes(options, files, leaf):
    assert_signs(load(export(files, *options)), leaf)


@pytest.mark.parametrize("kind", pki.KEY_SPECS)
def test_every_kind_of_key(kind, tmp_path):
    entity = pki.make_leaf(pki.make_root(), key=kind)
    data = serialized(entity, BestAvailableEncryption(SECRET.encode()))
    assert_signs(load(write(tmp_path / "key.pfx", data)), entity)


@pytest.mark.parametrize("order", [1, -1])
def test_certificates_in_any_order(order, leaf, tmp_path):
    above = leaf.above[::order]
    data = pkcs12.serialize_key_and_certificates(
        None, leaf.key, leaf.certificate, above, NoEncryption()
    )
    assert_signs(load(write(tmp_path / "key.p12", data)), leaf)


@pytest.mark.parametrize(
    "options", [(), ("-keypbe", "NONE", "-certpbe", "NONE"), ("-nomac", "-keypbe", "NONE")]
)
def test_no_passphrase_is_asked_for_where_none_is_needed(options, files, leaf):
    if options:
        options = (*options, "-certpbe", "NONE")
    made = export(files, *options, secret="")
    assert_signs(load_local_signer(made, None), leaf)


@pytest.mark.parametrize("options", LEGACY, ids=["default", "3DES", "RC2"])
def test_old_encryptions_are_read_and_a_message_says_how_to_leave_them(options, files, leaf):
    made = export(files, *([options] if isinstance(options, str) else options))
    assert_signs(load(made), leaf)  # by the OpenSSL of this cryptography
    with pytest.raises(SigningError, match=r"wrong passphrase for .* or its old encr") as bad:
        load(made, "wrong")
    command = str(bad.value).partition("certificates: ")[2].replace("NEW", f"{made}.new")
    subprocess.run(
        [*command.split(), "-passin", "env:SECRET", "-passout", "env:SECRET"],
        check=True,
        env={"SECRET": SECRET, "PATH": "/usr/bin:/bin"},
    )
    made = made.with_name("made.p12.new.pem")
    assert b"ENCRYPTED PRIVATE KEY" in made.read_bytes()
    assert_signs(load(made), leaf)


@pytest.mark.parametrize("secret", ["wrong", "", SECRET + " ", "Pass phrase 42 e"])
def test_a_wrong_passphrase(secret, files):
    with pytest.raises(SigningError, match=r"wrong passphrase for .*: give the right") as bad:
        load(export(files), secret)
    assert SECRET not in str(bad.value)
    assert bad.value.__context__ is None or "ValueError" not in repr(bad.value.__cause__)
    with pytest.raises(SigningError, match="is encrypted; give its passphrase"):
        load_local_signer(export(files), None)


def test_certificates_given_beside_it_count_instead(files, leaf):
    other = pki.make_leaf(pki.make_root("Other"), key_name="Test Signer")
    other = pki.Entity(leaf.key, other.certificate, other.above)
    chain = other.write(files.key.parent / "other").chain
    found = load_local_signer(export(files), chain, SECRET.encode)
    assert found.certificate_chain[-1] == other.root
    made = export(files, more=("-nocerts",))
    assert load_local_signer(made, files.chain, SECRET.encode).certificate_chain == leaf.chain
    with pytest.raises(SigningError, match="holds no certificate: give its certificate with --ce"):
        load(made)


def test_without_a_key(files):
    out = files.key.with_name("certificates.p12")
    words = ["pkcs12", "-export", "-nokeys", "-in", files.leaf, "-passout", "pass:x", "-out", out]
    subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True)
    with pytest.raises(FormatError, match="PKCS#12 without a private key"):
        load(out, "x")


def test_a_kind_of_key_that_is_not_read_from_it(files, monkeypatch):
    """As of ML-DSA by openssl 3.5, for which cryptography 50 has another ValueError."""

    def refused(_data, passphrase):
        raise ValueError("Invalid password" if passphrase is None else "unexpected tag")

    made = export(files)
    monkeypatch.setattr(pkcs12, "load_pkcs12", refused)
    with pytest.raises(SigningError, match=r"made\.p12: only keys of RSA and ECDSA are read"):
        load(made)


def test_a_key_of_another_certificate(files, tmp_path):
    other = pki.make_leaf(pki.make_root("Other"), "Another").write(tmp_path / "other")
    with pytest.raises(SigningError, match="wrong key for the certificate"):
        load_local_signer(export(files), other.chain, SECRET.encode)


def test_damage_is_malformed_or_a_wrong_passphrase_and_never_a_crash(leaf, tmp_path):
    good = serialized(leaf, BestAvailableEncryption(SECRET.encode()))
    for at in (*range(64), *range(64, len(good), 97)):
        for changed in (good[:at], good[:at] + bytes([good[at] ^ 0x21]) + good[at + 1 :]):
            with pytest.raises((FormatError, SigningError)):
                load(write(tmp_path / "odd.p12", changed))


@pytest.mark.parametrize("place", ["mac", "encryption"])
def test_the_work_is_bounded(place, leaf, tmp_path):
    """A passphrase of 2^31 iterations would take minutes."""
    encryption = (
        PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1000)
        .hmac_hash(hashes.SHA256())
        .build(SECRET.encode())
    )
    pfx = asn1.Pfx.load(serialized(leaf, encryption))
    if place == "mac":
        pfx["mac_data"]["iterations"] = 1 << 31
    else:
        safe = pfx.authenticated_safe
        info = safe[0]["content"]["encrypted_content_info"]["content_encryption_algorithm"]
        info["parameters"]["key_derivation_func"]["parameters"]["iteration_count"] = 1 << 31
        pfx["auth_safe"]["content"] = safe.dump(force=True)
    made = write(tmp_path / "slow.p12", pfx.dump(force=True))
    assert is_pkcs12(made.read_bytes())
    with pytest.raises(FormatError, match=r"[0-9]+ iterations"):
        load(made)


def test_other_files_are_none(files, leaf):
    for path in (files.key, files.chain):
        assert not is_pkcs12(path.read_bytes())
    assert not is_pkcs12(pki.der(leaf.certificate))
    assert not is_pkcs12(b"")


def test_commands(files, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTATION_CONFIG", str(tmp_path / "notation"))
    made, data = export(files), write(tmp_path / "data", noise(8192))
    secret = write(tmp_path / "secret", f"{SECRET}\n".encode())
    options = ("--passphrase-file", secret, "--output", "json")
    done = cli("verity", "sign", data, "--key", made, *options)
    assert done.exit_code == 0, done.err
    assert "CN=Test Signer" in done.out
    done = cli("verity", "sign", data, "--key", f"file:{made}", *options)
    assert done.exit_code == 0, done.err
    done = cli("key", "add", "release", "--key", made, "--passphrase-file", secret, "--default")
    assert done.exit_code == 0, done.err
    environment = {"SECRET": SECRET, "NOTATION_CONFIG": str(tmp_path / "notation")}
    done = dmsign("verity", "sign", data, "--passphrase-env", "SECRET", environment=environment)
    assert done.exit_code == 0, done.err
    done = cli("verity", "sign", data, "--key", made, "--passphrase-env", "NOT_SET")
    assert (done.exit_code, SECRET in done.err) == (5, False)
    done = cli("key", "add", "bare", "--key", files.key)
    assert (done.exit_code, "--cert" in done.err) == (2, True), done.err


def test_a_key_and_its_certificates_in_one_pem_need_no_option(files, tmp_path):
    both = write(tmp_path / "both.pem", files.key.read_bytes() + files.chain.read_bytes())
    data = write(tmp_path / "data", noise(8192))
    assert cli("verity", "sign", data, "--key", both).exit_code == 0


def test_pkcs12_is_no_file_of_certificates(files, tmp_path):
    made = export(files)
    done = cli("verify", "--oci-layout", f"{tmp_path}:v1", "--trust", made)
    assert done.exit_code == 3
    assert "it is PKCS#12: openssl pkcs12 -nokeys" in done.err
