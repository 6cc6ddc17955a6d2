"""What a passphrase costs is known before it is tried: iterations that would take minutes."""

import base64
import subprocess
from typing import ClassVar

import pki
import pytest
from asn1crypto import algos, core, keys, pkcs12
from helpers import program

from dmsign_fast.errors import DmsignError, FormatError
from dmsign_fast.signing.local import load_local_signer

MANY = 20_000_000
PBMAC1 = "1.2.840.113549.1.5.14"


def openssl(*args):
    subprocess.run([program("openssl"), *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def entity():
    root = pki.make_root()
    return pki.make_leaf(root)


@pytest.fixture
def files(entity, tmp_path):
    return entity.write(tmp_path)


def load(key, files):
    return load_local_signer(key, files.chain, lambda: b"secret")


def pkcs8(files, *options):
    """The key, encrypted, in DER."""
    path = files.key.with_name("encrypted.der")
    form = ("-in", files.key, "-outform", "DER", "-out", path, "-passout", "pass:secret")
    openssl("pkcs8", "-topk8", *form, *options)
    return path


def as_pem(path):
    text = base64.encodebytes(path.read_bytes())
    label = b"ENCRYPTED PRIVATE KEY-----"
    path.write_bytes(b"-----BEGIN " + label + b"\n" + text + b"-----END " + label + b"\n")


def changed(path, change):
    """Change the key derivation of an encrypted key."""
    info = keys.EncryptedPrivateKeyInfo.load(path.read_bytes())
    change(info["encryption_algorithm"]["parameters"]["key_derivation_func"])
    path.write_bytes(info.dump(force=True))


def set_iterations(kdf, count):
    kdf["parameters"]["iteration_count"] = count


@pytest.mark.parametrize("pem", [False, True])
@pytest.mark.parametrize("options", [(), ("-scrypt",), ("-v1", "PBE-SHA1-3DES")])
def test_what_openssl_writes_is_read(options, pem, files):
    path = pkcs8(files, *options)
    if pem:
        as_pem(path)
    assert load(path, files).key_spec


@pytest.mark.parametrize("pem", [False, True])
@pytest.mark.parametrize("count", [MANY, 1 << 31, 0, -5])
def test_iterations_of_pkcs8(count, pem, files):
    path = pkcs8(files)
    changed(path, lambda kdf: set_iterations(kdf, count))
    if pem:
        as_pem(path)
    with pytest.raises(FormatError if count > 0 else DmsignError) as e:
        load(path, files)
    assert count < 0 or not count or f"{count} iterations" in str(e.value)


class Scrypt(core.Sequence):
    _fields: ClassVar = [
        ("salt", core.OctetString),
        ("cost", core.Integer),
        ("block_size", core.Integer),
        ("parallel", core.Integer),
    ]


@pytest.mark.parametrize(
    ("name", "value"), [("cost", 1 << 30), ("block_size", 1 << 20), ("parallel", 127)]
)
def test_scrypt(name, value, files):
    path = pkcs8(files, "-scrypt")

    def change(kdf):
        made = kdf["parameters"].parse(Scrypt).copy()
        made[name] = value
        kdf["parameters"] = core.Any(made)

    changed(path, change)
    with pytest.raises(FormatError, match=r"[0-9]+ iterations"):
        load(path, files)


@pytest.fixture
def pfx(files):
    """A PKCS#12 and what writes it back."""
    path = files.key.with_name("made.p12")
    form = ("-inkey", files.key, "-in", files.chain, "-out", path, "-passout", "pass:secret")
    openssl("pkcs12", "-export", *form)
    made = pkcs12.Pfx.load(path.read_bytes())

    def write():
        path.write_bytes(made.dump(force=True))
        return path

    return made, write


def test_iterations_below_none_do_not_outweigh_others(pfx, files):
    made, write = pfx
    safe = pkcs12.AuthenticatedSafe.load(made["auth_safe"]["content"].native)
    for content in safe:
        if content["content_type"].native == "data":
            bags = pkcs12.SafeContents.load(content["content"].native)
            algorithm = bags[0]["bag_value"]["encryption_algorithm"]
            set_iterations(algorithm["parameters"]["key_derivation_func"], -MANY)
            content["content"] = core.OctetString(bags.dump(force=True))
    made["auth_safe"]["content"] = core.OctetString(safe.dump(force=True))
    made["mac_data"]["iterations"] = MANY
    with pytest.raises(FormatError):
        load(write(), files)


def test_iterations_of_pbmac1(pfx, files):
    """RFC 9579: those of the MAC itself do not count."""
    made, write = pfx

    class Pbmac1(core.Sequence):
        _fields: ClassVar = [("kdf", algos.KdfAlgorithm), ("mac", algos.HmacAlgorithm)]

    kdf = {"algorithm": "pbkdf2", "parameters": algos.Pbkdf2Params()}
    kdf["parameters"]["salt"] = algos.Pbkdf2Salt("specified", core.OctetString(b"12345678"))
    kdf["parameters"]["iteration_count"] = MANY
    kdf["parameters"]["key_length"] = 32
    kdf["parameters"]["prf"] = {"algorithm": "sha256"}
    parameters = Pbmac1({"kdf": kdf, "mac": {"algorithm": "sha256"}})
    made["mac_data"]["mac"]["digest_algorithm"] = algos.DigestAlgorithm(
        {"algorithm": PBMAC1, "parameters": core.Any(parameters)}
    )
    made["mac_data"]["iterations"] = 1
    with pytest.raises(FormatError, match=f"{MANY + 1 + 2048 * 2} iterations"):
        load(write(), files)


BEGIN = b"-----BEGIN ENCRYPTED PRIVATE KEY-----"


@pytest.mark.parametrize("odd", [BEGIN + b"\nX-Y: z\n\n", BEGIN + b"\n" + BEGIN + b"\n"])
def test_no_block_is_passed_over(odd, files):
    path = pkcs8(files)
    changed(path, lambda kdf: set_iterations(kdf, MANY))
    as_pem(path)
    path.write_bytes(path.read_bytes().replace(BEGIN + b"\n", odd))
    with pytest.raises(DmsignError):
        load(path, files)


def test_blocks_without_an_end(files):
    """16 MiB of them are looked at once, and not once for each."""
    path = pkcs8(files)
    as_pem(path)
    path.write_bytes(path.read_bytes() + (BEGIN + b"\n") * 400_000)
    with pytest.raises(DmsignError):
        load(path, files)


def test_iterations_of_a_bag_in_a_bag(files):
    path = pkcs8(files)
    changed(path, lambda kdf: set_iterations(kdf, MANY))
    key = {"bag_id": "pkcs8_shrouded_key_bag"}
    key["bag_value"] = keys.EncryptedPrivateKeyInfo.load(path.read_bytes())
    bags = pkcs12.SafeContents([key])
    for _ in range(3):
        bags = pkcs12.SafeContents([{"bag_id": "safe_contents", "bag_value": bags}])
    content = {"content_type": "data", "content": core.OctetString(bags.dump())}
    safe = pkcs12.AuthenticatedSafe([content]).dump()
    auth = {"content_type": "data", "content": core.OctetString(safe)}
    path.write_bytes(pkcs12.Pfx({"version": "v3", "auth_safe": auth}).dump())
    with pytest.raises(FormatError, match=f"{MANY} iterations"):
        load(path, files)
