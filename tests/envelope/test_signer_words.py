"""What people read of signers who are not believed: who signed, whom they trust, what to do."""

import subprocess

import pki
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from helpers import program, write

from dmsign_fast.envelope.pkcs7 import sign_root_hash, verify_root_hash
from dmsign_fast.envelope.trust import TrustAnchors
from dmsign_fast.errors import SigningError, VerificationError
from dmsign_fast.signing.certificates import _USAGES, usage_name
from dmsign_fast.signing.local import load_local_signer

ROOT_HASH = bytes(range(32))
LIBRARY = ("encountered processing", "<Certificate", "candidates", "validation failed", "OID")


def said(signer, *trusted, certificates=True, at=None, home=None):
    files = signer.write(home)
    at = at or pki.NOW
    local = load_local_signer(files.key, files.chain, at=at)
    signature = sign_root_hash(ROOT_HASH, local, certificates=certificates, at=at)
    with pytest.raises(VerificationError) as refused:
        verify_root_hash(signature, ROOT_HASH, TrustAnchors(trusted))
    for word in LIBRARY:
        assert word not in str(refused.value)
    return str(refused.value)


def test_who_signed_and_whom_one_trusts(tmp_path):
    root = pki.make_root("Acme Root")
    signer = pki.make_leaf(pki.make_intermediate(root, "Acme CA"), "Acme Signer")
    other = pki.make_root("Other Root").certificate
    line = said(signer, other, home=tmp_path)
    assert (
        line == "signed by CN=Acme Signer under CN=Acme Root, not trusted; you trust CN=Other Root"
    )
    many = [pki.make_root(f"R{number}").certificate for number in range(5)]
    assert "you trust CN=R0, CN=R1, CN=R2 and 2 more" in said(signer, *many, home=tmp_path)
    serial = f"{signer.certificate.serial_number:x}"
    line = said(signer, other, certificates=False, home=tmp_path)
    assert f"the serial number {serial}, not trusted; you trust CN=Other Root" in line
    assert "give that certificate" in line
    alone = pki.make_leaf(None, "Alone")
    assert "signed by CN=Alone, not trusted; you trust CN=Other Root" in said(
        alone, other, home=tmp_path
    )


def test_certificates_of_another_time_or_for_something_else(tmp_path):
    root = pki.make_root("Acme Root", start=pki.NOW - 9 * pki.DAY)
    late = pki.make_expired_leaf(root)
    line = said(late, root.certificate, at=pki.NOW - 3 * pki.DAY, home=tmp_path)
    assert "CN=Test Signer expired on" in line
    assert "sign with one that is valid" in line
    early = pki.make_leaf(root, start=pki.NOW + pki.DAY, end=pki.NOW + 3 * pki.DAY)
    line = said(early, root.certificate, at=pki.NOW + 2 * pki.DAY, home=tmp_path)
    assert "is not valid before" in line
    assert "check the clock" in line
    tls = pki.make_leaf(root, extensions=((x509.ExtendedKeyUsage([Eku.SERVER_AUTH]), False),))
    files = tls.write(tmp_path)
    local = load_local_signer(files.key, files.chain)
    with pytest.raises(SigningError, match=r"lacks codeSigning \(Code Signing\); have one issued"):
        sign_root_hash(ROOT_HASH, local)


def test_usages_are_called_what_openssl_calls_them(tmp_path):
    """``openssl`` takes the first name in a configuration, and prints the second."""
    simple = [usage for usage in _USAGES if isinstance(usage, str)]
    written = {True: [], False: []}
    for usage in _USAGES:
        written[usage in simple].append(usage_name(usage).partition(" ")[0])
    config = write(
        tmp_path / "config",
        f"[req]\ndistinguished_name=n\nprompt=no\nx509_extensions=e\n[n]\nCN=x\n[e]\n"
        f"keyUsage={','.join(written[True])}\nextendedKeyUsage={','.join(written[False])}\n".encode(),
    )
    made = tmp_path / "made"
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    words += ["-keyout", "/dev/null", "-config", config, "-out", made]
    subprocess.run([program("openssl"), "req", *words], check=True, capture_output=True)
    shown = subprocess.run(
        [program("openssl"), "x509", "-in", made, "-noout", "-ext", "keyUsage,extendedKeyUsage"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for usage in _USAGES:
        assert usage_name(usage).partition(" ")[2].strip("()") in shown
    certificate = x509.load_pem_x509_certificate(made.read_bytes())
    usages = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert all(getattr(usages, usage) for usage in simple)
