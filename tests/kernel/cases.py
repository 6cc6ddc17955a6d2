"""What the kernel is to make of which image."""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Iterator
from dataclasses import replace

import pki
from helpers import flip, noise

from .images import BLOCK, BLOCKS, Case, Images, without

_RSA = ("RSA-2048", "RSA-3072", "RSA-4096")
_EC = ("EC-256", "EC-384", "EC-521")
_DIGESTS = ("sha256", "sha384", "sha512")
_PLAIN = ("smime", "-noattr", "-md", "sha256")


def make(images: Images, mutants: int, seed: int) -> Iterator[Case]:
    """Make all cases, so many of them with a signature of random damage."""
    yield images.signed("unsealed", images.trust("EC-256"), expected="ENOKEY", judged=False)
    yield from _signatures(images)
    yield from _trees(images)
    yield from _chains(images)
    yield from _damaged_images(images)
    yield from _refused_signatures(images)
    yield from _openssl_signatures(images)
    yield from _stricter(images)
    yield from _mutants(images, mutants, random.Random(seed))


def _signatures(images: Images) -> Iterator[Case]:
    algorithms = [*itertools.product(_RSA, _DIGESTS), *zip(_EC, _DIGESTS, strict=True)]
    for (key, digest), certificates in itertools.product(algorithms, ((), ("--no-certs",))):
        name = f"{key}-{digest}{'-no-certs' if certificates else ''}"
        yield images.signed(name, images.trust(key), "--digest", digest, *certificates)


def _trees(images: Images) -> Iterator[Case]:
    signer = images.trust("EC-256")
    sizes = (("4096", "4096"), ("512", "512"), ("1024", "4096"))
    salts = {"0": "-", "32": noise(32).hex(), "256": noise(256).hex()}
    for kind, (data, hashed), salt, appended in itertools.product(
        "10", sizes, salts, (False, True)
    ):
        name = f"tree-type{kind}-{data}-{hashed}-salt{salt}{'-appended' if appended else ''}"
        layout = ("--format", kind, "--data-block-size", data, "--hash-block-size", hashed)
        tree = (*layout, "--salt", salts[salt])
        # enough for two levels, or three where blocks are small
        yield images.signed(name, signer, tree=tree, blocks=270, appended=appended)
    yield images.signed("tree-one-block", signer, blocks=1)
    for algorithm in ("sha384", "sha512"):
        yield images.signed(f"tree-{algorithm}", signer, tree=("--hash", algorithm))
    for appended in (False, True):
        name = f"tree-no-superblock{'-appended' if appended else ''}"
        bare = ("--no-superblock", "--salt", salts["32"], "--data-blocks", str(BLOCKS))
        yield images.signed(name, signer, tree=bare, appended=appended)


def _chains(images: Images) -> Iterator[Case]:
    root = images.trusted["root"] = pki.make_root("Trusted Root")
    between = pki.make_intermediate(root, "Between")
    stranger = pki.make_root("Untrusted Root")
    middle = images.trusted["middle"] = pki.make_intermediate(stranger, "Trusted Middle")
    signers = {
        "root": pki.make_leaf(root, "Below Root", key="RSA-2048"),
        "between": pki.make_leaf(between, "Below Between"),
        "middle": pki.make_leaf(middle, "Below Middle"),
    }
    for name, signer in signers.items():
        yield images.signed(f"chain-{name}", signer)
    yield images.signed("chain-no-certs", signers["root"], "--no-certs", expected="ENOKEY")
    other = pki.make_leaf(stranger, "Below Stranger")
    yield images.signed("chain-untrusted", other, expected="ENOKEY")


def _damaged_images(images: Images) -> Iterator[Case]:
    signer = images.trust("EC-256")
    for size in ("4096", "512"):
        tree = ("--data-block-size", size, "--hash-block-size", size)
        case = images.signed(f"data-altered-{size}", signer, tree=tree)
        flip(case.data, 5 * int(size) + 123)
        # a page of the page cache is read in full or not at all
        yield without(case, int(size), (5,) if size == "4096" else range(8))
    case = images.signed("data-altered-first-and-last", signer)
    last = BLOCKS - 1
    flip(case.data, 0)
    flip(case.data, last * BLOCK + BLOCK - 1)
    yield without(case, BLOCK, (0, last))
    case = images.signed("data-other", signer)
    case.data.write_bytes(noise(BLOCKS * BLOCK, 9999))
    yield without(case, BLOCK, range(BLOCKS))
    tree = ("--data-block-size", "512", "--hash-block-size", "512")
    case = images.signed("hash-block-altered", signer, tree=tree, blocks=32)
    # superblock, top, then the leaf blocks of 16 digests each: this is the second
    flip(case.hash_file, 3 * 512 + 7)
    yield without(case, 512, range(16, 32))
    case = images.signed("salt-altered", signer)
    flip(case.hash_file, 88)
    yield without(case, BLOCK, range(BLOCKS))


def _refused_signatures(images: Images) -> Iterator[Case]:
    stranger = pki.make_leaf(name="Stranger", key="RSA-2048")
    yield images.signed("other-key", stranger, expected="ENOKEY")
    yield images.signed("other-key-no-certs", stranger, "--no-certs", expected="ENOKEY")

    known = images.trust("RSA-2048").certificate
    impostor = pki.make_leaf(
        name="Trusted RSA-2048", key="RSA-2048", key_name="2", serial=known.serial_number
    )
    yield images.signed("impostor", impostor, expected="ENOKEY")
    yield images.signed("impostor-no-certs", impostor, "--no-certs", expected="EKEYREJECTED")

    for key in ("RSA-2048", "RSA-4096", *_EC):
        signer = images.trust(key)
        # of RSA the padding is then wrong, before any digest is compared
        error = "EINVAL" if key in _RSA else "EKEYREJECTED"
        case = images.signed(f"signature-altered-{key}", signer, expected=error)
        flip(case.signature, case.signature.stat().st_size - 1)
        yield case

    signer = images.trust("EC-256")
    case = images.signed("signature-of-other", signer, expected="EKEYREJECTED")
    other = images.signed("signature-of-other-source", signer)
    case.signature.write_bytes(other.signature.read_bytes())
    yield from (case, other)

    # no longer the signer's, but still named as its own issuer: Linux wants that to be true
    case = images.signed("embedded-serial-altered", signer, expected="EKEYREJECTED")
    certificate = case.signature.read_bytes().index(pki.der(signer.certificate))
    flip(case.signature, certificate + 20)
    yield case

    case = images.signed("signature-truncated", signer, expected="EBADMSG")
    case.signature.write_bytes(case.signature.read_bytes()[:-1])
    yield case
    case = images.signed("signature-missing", signer, expected="ENOKEY", judged=False)
    case.signature.unlink()
    yield case
    case = images.signed("signature-pem", signer, expected="EBADMSG")
    text = base64.encodebytes(case.signature.read_bytes())
    case.signature.write_bytes(b"-----BEGIN PKCS7-----\n%b-----END PKCS7-----\n" % text)
    yield case


def _openssl_signatures(images: Images) -> Iterator[Case]:
    """Signatures that dmsign-fast does not make, by openssl."""
    yield images.by_openssl("openssl", *_PLAIN)
    yield images.by_openssl("openssl-attributes", "cms", "-nosmimecap", "-md", "sha256")
    yield images.by_openssl("smime-capabilities", "smime", "-md", "sha256", expected="EKEYREJECTED")
    yield images.by_openssl("not-detached", *_PLAIN, "-nodetach", expected="EBADMSG")
    pss = ("cms", "-noattr", "-md", "sha256", "-keyopt", "rsa_padding_mode:pss")
    yield images.by_openssl("pss", *pss, expected="ENOPKG")
    slips = {
        "newline": lambda text: text + b"\n",
        "upper-case": bytes.upper,
        "raw-bytes": lambda text: bytes.fromhex(text.decode()),
    }
    for name, slip in slips.items():
        yield images.by_openssl(name, *_PLAIN, slip=slip, expected="EKEYREJECTED")


def _stricter(images: Images) -> Iterator[Case]:
    """What Linux takes and dmsign-fast, on purpose, does not."""
    yield images.by_openssl("stricter-sha1", "smime", "-noattr", "-md", "sha1", stricter=True)
    signers = {
        "expired": pki.make_expired_leaf(name="Expired"),
        "usage": pki.make_no_signature_leaf(name="Not for signatures"),
        "v1": pki.make_v1_leaf(images.directory / "v1", images.trust("EC-256")),
    }
    images.trusted |= signers
    issuer = images.trusted["not-a-ca"] = pki.make_not_a_ca(pki.make_root("Anyone"))
    signers["issuer-not-a-ca"] = pki.make_leaf(issuer, "Below Not A CA")
    for name, signer in signers.items():
        yield images.by_openssl(f"stricter-{name}", *_PLAIN, signer=signer, stricter=True)


def _mutants(images: Images, count: int, chance: random.Random) -> Iterator[Case]:
    """Signatures with one random byte changed: nobody knows, but we must not be laxer."""
    for number in range(count):
        signer = images.trust(chance.choice(("RSA-2048", "EC-256")))
        case = images.signed(f"mutant-{number}", signer, blocks=1)
        position = chance.randrange(case.signature.stat().st_size)
        flip(case.signature, position, chance.randrange(1, 256))
        yield replace(case, expected="")
